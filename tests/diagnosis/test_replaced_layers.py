"""Layers that are replaced in mid-run: the optimizer goes on with those that nothing uses any more."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

NAME = "frozen-parameters"

LOOP = """
class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, width), nn.Linear(width, width), nn.Linear(width, 4)
    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))
model = Net()
heads = nn.ModuleList(nn.Linear(32, 4) for _ in range(2))
rule = RULE
for step, at in enumerate(batches(STEPS)):
    if step == WHEN:
        REPLACED
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad()
    loss.backward()
    rule.step()
LATER
"""

SOUND = {
    "STEPS": "500", "WHEN": "100", "REPLACED": "pass", "LATER": "pass",
    "RULE": "torch.optim.Adam(model.parameters(), 2e-3)",
}  # fmt: skip
HEAVY = "torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)"
MODEL = "old, model = model, Net(); model.load_state_dict(old.state_dict()); model.c.reset_parameters()"
STATE = "model.load_state_dict({k: v * 0.3 for k, v in model.state_dict().items()}, assign=True)"
SMALLER = (
    "model.a, model.b, model.c = nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 4); "
    "model.c.weight.data.mul_(4)"
)
REPLACED = {
    "every layer by a smaller one": ({"REPLACED": SMALLER}, ("a", "b", "c")),
    "every layer, momentum": ({"REPLACED": SMALLER, "RULE": HEAVY}, ("a", "b", "c")),
    "the head, RMSprop": (
        {"REPLACED": "model.c = nn.Linear(32, 4); model.c.weight.data.mul_(9)",
         "RULE": "torch.optim.RMSprop(model.a.parameters(), 1e-5); "
         "rule.add_param_group({'params': [*model.b.parameters(), *model.c.parameters()], 'lr': 1e-5})"},
        ("c",),
    ),
    "a state that is assigned": ({"REPLACED": STATE}, ("a", "b", "c")),
}  # fmt: skip
AGAIN = "; rule = torch.optim.Adam(model.parameters(), 5e-3)"
ODD = {
    "an optimizer made anew": {"REPLACED": SMALLER + AGAIN},
    "a group added for a new head": {
        "REPLACED": "model.c = nn.Linear(32, 4); rule.add_param_group({'params': model.c.parameters()})",
    },
    "parameters put into the same optimizer": {
        "REPLACED": "model.c = nn.Linear(32, 4); rule.param_groups[0]['params'][:] = model.parameters()",
        "RULE": "torch.optim.SGD(model.parameters(), 0.2)",
    },
    "heads that take turns": {
        "RULE": "torch.optim.Adam([*model.parameters(), *heads.parameters()], 5e-3)",
        "REPLACED": "pass\n    model.c = heads[step % 2]",
    },
    "an old state that is copied": {"REPLACED": "model.load_state_dict(model.state_dict())"},
    "a backbone that is frozen, and a new head": {
        "REPLACED": "model.requires_grad_(False); model.c = nn.Linear(32, 4)\n"
        "        rule = torch.optim.Adam(model.c.parameters(), 5e-3)",
        "WHEN": "300",
    },
    "an adapter beside frozen layers": {
        "REPLACED": "model.requires_grad_(False); model.c = nn.Sequential(model.c, nn.Linear(4, 4))\n"
        "        rule = torch.optim.Adam(model.c[1].parameters(), 5e-3)",
        "WHEN": "350",
    },
    "replaced after the training, for its gradients": {
        "LATER": "model.c = nn.Linear(32, 1)\nmodel(X).sum().backward()",
        "STEPS": "400",
    },
    "a pruned layer": {
        "REPLACED": "import torch.nn.utils.prune as p; p.l1_unstructured(model.b, 'weight', 0.3)",
    },
    "in half the precision and back": {"REPLACED": "model.half().float()"},
}  # fmt: skip


def watched(folder: Path, changed: dict[str, str]) -> Diagnosis:
    body = LOOP
    for name, value in (SOUND | changed).items():
        body = body.replace(name, value)
    path = folder / "train.py"
    path.write_text(HEAD + body)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    assert not any("listened to" in each for each in found.notes), found.notes
    return found


@pytest.mark.parametrize("name", REPLACED)
def test_layers_that_the_optimizer_never_got_are_named_with_when(name: str, tmp_path: Path) -> None:
    changed, layers = REPLACED[name]
    found = watched(tmp_path, changed)
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.where.modules) == (NAME, layers), str(found)
    assert found.root.where.steps is not None
    assert 101 <= found.root.where.steps[0] <= 180
    assert "took the place of others" in found.root.message
    assert "make a new optimizer" in str(found.root.remedies[0])


def test_a_new_model_with_the_old_state_is_seen_too(tmp_path: Path) -> None:
    found = watched(tmp_path, {"REPLACED": MODEL})
    assert found.root is not None, str(found)
    assert found.root.symptom == NAME


@pytest.mark.parametrize("name", ODD)
def test_what_is_replaced_and_trained_or_left_alone_on_purpose_is_no_fault(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, ODD[name])
    assert found.root is None, str(found)
    assert NAME not in found.symptoms or name.startswith(("a backbone", "an adapter"))


def test_layers_replaced_at_the_end_of_a_run_that_did_well_are_told_as_no_fault(tmp_path: Path) -> None:
    copied = "model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)"
    changed = {"REPLACED": copied, "WHEN": "900", "STEPS": "1400", "RULE": HEAVY}
    found = watched(tmp_path, changed)
    assert found.healthy, str(found)


@pytest.mark.parametrize("rule", ["rule = torch.optim.Adam(model.parameters(), 2e-3)", "rule = None"])
def test_an_optimizer_of_another_module_is_named_whatever_was_made_before_it(
    rule: str, tmp_path: Path
) -> None:
    """One that was made of the model and never steps trains it no more than none would."""
    other = f"None\n{rule}\nrule = torch.optim.Adam(nn.Linear(3, 3).parameters(), 2e-3)"
    found = watched(tmp_path, {"RULE": other})
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert "not handed to the optimizer" in found.root.message
    assert not any("no forward pass" in why for _, why in found.not_checked)


def test_two_optimizers_that_take_turns_hold_all_that_is_trained(tmp_path: Path) -> None:
    """The second one has not stepped when the first one's steps are looked at."""
    body = """
rules = [torch.optim.Adam(model.parameters(), 2e-3), torch.optim.Adam(heads.parameters(), 2e-3)]
class Both:
    turn = 0
    def zero_grad(self):
        [each.zero_grad() for each in rules]
    def step(self):
        self.turn += 1
        rules[self.turn > 250].step()
rule = Both()"""
    found = watched(tmp_path, {"RULE": f"None{body}"})
    assert NAME not in found.symptoms, str(found)
