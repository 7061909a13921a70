"""What no step of somebody's own loop changes is named where it cannot be meant, and only there."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD, TAIL

NAME = "frozen-parameters"

LOOP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 24), nn.Linear(24, 24), nn.Linear(24, 4)
        self.aux = nn.Linear(24, 3)
    def forward(self, x):
        h = F.relu(self.a(x))
        h = F.relu(self.b(h))
        return self.c(h)
model = Net()
BEFORE
rule = torch.optim.Adam(HELD, 5e-3)
AFTER
for step, at in enumerate(batches(STEPS)):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad()
    loss.backward()
    rule.step()
    EXTRA
everything = model.parameters()
"""


def loop(
    held: str = "model.parameters()", after: str = "", before: str = "", extra: str = "pass", steps: int = 200
) -> str:
    text = LOOP.replace("HELD", held).replace("AFTER", after).replace("BEFORE", before)
    return text.replace("EXTRA", extra).replace("STEPS", str(steps))


def watched(folder: Path, body: str) -> Diagnosis:
    plain, path = folder / "alone.py", folder / "train.py"
    outputs: list[str] = []
    for each in (plain, path):
        each.write_text(HEAD + body + TAIL)
        with contextlib.redirect_stdout(io.StringIO()) as output, torch.random.fork_rng():
            if each is plain:
                runpy.run_path(str(each), run_name="__main__")
            else:
                found, status = watch_script(each, trials=0.0)
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1]
    assert found is not None
    assert (status, found.notes) == (0, [])
    return found


OTHERS = {
    "another model's": loop("Net().parameters()"),
    "made anew after": loop(after="model = Net()"),
    "cleared before the step": loop().replace("loss.backward()", "loss.backward(); rule.zero_grad()"),
    "another model's, raw": """
class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(0.3 * torch.randn(10, 4))
    def forward(self, x):
        return x @ self.w
model = Raw()
rule = torch.optim.SGD(Raw().parameters(), 0.1)
for at in batches(100):
    rule.zero_grad()
    F.cross_entropy(model(X[at]), C[at]).backward()
    rule.step()
everything = model.parameters()
""",
    "in a few steps": loop("Net().parameters()", steps=6),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_no_step_changes_is_the_cause(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, OTHERS[name])
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert found.root.evidence.value == 1.0
    assert not found.root.remedies[0].provable


SMALL = "model.c.weight.data.mul_(1e-3)"
"""A last layer that has to be trained."""

PARTLY = {
    "a layer replaced after": loop(after="model.c = nn.Linear(24, 4); " + SMALL, steps=120),
    "a layer in the middle forgotten": loop(
        "[*model.a.parameters(), *model.c.parameters()]", steps=120).replace("5e-3", "1e-4"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTLY)
def test_a_layer_that_was_left_out_by_mistake_is_named_where_the_run_suffers(
    name: str, tmp_path: Path
) -> None:
    found = watched(tmp_path, PARTLY[name])
    assert found.root is not None, str(found)
    assert NAME in found.symptoms
    finding = next(each for each in found.findings if each.symptom == NAME)
    assert finding.where.modules == (("c",) if "replaced" in name else ("b",))


HARD = "C = torch.where(torch.rand(640) < 0.7, torch.randint(4, (640,)), C)\n"
"""Labels that leave little to learn: a sound run ends far from a loss of zero."""

SOUND = {
    "everything": loop(),
    "everything, and little to learn": HARD + loop(),
    "the last layer only": HARD + loop("model.c.parameters()"),
    "the first layers held fixed": HARD + loop(before="model.a.requires_grad_(False)"),
    "unfrozen later": HARD + loop("model.c.parameters()", extra=(
        "if step == 60: rule.add_param_group({'params': [*model.a.parameters(), *model.b.parameters()]})")),
    "another optimizer for the rest": HARD + loop(
        "[*model.a.parameters(), *model.b.parameters()]",
        "other = torch.optim.SGD(model.c.parameters(), 0.01)", extra="other.step(); other.zero_grad()"),
    "the rest moved by hand": HARD + loop(
        "[*model.a.parameters(), *model.b.parameters()]",
        extra="model.c.weight.data -= 0.01 * model.c.weight.grad; model.c.weight.grad = None"),
    "a layer that nothing uses": HARD + loop().replace("self.c(h)", "(self.aux(h), self.c(h))[1]"),
    "a judge with gradients of its own": HARD + loop(
        after="judge = nn.Linear(4, 1)").replace(
        "C[at])", "C[at]) + 0.01 * judge(model(X[at])).square().mean()"),
    "a first step without a backward pass": loop(after="rule.step()"),
    "a teacher that follows": HARD + loop(
        before="model.aux = nn.Linear(24, 24).requires_grad_(False)",
        extra="with torch.no_grad(): model.aux.weight.lerp_(model.b.weight, 0.1)").replace(
        "return self.c(h)", "return self.c(h + 0.1 * self.aux(h))"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_what_may_be_meant_is_no_finding(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, SOUND[name])
    assert found.healthy, str(found)
    assert (NAME in found.symptoms) is (name == "a layer that nothing uses")  # it may have been cut off
    if NAME not in found.symptoms:
        assert NAME in dict(found.cleared) or NAME in dict(found.not_checked)


def test_a_first_layer_that_a_detach_cuts_off_is_told_and_may_be_meant(tmp_path: Path) -> None:
    found = watched(tmp_path, HARD + loop().replace("self.c(h)", "self.c(h.detach())"))
    assert found.healthy
    finding = next(each for each in found.findings if each.symptom == NAME)
    assert finding.severity == "info"
    assert finding.where.modules == ("a", "b")
    assert "No fault where it is meant" in finding.message


def test_a_layer_that_was_forgotten_is_told_where_the_run_does_well_without_it(tmp_path: Path) -> None:
    found = watched(tmp_path, loop("[*model.a.parameters(), *model.b.parameters()]", steps=400))
    finding = next(each for each in found.findings if each.symptom == NAME)
    assert finding.where.modules == ("c",)
    assert finding.severity in ("info", "warning")


def test_the_twin_whose_optimizer_has_the_model_is_healthy_and_says_so(tmp_path: Path) -> None:
    found = watched(tmp_path, loop())
    assert dict(found.cleared)[NAME] == "every parameter that counts gets a gradient and is in the optimizer"


def test_a_loop_with_a_monitor_is_told_of_a_forgotten_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(256, 6)
    y = 3 * x[:, :1] * x[:, 1:2]
    rule = torch.optim.SGD([*model[0].parameters(), *model[4].parameters()], 1e-3)
    monitor = ds.watch(model, rule)
    for _ in range(60):
        model.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        rule.step()
        monitor.step(loss)
    flow = monitor.run.facts["flow"]
    assert [(each["name"], each["why"]) for each in flow["held"]] == [("2", "left out")]
    assert flow["sure"]
    assert flow["parameters"] - flow["trained"] == sum(p.numel() for p in model[2].parameters())
    assert NAME in monitor.diagnose().symptoms


@pytest.mark.parametrize("steps", [200, 3])
def test_an_optimizer_that_never_steps_is_told(steps: int, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(HEAD + f"""
model = nn.Linear(10, 4)
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches({steps}):
    rule.zero_grad()
    F.cross_entropy(model(X[at]), C[at]).backward()
""", encoding="utf-8")  # fmt: skip
    found, status = watch_script(script, trials=0.0)
    assert status == 0
    assert (found is not None) is (steps == 200)  # three passes are no training
    if found is not None:
        assert found.root is not None
        assert (found.root.symptom, found.root.severity) == (NAME, "critical")
        assert "optimizer.step()" in str(found.root.remedies[0])
        assert not found.healthy


HIDDEN = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = KEPT
        self.head = nn.Linear(8, 4)
    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)
model = Net()
rule = torch.optim.Adam(model.parameters(), 5e-3)
for at in batches(200):
    rule.zero_grad()
    F.cross_entropy(model(X[at]), C[at]).backward()
    rule.step()
everything = model.parameters()
"""

PLAIN = "[nn.Linear(10, 12), nn.Linear(12, 8)]"


@pytest.mark.parametrize("kept", [PLAIN, f"{{'a': {PLAIN}[0], 'b': nn.Linear(12, 8)}}.values()"])
def test_layers_in_a_plain_list_are_named_with_their_share(kept: str, tmp_path: Path) -> None:
    found = watched(tmp_path, "C = C[torch.randperm(640)]\n" + HIDDEN.replace("KEPT", kept))
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert found.root.evidence.value == pytest.approx(236 / 272)
    names = found.root.where.modules
    expected = ("layers[0] (Linear 10x12)", "layers[1] (Linear 12x8)")
    assert names == (expected if kept == PLAIN else ("Linear 10x12", "Linear 12x8"))
    assert "nn.ModuleList" in str(found.root.remedies[0])


def test_parameters_in_a_plain_list_are_named(tmp_path: Path) -> None:
    kept = "[nn.Parameter(0.01 * torch.randn(10, 12)), nn.Parameter(0.01 * torch.randn(12, 8))]"
    body = HIDDEN.replace("KEPT", kept).replace("layer(x)", "x @ layer")
    found = watched(tmp_path, "C = C[torch.randperm(640)]\n" + body)
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert found.root.where.modules == ("layers[0] (Parameter 10x12)", "layers[1] (Parameter 12x8)")


LISTED = {
    "registered": HIDDEN.replace("KEPT", f"nn.ModuleList({PLAIN})"),
    "in a list beside, and registered": HIDDEN.replace("KEPT", PLAIN).replace(
        "        self.head", "        self.kept = nn.ModuleList(self.layers)\n        self.head"),
    "given to the optimizer": HIDDEN.replace("KEPT", PLAIN).replace(
        "model.parameters(), 5e-3",
        "[*model.parameters(), *(p for n in model.layers for p in n.parameters())], 5e-3"),
    "fixed features, hidden from the state": HARD + HIDDEN.replace(
        "KEPT", f"{PLAIN}; [p.requires_grad_(False) for n in self.layers for p in n.parameters()]"),
    "features of elsewhere, hidden from the state": HARD + HIDDEN.replace(
        "KEPT", f"{PLAIN}; [p.data.add_(torch.randn_like(p)) for n in self.layers for p in n.parameters()]"),
    "a teacher in a list": HARD + HIDDEN.replace("KEPT", f"nn.ModuleList({PLAIN})").replace(
        "        self.head", "        self.teacher = [nn.Linear(10, 4)]\n        self.head").replace(
        "        for layer", "        with torch.no_grad(): self.t = self.teacher[0](x)\n        for layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_layers_in_a_list_that_are_trained_or_meant_to_stay_are_no_finding(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, LISTED[name])
    assert NAME not in found.symptoms


def test_hidden_layers_of_a_run_that_does_well_without_them_are_told_and_no_fault(tmp_path: Path) -> None:
    wide = HIDDEN.replace("KEPT", "[nn.Linear(10, 256)]").replace("nn.Linear(8, 4)", "nn.Linear(256, 4)")
    found = watched(tmp_path, wide)
    assert found.healthy, str(found)
    finding = next(each for each in found.findings if each.symptom == NAME)
    assert finding.severity == "info"
    assert "No fault where it is meant" in finding.message


PARTS = """
encoder = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
decoder = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 10))
first = torch.optim.Adam(encoder.parameters(), 3e-3)
second = torch.optim.Adam(OTHER.parameters(), 3e-3)
for at in batches(300):
    first.zero_grad(); second.zero_grad()
    F.mse_loss(decoder(encoder(X[at])), X[at]).backward()
    first.step(); second.step()
everything = [*encoder.parameters(), *decoder.parameters()]
"""


def test_the_second_half_of_a_model_in_no_optimizer_is_named(tmp_path: Path) -> None:
    found = watched(tmp_path, PARTS.replace("OTHER", "encoder"))
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "warning")
    assert found.root.where.modules == ("Sequential (Linear 3x16 to Linear 16x10)",)
    assert found.root.evidence.value == pytest.approx(234 / 461)


JUDGED = """
model, judge = nn.Linear(10, 10), nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 32))
MORE
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(300):
    rule.zero_grad()
    F.mse_loss(judge(model(X[at])), judge(X[at].flip(1)).detach()).backward()
    rule.step()
everything = model.parameters()
"""
TAKEN = "for each in judge.parameters(): each.data += 0.3 * torch.randn_like(each)"
BESIDE = {
    "two halves": PARTS.replace("OTHER", "decoder"),
    "one optimizer that comes later": PARTS.replace("OTHER", "decoder").replace(
        "second = ", "second = None if True else ").replace("second.zero_grad()", "late()").replace(
        "second.step()", "second.step()").replace("for at", """
n = 0
def late():
    global second, n
    n += 1
    if n <= 100: second = torch.optim.SGD(decoder.parameters(), 0.0)
    if n == 101: second = torch.optim.Adam(decoder.parameters(), 3e-3)
    second.zero_grad()
for at"""),
    "a judge of elsewhere, its gradients never used": JUDGED.replace("MORE", TAKEN),
    "a judge of random weights": JUDGED.replace("MORE", ""),
    "a body of elsewhere, its head alone trained": HARD + """
body, head = nn.Sequential(nn.Linear(10, 64), nn.Tanh()), nn.Linear(64, 4)
rule = torch.optim.Adam(head.parameters(), 1e-2)
for at in batches(200):
    rule.zero_grad()
    F.cross_entropy(head(body(X[at])), C[at]).backward()
    rule.step()
everything = head.parameters()
""",
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_called_beside_a_model_and_meant_so_is_no_fault(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, BESIDE[name])
    assert found.healthy, str(found)
    assert (NAME in found.symptoms) is (name == "a judge of random weights")  # told, as no fault


def test_of_a_layer_that_is_held_in_part_the_rest_is_counted_too(tmp_path: Path) -> None:
    found = watched(tmp_path, loop(held="[model.c.bias]")).root
    assert found is not None
    assert found.symptom == NAME
    count = 10 * 24 + 24 + 24 * 24 + 24 + 24 * 4
    assert f"{count} of " in found.message
    assert "(a, b, part of c)" in found.message


def test_another_copy_than_the_optimizers_is_said_to_be_called(tmp_path: Path) -> None:
    found = watched(tmp_path, loop(after="import copy; model = copy.deepcopy(model)"))
    assert found.root is not None
    assert found.root.symptom == NAME
    reasons = dict(found.not_checked)
    assert reasons["dead-units"] == "the model that was called holds no parameter of the optimizer"
    assert "no forward pass" not in str(reasons.values())
