"""A softmax before a binary cross-entropy: sick where several labels of an example hold at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.script import watch_script
from tests.diagnosis.symptoms.problems import diagnosed, found, recipe
from tests.diagnosis.watched import HEAD

G = torch.Generator().manual_seed(0)
X = torch.randn(480, 10, generator=G)
SCORES = X @ torch.randn(10, 5, generator=G)
TAGS = (SCORES > -1).float()
CLASS = functional.one_hot(SCORES.argmax(1), 5).float()


class Tags(nn.Module):
    """Ends in a function of torch, which is no module."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.body, self.end = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 5)), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x))


def soft(z: Tensor) -> Tensor:
    return torch.softmax(z, 1)


def task(end: Any, target: Tensor, objective: Any) -> ds.Problem:
    split = slice(0, 360), slice(360, None)
    train, valid = ((X[each], target[each]) for each in split)
    return ds.Problem(model=lambda: Tags(end), objective=objective, train=train, valid=valid)


@pytest.mark.parametrize("end", [soft, nn.Softmax(dim=1)], ids=["function", "module"])
def test_a_sigmoid_in_its_place_cures_it(end: Any) -> None:
    sick = task(end, TAGS, functional.binary_cross_entropy if end is soft else nn.BCELoss())
    result = diagnosed(sick, recipe())
    assert result.root is not None
    assert result.root.symptom == "output-activation"
    assert "0 to 5" in result.root.message
    first = result.root.remedies[0]
    assert str(first) == ("last softmax in the forward -> sigmoid" if end is soft else "end -> Sigmoid")
    assert found(diagnosed(*first.apply(sick, recipe())), "output-activation") is None


@pytest.mark.parametrize("target", [CLASS, 0.9 * CLASS + 0.02], ids=["one-hot", "smoothed"])
def test_targets_that_sum_to_one_are_what_a_softmax_can_say(target: Tensor) -> None:
    assert found(diagnosed(task(soft, target, nn.BCELoss()), recipe()), "output-activation") is None


LOOP = """
class Tags(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 6))
    def forward(self, x):
        return END
S = X @ torch.randn(10, 6)
T = TARGET
model = Tags()
rule = torch.optim.Adam(model.parameters(), 3e-3)
for at in batches(400):
    loss = LOSS
    rule.zero_grad(); loss.backward(); rule.step()
"""
SOFT, OWN, SEVERAL = "torch.softmax(self.body(x), 1)", "torch.sigmoid(self.body(x))", "(S > 0).float()"
BCE, ONE = "nn.BCELoss()(model(X[at]), T[at])", "F.one_hot(S.argmax(1), 6).float()"
NOISY = "torch.where(torch.rand(640, 1) < 0.4, torch.eye(6)[torch.randint(6, (640,))], torch.eye(6)[C])"
MSE, SQUARES = "F.mse_loss(model(X[at]), T[at])", "((model(X[at]) - T[at]) ** 2).mean()"
ABS, ORDER = "F.l1_loss(model(X[at]), T[at])", "(torch.arange(6) <= S.argmax(1)[:, None]).float()"
ROWS = "F.binary_cross_entropy(model(X[at]).softmax(-1), T[at])"
SOME = "(S > 0).float() * (torch.rand(640, 6) < 0.33)"
"""About one label an example, now none, now three: what a softmax can say of it depends on the noise."""


@pytest.mark.parametrize(
    ("end", "target", "loss", "ill"),
    [
        (SOFT, SEVERAL, BCE, True),
        (SOFT, "(S > -3).float()", BCE, True),
        (SOFT, "(S > 0) * 0.9 + 0.05", BCE, True),
        ("self.body(x)", SEVERAL, ROWS, True),
        (OWN, SEVERAL, BCE, False),
        (SOFT, ONE, BCE, False),
        (SOFT, f"0.9 * {ONE} + 0.1 / 6", BCE, False),
        (SOFT, f"{ONE} * (torch.rand(640, 1) > 0.05)", BCE, False),
        (SOFT, NOISY, BCE, False),
        (SOFT, SOME, BCE, False),
        (SOFT, SEVERAL, MSE, True),
        (SOFT, SEVERAL, SQUARES, True),
        (SOFT, ORDER, ABS, True),
        (OWN, SEVERAL, MSE, False),
        (SOFT, f"0.9 * {ONE} + 0.1 / 6", MSE, False),
        (SOFT, "S.softmax(1)", ABS, False),
        (SOFT, SOME, MSE, False),
    ],
)
def test_a_script_is_told_where_it_surely_costs(
    end: str, target: str, loss: str, ill: bool, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    loop = LOOP.replace("END", end).replace("TARGET", target).replace("LOSS", loss)
    script.write_text(HEAD + loop, encoding="utf-8")
    result, _ = watch_script(script, trials=0.0)
    assert result is not None
    serious = [each for each in result.findings if each.severity != "info"]
    assert [each.symptom for each in serious] == ["output-activation"] * ill, str(result)
    if ill:
        assert "sigmoid in the place of the softmax" in str(serious[0].remedies[0])
