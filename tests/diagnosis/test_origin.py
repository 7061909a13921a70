"""The first gradient that is not finite, of a loss that is: whether the objective or the model made it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.origin import left_behind
from downslope.diagnosis.script import watch_script
from downslope.training.probes import Observer
from tests.diagnosis.watched import HEAD

NAME = "unstable-objective"

LOOP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.b, self.a = nn.Linear(24, 3), nn.Linear(16, 24), nn.Linear(10, 16, bias=False)
    def forward(self, x):
        h = self.a(x)
        h = WITHIN
        return self.c(torch.tanh(self.b(h)))
model = Net()
rule = RULE
for step, at in enumerate(batches(STEPS)):
    x = X[at]
    if step == SPOILT:
        x = SPOIL
    out, other = model(x), model(X[(at + 1) % 640])
    loss = LOSS
    rule.zero_grad()
    loss.backward()
    EXTRA
    rule.step()
"""

SOUND = {
    "WITHIN": "torch.tanh(h)", "RULE": "torch.optim.Adam(model.parameters(), 1e-3)", "STEPS": "120",
    "SPOILT": "60", "SPOIL": "X[(at + 1) % 640]", "LOSS": "F.mse_loss(out[:, :1], Y[at])", "EXTRA": "pass",
}  # fmt: skip
APART = "F.relu(2 - ((out - other).pow(2).sum(1) + EPS).sqrt()).pow(2).mean() + out.pow(2).mean()"
ROOT = "(out[:, 0] - other[:, 0]).abs().add(EPS).pow(0.5).mean() + F.mse_loss(out[:, 1:2], Y[at])"
LENGTH = "torch.tanh(h) * h.pow(2).sum(1, True).add(EPS).sqrt()"

OBJECTIVE = {
    "a root, Adam": {"LOSS": APART},
    "a root, plain SGD": {"LOSS": APART, "RULE": "torch.optim.SGD(model.parameters(), 1e-2)"},
    "a power, RMSprop": {"LOSS": ROOT, "RULE": "torch.optim.RMSprop(model.parameters(), 1e-3)"},
    "a root, momentum, clipped": {
        "LOSS": APART, "EXTRA": "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        "RULE": "torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)",
    },
    "a root, an optimizer for each layer": {
        "LOSS": APART, "EXTRA": "second.step(); second.zero_grad()",
        "RULE": "torch.optim.Adam([*model.a.parameters(), *model.b.parameters()], 1e-3)\n"
        "second = torch.optim.SGD(model.c.parameters(), 1e-2)",
    },
}  # fmt: skip


def watched(folder: Path, eps: str = "0", **changed: str) -> Diagnosis:
    body = LOOP
    for name, value in (SOUND | changed).items():
        body = body.replace(name, value)
    path = folder / "train.py"
    path.write_text(HEAD + body.replace("EPS", eps))
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("name", OBJECTIVE)
def test_a_derivative_that_is_not_finite_is_put_down_to_the_objective(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, **OBJECTIVE[name])
    root = found.root
    assert root is not None, str(found)
    assert (root.symptom, root.severity, root.where.steps) == (NAME, "critical", (61, 61))
    assert "out of the objective" in root.message
    assert "sqrt" in str(root.remedies[0])


@pytest.mark.parametrize("name", OBJECTIVE)
def test_a_small_constant_under_the_root_is_healthy(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, eps="1e-6", **OBJECTIVE[name])
    assert found.root is None, str(found)


def test_an_operation_between_two_layers_is_told_from_the_objective(tmp_path: Path) -> None:
    dead = {"WITHIN": LENGTH, "SPOIL": "0 * x"}
    found = watched(tmp_path, **dead)
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.where.modules) == (NAME, ("a",))
    assert "between" in found.root.message
    assert watched(tmp_path, eps="1e-6", **dead).root is None


def test_nan_in_the_data_and_a_step_too_large_stay_what_they_are(tmp_path: Path) -> None:
    data = watched(tmp_path, SPOIL="x / 0")
    assert data.root is not None
    assert data.root.symptom == "non-finite-data"
    step = watched(tmp_path, RULE="torch.optim.SGD(model.parameters(), 1e30)", SPOILT="-1")
    assert NAME not in step.symptoms, str(step)


def test_weights_that_a_finite_gradient_spoilt_blame_no_derivative(tmp_path: Path) -> None:
    extra = "model.c.bias.grad.mul_(step < 60)"
    rule = "torch.optim.RMSprop(model.parameters(), 1e-3, alpha=0.0, eps=0.0)"
    found = watched(tmp_path, EXTRA=extra, RULE=rule, SPOILT="-1")
    assert found.lost
    assert NAME not in found.symptoms, str(found)


def test_what_an_optimizer_keeps_tells_the_gradient_from_the_weight() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    rule = torch.optim.Adam(model.parameters(), 1e-3)
    model(torch.ones(4, 3)).sum().backward()
    bias = model[1].bias
    assert bias.grad is not None
    bias.grad.fill_(torch.nan)
    rule.step()
    found = left_behind({"": Observer(model)}, [rule])
    assert found == {"bad": ["1"], "sound": ["0"], "every": False}
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    assert left_behind({"": Observer(model)}, [rule])["bad"] == []


def test_a_run_of_our_own_names_the_objective_too() -> None:
    x = torch.randn(64, 4)

    def root(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - output.roll(1, 0)).abs().sqrt().mean() + (output - target).square().mean()

    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)),
        objective=root, train=(torch.cat([x, x[-1:]]), torch.cat([x, x[-1:]])[:, :1]),
    )  # fmt: skip
    found = ds.diagnose(
        problem, ds.Recipe(optimizer="adam", lr=1e-3, batch_size="full", steps=20), progress=False
    )
    assert found.root is not None, str(found)
    assert found.root.symptom == NAME
