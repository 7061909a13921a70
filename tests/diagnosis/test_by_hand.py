"""Updates that a script writes out itself count as steps; scripts with an optimizer stay as they are."""

from __future__ import annotations

import contextlib
import gc
import io
import runpy
from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as torch_module

from downslope.diagnosis.audience import Audience
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.hand import Update
from downslope.diagnosis.script import exit_status, watch_script
from downslope.reporting import console
from tests.diagnosis.watched import HEAD

NET = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
"""

RAW = """
W1 = (torch.randn(10, 32) / 3).requires_grad_()
b1 = torch.zeros(32, requires_grad=True)
W2 = (torch.randn(32, 1) / 6).requires_grad_()
b2 = torch.zeros(1, requires_grad=True)
parameters = [W1, b1, W2, b2]
def model(x):
    return torch.relu(x @ W1 + b1) @ W2 + b2
"""

TAIL = """
print(sum(p.double().sum() for p in (parameters if 'parameters' in globals() else model.parameters())).item(),
      torch.rand(2).tolist())
"""

REGRESSION = (
    NET
    + """
for at in batches(200):
    model.zero_grad()
    output = F.smooth_l1_loss(model(X[at]), Y[at])
    output.backward()
    for param in model.parameters():
        param.data.add_(-0.1 * param.grad)
"""
)

CLIPPED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(2, 24, batch_first=True), nn.Linear(24, 4)
        self.drop = nn.Dropout(0.1)
    def forward(self, x):
        return F.log_softmax(self.out(self.drop(self.rnn(x.reshape(len(x), 5, 2))[0][:, -1])), -1)
model, lr = Net(), 4.0
criterion = nn.NLLLoss()
def evaluate():
    model.eval()
    with torch.no_grad():
        return criterion(model(X[480:]), C[480:]).item()
for epoch in range(20):
    model.train()
    for at in torch.randperm(480).split(32):
        model.zero_grad()
        loss = criterion(model(X[at]), C[at])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)
    evaluate()
"""

NO_GRAD = (
    RAW
    + """
for at in batches(200):
    loss = ((model(X[at]) - Y[at]) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= 0.05 * p.grad
            p.grad.zero_()
"""
)

ASSIGNED = (
    RAW
    + """
def main():
    for at in batches(200):
        loss = F.mse_loss(model(X[at]), Y[at])
        loss.backward()
        for p in parameters:
            p.data = p.data - 0.05 * p.grad
            p.grad = None
main()
"""
)

MADE_ANEW = """
w = (torch.randn(10, 1) / 10).requires_grad_()
b = torch.zeros(1, requires_grad=True)
for at in batches(200):
    loss = F.mse_loss(X[at] @ w + b, Y[at])
    loss.backward()
    w = (w - 0.05 * w.grad).detach().requires_grad_()
    b = (b - 0.05 * b.grad).detach().requires_grad_()
parameters = [w, b]
"""

MOMENTUM = (
    NET
    + """
speed = [torch.zeros_like(p) for p in model.parameters()]
for at in batches(200):
    loss = F.mse_loss(model(X[at]), Y[at])
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p, v in zip(model.parameters(), speed):
            v.mul_(0.9).add_(p.grad)
            p -= 0.01 * v
"""
)

ACCUMULATED = (
    NET
    + """
for step, at in enumerate(batches(400)):
    loss = F.mse_loss(model(X[at]), Y[at]) / 2
    loss.backward()
    if step % 2:
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
        model.zero_grad()
"""
)

SOUND = {
    "regression": (REGRESSION, 200, 0.1),
    "clipped": (CLIPPED, 300, 4.0),
    "no_grad on raw tensors": (NO_GRAD, 200, 0.05),
    "assigned data": (ASSIGNED, 200, 0.05),
    "tensors made anew": (MADE_ANEW, 199, 0.05),  # nothing follows the last one that would show it
    "momentum": (MOMENTUM, 200, None),
    "accumulated": (ACCUMULATED, 200, 0.1),
}


def watched(folder: Path, body: str, *args: str) -> tuple[Diagnosis | None, int, str]:
    path = folder / "train.py"
    path.write_text(HEAD + body, encoding="utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        found, status = watch_script(path, args, trials=0.0)
    return found, status, output.getvalue()


def seen(folder: Path, body: str) -> Diagnosis:
    found, status, _ = watched(folder, body)
    assert found is not None
    assert status == 0
    assert found.notes == []
    return found


def alone(folder: Path, body: str) -> str:
    path = folder / "alone.py"
    path.write_text(HEAD + body, encoding="utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    return output.getvalue()


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_update_by_hand_is_healthy_and_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    body, steps, lr = SOUND[name]
    gc.collect()  # hooks of earlier tests go with what they look at
    hooks = len(torch_module._global_forward_pre_hooks)
    found, status, output = watched(tmp_path, body + TAIL)
    assert len(torch_module._global_forward_pre_hooks) <= hooks
    assert output == alone(tmp_path, body + TAIL)
    assert found is not None
    assert (found.run.summary["steps"], found.notes, exit_status(found, status)) == (steps, [], 0), str(found)
    assert found.healthy, str(found)
    assert len(found.run.history.series("train_loss").values) >= min(steps, 200)
    told = found.run.facts["optimizer"]
    assert told.get("lr") == lr
    assert told["name"] == ("by hand" if lr is None else "sgd by hand")
    header = str(console.header(found.run)[0])
    assert ("by hand" if lr is None else f"sgd by hand lr {lr:g}") in header
    assert dict(found.cleared)["stale-gradients"].startswith("none of ")
    assert {"grad_norm", "weight_norm", "update_ratio"} <= set(found.run.probes)


def test_what_is_recorded_is_what_a_torch_optimizer_records(tmp_path: Path) -> None:
    by_hand = seen(tmp_path, REGRESSION).run
    torchs = seen(
        tmp_path,
        REGRESSION.replace("for at in", "rule = torch.optim.SGD(model.parameters(), 0.1)\nfor at in")
        .replace("for param in model.parameters():\n", "rule.step()\n")
        .replace("param.data.add_(-0.1 * param.grad)", ""),
    ).run
    ours, theirs = by_hand.history.series("train_loss"), torchs.history.series("train_loss")
    assert len(ours.values) == len(theirs.values) == 200
    assert ours.values.tolist() == pytest.approx(theirs.values.tolist(), rel=1e-4)
    assert by_hand.facts["modules"] == torchs.facts["modules"]
    assert by_hand.facts["activations"] == torchs.facts["activations"]
    assert by_hand.facts["constant"] == pytest.approx(torchs.facts["constant"])
    for statistic in ("grad_norm", "weight_norm", "update_ratio", "dead_fraction", "out_std"):
        one, other = by_hand.probes[statistic], torchs.probes[statistic]
        assert one.modules == other.modules
        assert one.steps[:3].tolist() == other.steps[:3].tolist()
        for row, wanted in zip(one.values[:3], other.values[:3], strict=True):
            assert row.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


def test_of_an_accumulated_gradient_the_whole_is_measured_from_the_second_step_on(tmp_path: Path) -> None:
    by_hand = seen(tmp_path, ACCUMULATED).run.probes["grad_norm"]
    before, _, after = ACCUMULATED.partition("        with torch.no_grad():")
    before = before.replace("for step", "rule = torch.optim.SGD(model.parameters(), 0.1)\nfor step")
    twin = before + "        rule.step()\n        model.zero_grad()\n"
    assert "model.zero_grad()" in after
    torchs = seen(tmp_path, twin).run.probes["grad_norm"]
    assert by_hand.values[1:3] == pytest.approx(torchs.values[1:3], rel=1e-4)


def test_held_out_losses_stand_at_the_steps_they_were_made(tmp_path: Path) -> None:
    series = seen(tmp_path, CLIPPED).run.history.series("valid_loss")
    assert series.steps.tolist() == [15 * epoch for epoch in range(1, 21)]


def test_an_update_that_makes_new_tensors_is_measured(tmp_path: Path) -> None:
    made_anew = seen(tmp_path, MADE_ANEW).run
    in_place = MADE_ANEW.replace("    w = (w - 0.05 * w.grad).detach().requires_grad_()\n", "")
    in_place = in_place.replace("    b = (b - 0.05 * b.grad).detach().requires_grad_()\n", "")
    in_place = in_place.replace("parameters = [w, b]\n", "")
    in_place += "    for p in (w, b):\n        p.data -= 0.05 * p.grad\n        p.grad = None\n"
    kept = seen(tmp_path, in_place).run
    assert made_anew.facts["constant"] == pytest.approx(kept.facts["constant"])
    for statistic in ("grad_norm", "update_ratio"):
        one, other = made_anew.probes[statistic], kept.probes[statistic]
        assert sorted(one.modules) == sorted(other.modules) == ["w"]
        assert one.values[:3] == pytest.approx(other.values[:3], rel=1e-4)


def test_a_model_that_the_loss_does_not_depend_on_is_none_that_is_trained(tmp_path: Path) -> None:
    body = "fixed = nn.Linear(10, 10)\n" + REGRESSION.replace("model(X[at])", "model(fixed(X[at]).detach())")
    found = seen(tmp_path, body)
    assert found.healthy, str(found)
    assert "frozen-parameters" not in [each.symptom for each in found.findings], str(found)


def test_raw_tensors_go_by_their_names_or_their_places_or_by_number_and_shape(tmp_path: Path) -> None:
    run = seen(tmp_path, NO_GRAD).run
    assert sorted(run.probes["grad_norm"].modules) == ["W1", "W2"]  # each bias beside its weights
    nameless = NO_GRAD.replace("W1 = (torch.randn(10, 32) / 3).requires_grad_()\n", "")
    nameless = nameless.replace(
        "parameters = [W1,", "parameters = [(torch.randn(10, 32) / 3).requires_grad_(),"
    )
    run = seen(tmp_path, nameless.replace("@ W1", "@ parameters[0]")).run
    assert sorted(run.probes["grad_norm"].modules) == ["W2", "parameters[0]"]
    local = "".join(f"    {line}\n" for line in NO_GRAD.splitlines())
    run = seen(tmp_path, f"def training():\n{local}training()\n").run
    assert "parameter 1 (10, 32)" in run.probes["grad_norm"].modules


STALE = {
    "module": REGRESSION.replace("    model.zero_grad()\n", ""),
    "raw": NO_GRAD.replace("            p.grad.zero_()\n", ""),
}


@pytest.mark.parametrize("name", STALE)
def test_gradients_that_are_never_cleared_are_named(name: str, tmp_path: Path) -> None:
    found = seen(tmp_path, STALE[name])
    assert "stale-gradients" in [each.symptom for each in found.findings], str(found)
    assert found.root is not None
    assert found.root.symptom == "stale-gradients"
    assert "optimizer" not in str(found.root.remedies[0])


@pytest.mark.parametrize(
    "body",
    [
        REGRESSION.replace("smooth_l1_loss", "mse_loss").replace("-0.1", "-20.0"),
        NO_GRAD.replace("0.05", "20.0"),
    ],
)
def test_a_rate_far_too_high_is_named(body: str, tmp_path: Path) -> None:
    found = seen(tmp_path, body)
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-high"
    assert "lr 20" in found.root.message


def test_a_rate_far_too_low_is_named(tmp_path: Path) -> None:
    found = seen(tmp_path, REGRESSION.replace("-0.1", "-1e-6"))
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-low"
    assert "lr 1e-06" in found.root.message


def test_a_second_training_by_hand_is_a_run_of_its_own(tmp_path: Path) -> None:
    second = NET.replace("32", "48") + REGRESSION.partition("\nfor")[1] + REGRESSION.partition("\nfor")[2]
    found, _, _ = watched(tmp_path, NO_GRAD + second.replace("200", "400"))
    assert found is not None
    assert found.notes[0].startswith("2 of 2 trainings judged; told of is number 2, Updates by hand on ")
    assert 390 <= found.run.summary["steps"] <= 400
    assert "sgd by hand lr 0.1" in str(console.header(found.run)[0])


@pytest.mark.parametrize(
    "body",
    [
        NET + "model(X).mean().backward()\nprint(model[0].weight.grad.norm())\n",
        NET + "for at in batches(20):\n    F.mse_loss(model(X[at]), Y[at]).backward()\n",
        NET + "with torch.no_grad():\n    for p in model.parameters():\n        p.add_(1.0)\n",
        NET
        + "d = torch.zeros_like(X, requires_grad=True)\n"
        + "for i in range(20):\n    F.mse_loss(model(X + d), Y).backward()\n"
        + "    d.data.add_(d.grad.sign(), alpha=0.01)\n    d.grad.zero_()\n",
    ],
    ids=["gradient", "gradients", "no backward", "attack on the input"],
)
def test_what_updates_no_parameter_is_no_training(body: str, tmp_path: Path) -> None:
    found, status, _ = watched(tmp_path, body)
    assert found is None
    assert exit_status(found, status) == 2


def test_an_optimizer_made_later_is_watched_as_if_nothing_had_been_before(tmp_path: Path) -> None:
    rule = "rule = torch.optim.Adam(model.parameters(), 1e-2)\nfor at in batches(150):\n"
    rule += "    rule.zero_grad(); F.mse_loss(model(X[at]), Y[at]).backward(); rule.step()\n"
    run = seen(tmp_path, NO_GRAD + NET + rule).run
    assert run.summary["steps"] == 150
    assert run.facts["optimizer"]["name"] == "adam"
    assert len(run.history.series("train_loss").values) == 150


def test_a_pass_before_the_optimizer_is_made_changes_nothing_that_is_told(tmp_path: Path) -> None:
    early = "F.mse_loss(model(X[:64]), Y[:64]).backward()\n"
    rule = "rule = torch.optim.SGD(model.parameters(), 0.1)\nfor at in batches(150):\n"
    rule += "    rule.zero_grad(); F.mse_loss(model(X[at]), Y[at]).backward(); rule.step()\n"
    plain, after = (seen(tmp_path, NET + each + rule).run for each in ("", early))
    assert after.facts["data"]["target"] == plain.facts["data"]["target"]
    assert after.facts["constant"] == plain.facts["constant"]
    assert after.facts["output"] == plain.facts["output"]
    assert after.probes["grad_norm"].values[0].tolist() == plain.probes["grad_norm"].values[0].tolist()


def test_nothing_is_looked_for_by_hand_once_there_is_an_optimizer() -> None:
    audience = Audience()
    hooks = len(torch_module._global_forward_pre_hooks)
    model = torch.nn.Linear(2, 1)
    audience.made(torch.optim.SGD(model.parameters(), 0.1))
    assert audience.by_hand is None
    # That of the first sampled step took the place of the one that looked for a model.
    assert len(torch_module._global_forward_pre_hooks) == hooks
    audience.close()
    assert len(torch_module._global_forward_pre_hooks) == hooks - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rate_of_plain_descent_is_measured_and_no_other_is_told(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w = torch.randn(400, dtype=dtype, requires_grad=True)
    for change, wanted in (
        (lambda g: -0.03 * g, 0.03),
        (lambda g: -0.03 * (g + 0.1 * w.detach()), None),
        (lambda g: -0.03 * g.sign(), None),
        (lambda g: 0.03 * g, None),
    ):
        w.grad = torch.randn(400, dtype=dtype)
        update = Update()
        update.begin([w])
        w.data.add_(change(w.grad))
        w.grad.zero_()
        found = update.end()
        assert found is not None
        if wanted is not None:
            assert found == pytest.approx(wanted, rel=1e-9)
        else:
            assert found != found


def test_a_rate_is_told_where_rounding_takes_most_of_the_update() -> None:
    torch.manual_seed(0)
    w = (torch.rand(400) - 0.5).requires_grad_()
    w.grad = torch.randn(400)
    update = Update()
    update.begin([w])
    w.data.add_(w.grad, alpha=-3e-8)
    assert update.end() == pytest.approx(3e-8, rel=0.05)
    w.grad = torch.randn(400)
    update.begin([w])
    w.data.add_(w.grad, alpha=-1e-14)
    assert update.end() is None


def test_a_clipped_gradient_that_is_gone_tells_no_rate() -> None:
    w = torch.ones(4, requires_grad=True)
    w.grad = torch.ones(4)
    update = Update()
    update.begin([w])
    torch.nn.utils.clip_grad_norm_([w], 0.5)
    w.data.add_(w.grad, alpha=-0.1)
    w.grad.zero_()
    assert update.end() is None


ASKED_FOR = REGRESSION.replace(
    "output.backward()", "grads = torch.autograd.grad(output, model.parameters())"
).replace(
    "for param in model.parameters():\n        param.data.add_(-0.1 * param.grad)",
    "with torch.no_grad():\n        for param, grad in zip(model.parameters(), grads):\n"
    "            param -= 0.1 * grad",
)
ANEW = MADE_ANEW.replace("loss.backward()", "one, two = torch.autograd.grad(loss, [w, b])")
ANEW = ANEW.replace("w.grad", "one").replace("b.grad", "two")
FUNCTIONAL = (
    NET
    + """
parameters = {k: v.detach().clone().requires_grad_() for k, v in model.named_parameters()}
for at in batches(200):
    loss = F.mse_loss(torch.func.functional_call(model, parameters, (X[at],)), Y[at])
    grads = torch.autograd.grad(loss, list(parameters.values()))
    parameters = {k: (v - 0.1 * g).detach().requires_grad_() for (k, v), g in zip(parameters.items(), grads)}
parameters = list(parameters.values())
"""
)
GRANTED = {
    "of a module": (ASKED_FOR, 200, 0.1),
    "tensors made anew": (ANEW, 199, 0.05),
    "a call with parameters": (FUNCTIONAL, 195, 0.1),  # the first are taken for the model's own
}


@pytest.mark.parametrize("name", GRANTED)
def test_a_step_by_gradients_that_were_asked_for_counts_and_nothing_is_left_of_us(
    name: str, tmp_path: Path
) -> None:
    body, steps, lr = GRANTED[name]
    end = "\nprint([p.grad for p in (parameters if 'parameters' in globals() else model.parameters())])\n"
    found, status, output = watched(tmp_path, body + TAIL + end)
    assert output == alone(tmp_path, body + TAIL + end)
    assert output.count("None") >= 2
    assert found is not None
    assert (found.run.summary["steps"], found.notes, exit_status(found, status)) == (steps, [], 0), str(found)
    assert found.healthy, str(found)
    told = found.run.facts["optimizer"]
    assert (told["name"], told["lr"]) == ("sgd by hand", lr)
    assert len(found.run.history.series("train_loss").values) == steps
    assert {"grad_norm", "weight_norm", "update_ratio"} <= set(found.run.probes)


def test_gradients_that_were_asked_for_are_those_of_a_backward_pass(tmp_path: Path) -> None:
    asked, passed = seen(tmp_path, ASKED_FOR).run, seen(tmp_path, REGRESSION).run
    assert asked.facts["modules"] == passed.facts["modules"]
    for statistic in ("grad_norm", "weight_norm", "update_ratio"):
        one, other = asked.probes[statistic], passed.probes[statistic]
        assert one.steps.tolist() == other.steps.tolist()
        for row, wanted in zip(one.values[:3], other.values[:3], strict=True):
            assert row.tolist() == pytest.approx(wanted.tolist(), rel=1e-3)


def test_of_gradients_that_were_asked_for_too_high_a_rate_is_named(tmp_path: Path) -> None:
    found = seen(tmp_path, ASKED_FOR.replace("0.1 * grad", "20.0 * grad"))
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-high"
    assert "lr 20" in found.root.message


@pytest.mark.parametrize(
    "body",
    [
        NET + "for at in batches(100):\n    x = X[at].requires_grad_()\n"
        "    g, = torch.autograd.grad(F.mse_loss(model(x), Y[at]), x)\n    x.data += 0.1 * g.sign()\n",
        NET + "for at in batches(100):\n"
        "    print(torch.autograd.grad(F.mse_loss(model(X[at]), Y[at]), model.parameters())[0].norm())\n",
        NET + "for at in batches(20):\n    loss = F.mse_loss(model(X[at]), Y[at])\n"
        "    torch.autograd.grad(loss, model.parameters(), create_graph=True)\n",
    ],
    ids=["attack on the input", "sizes of gradients", "derived once more"],
)
def test_gradients_that_no_parameter_moves_by_are_no_training(body: str, tmp_path: Path) -> None:
    found, status, output = watched(tmp_path, body)
    assert output == alone(tmp_path, body)
    assert found is None
    assert exit_status(found, status) == 2


def test_slopes_that_a_loss_is_made_of_are_no_steps(tmp_path: Path) -> None:
    """The residual of an equation, trained by hand: one step for each backward pass."""
    body = """
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
for step in range(200):
    t = torch.rand(64, 1).requires_grad_()
    u = 1 + t * model(t)
    slope = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
    loss = (slope + u).square().mean()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.01 * p.grad
"""
    found = seen(tmp_path, body)
    assert found.run.summary["steps"] == 200
    assert len(found.run.history.series("train_loss").values) == 200


OF_FUNCTIONS = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
held = {k: v.detach().clone() for k, v in model.named_parameters()}
def objective(given, x, y):
    return F.mse_loss(torch.func.functional_call(model, given, (x,)), y)
for at in batches(200):
    slopes = torch.func.grad(objective)(held, X[at], Y[at])
    held = {k: v - 0.1 * slopes[k] for k, v in held.items()}
parameters = list(held.values())
"""
IN_PLACE = """
w, b = torch.randn(10, 1) / 10, torch.zeros(1)
def objective(given, x, y):
    return ((x @ given[0] + given[1] - y) ** 2).mean(), x.sum()
for at in batches(200):
    slopes, (loss, _) = torch.func.grad_and_value(objective, has_aux=True)((w, b), X[at], Y[at])
    for p, slope in zip((w, b), slopes):
        p -= 0.1 * slope
print(loss.item())
parameters = [w, b]
"""


@pytest.mark.parametrize(("body", "steps"), [(OF_FUNCTIONS, 199), (IN_PLACE, 199)])
def test_a_step_along_the_gradient_of_a_function_counts(body: str, steps: int, tmp_path: Path) -> None:
    found, status, output = watched(tmp_path, body + TAIL)
    assert output == alone(tmp_path, body + TAIL)
    assert found is not None
    assert found.run.summary["steps"] in (steps, steps + 1)
    assert (found.notes, exit_status(found, status), found.healthy) == ([], 0, True), str(found)
    assert len(found.run.history.series("train_loss").values) == found.run.summary["steps"]
    assert found.run.facts["optimizer"]["lr"] == 0.1
    assert {"grad_norm", "weight_norm", "update_ratio"} <= set(found.run.probes)


def test_too_high_a_rate_along_the_gradient_of_a_function_is_named(tmp_path: Path) -> None:
    found = seen(tmp_path, OF_FUNCTIONS.replace("0.1 * slopes", "30.0 * slopes"))
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-high"
    assert "lr 30" in found.root.message


def test_gradients_of_a_function_for_every_example_are_left_alone(tmp_path: Path) -> None:
    body = """
w = torch.randn(10, 1)
def objective(given, x, y):
    return F.mse_loss(x @ given, y)
each = torch.func.vmap(torch.func.grad(objective), in_dims=(None, 0, 0))
for at in batches(20):
    w = w - 0.05 * each(w, X[at], Y[at]).mean(0)
parameters = [w]
"""
    found, _, output = watched(tmp_path, body + TAIL)
    assert found is None
    assert output == alone(tmp_path, body + TAIL)


def test_beside_an_optimizer_the_gradient_of_a_function_is_torchs_own(tmp_path: Path) -> None:
    body = (
        NET
        + """
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(150):
    loss = F.mse_loss(model(X[at]), Y[at])
    slope = torch.func.grad(lambda x: model(x).sum())(X[at])
    rule.zero_grad(); (loss + 0 * slope.sum()).backward(); rule.step()
"""
    )
    found = seen(tmp_path, body)
    assert found.run.summary["steps"] == 150
    assert found.healthy, str(found)
