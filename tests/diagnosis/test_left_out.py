"""Parameters that no optimizer was handed are told apart from those held fixed, after a trial too."""

from __future__ import annotations

from pathlib import Path

import pytest

from downslope.core.edits import Advice, Unfreeze
from downslope.core.finding import Finding
from downslope.diagnosis.script import watch_script

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
{imports}
torch.manual_seed({seed})
X = torch.randn(512, 10)
Y = (X[:, 0] * X[:, 1] > 0).long() + (X[:, 2] * X[:, 3] > 0).long()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 3)
    def forward(self, x):
        return self.head(self.body(x))
model = Net()
{frozen}
rule = {rule}
for _ in range(60):
    for at in torch.randperm(512).split(32):
        rule.zero_grad()
        F.cross_entropy(model(X[at]), Y[at]).backward()
        rule.step()
"""

TORCH = "torch.optim.Adam({whom}, lr=1e-2)"
OURS = "optim.Adam({whom}, lr=1e-2)"


def cause(tmp_path: Path, rule: str, frozen: str = "", *, whom: str, seed: int = 0) -> Finding | None:
    script = tmp_path / "train.py"
    imports = "from downslope import optim" if rule is OURS else ""
    script.write_text(SCRIPT.format(imports=imports, seed=seed, frozen=frozen, rule=rule.format(whom=whom)))
    found, status = watch_script(script)
    assert found is not None
    assert status == 0
    return found.root


@pytest.mark.parametrize(("rule", "seed"), [(TORCH, 0), (TORCH, 1), (OURS, 0)])
def test_a_body_that_the_optimizer_was_not_handed_is_not_called_frozen(
    rule: str, seed: int, tmp_path: Path
) -> None:
    found = cause(tmp_path, rule, whom="model.head.parameters()", seed=seed)
    assert found is not None
    assert found.symptom == "frozen-parameters"
    assert "not handed to the optimizer" in found.message
    assert "requires_grad" not in found.message
    assert "Tried:" in found.message  # it took a trial to know
    (told,) = found.remedies
    assert isinstance(told, Advice)
    assert "(body.0, body.2 too)" in str(told)  # at seed 0 one nudge of body.2 leaves the loss where it is


@pytest.mark.parametrize("whom", ["model.head.parameters()", "model.parameters()"])
def test_a_body_that_is_held_fixed_is_called_so(whom: str, tmp_path: Path) -> None:
    found = cause(tmp_path, TORCH, "model.body.requires_grad_(False)", whom=whom)
    assert found is not None
    assert "they are held fixed (requires_grad=False)" in found.message
    assert "not handed" not in found.message
    (told,) = found.remedies
    assert isinstance(told, Unfreeze)


def test_of_both_each_is_told_with_its_own(tmp_path: Path) -> None:
    found = cause(
        tmp_path, TORCH, "model.body[0].requires_grad_(False)", whom="model.head.parameters()", seed=1
    )
    assert found is not None
    assert "body.0: they are held fixed (requires_grad=False)" in found.message
    assert "body.2: they were not handed to the optimizer" in found.message
    assert any("(body.2 too)" in str(each) for each in found.remedies)


def test_handed_whole_it_learns(tmp_path: Path) -> None:
    assert cause(tmp_path, TORCH, whom="model.parameters()") is None
