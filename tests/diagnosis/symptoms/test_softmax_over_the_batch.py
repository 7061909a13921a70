"""Probabilities of a class that share a sum over the batch, and log-probabilities made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.script import watch_script
from downslope.training.facts.output import described
from tests.diagnosis.symptoms.problems import diagnosed, found, recipe
from tests.diagnosis.watched import HEAD

Z = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
SQUARE = Z[:4]
ENDS = [
    (Z.softmax(0), False, True),
    (Z.log_softmax(0), False, True),
    ((Z.softmax(0) + 1e-6).log(), False, True),
    (Z.softmax(1), False, False),
    (Z.log_softmax(1), True, False),
    ((Z.softmax(1) + 1e-6).log(), True, False),
    (Z - Z.logsumexp(1, keepdim=True), True, False),
    (Z, False, False),
    (Z.sigmoid(), False, False),
    (SQUARE.log_softmax(0), False, False),
    (Z[:1].log_softmax(0), False, False),
    (Z[:, :1].softmax(0), False, False),
    (Z[0], False, False),
    (torch.full((20, 4), float("nan")), False, False),
]


@pytest.mark.parametrize(("made", "rows", "batch"), ENDS, ids=range(len(ENDS)))
def test_over_what_an_output_sums_to_one_is_seen(made: Tensor, rows: bool, batch: bool) -> None:
    said = described(made, [])
    assert said["rows_normalised"] is rows
    assert said["over_batch"] is batch


LOOP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.soft = nn.Softmax(dim=0)
    def forward(self, x):
        z = self.body(x)
        return END
model = Net()
rule = torch.optim.Adam(model.parameters(), RATE)
for at in batches(300):
    loss = F.nll_loss(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
with torch.no_grad():
    print(F.nll_loss(model(X[:100]), C[:100]))
"""


@pytest.mark.parametrize(
    ("end", "rate", "sick"),
    [
        ("F.log_softmax(z, dim=0)", 3e-3, True),
        ("F.log_softmax(z, dim=0)", 1e-4, True),
        ("torch.log(self.soft(z) + 1e-9)", 3e-3, True),
        ("F.log_softmax(z, dim=1)", 3e-3, False),
        ("torch.log(torch.softmax(z, 1) + 1e-9)", 1e-4, False),
        ("z - z.logsumexp(1, keepdim=True)", 1e-4, False),
    ],
)
def test_a_script_is_told_of_the_wrong_axis_and_of_no_other(
    end: str, rate: float, sick: bool, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(HEAD + LOOP.replace("END", end).replace("RATE", str(rate)), encoding="utf-8")
    result, _ = watch_script(script, trials=0.0)
    assert result is not None
    serious = [each for each in result.findings if each.severity != "info"]
    assert [each.symptom for each in serious] == ["output-activation"] * sick, str(result)
    if sick:
        assert "over the examples of a batch" in serious[0].message
        assert "dim=1" in str(serious[0].remedies[0])


class Net(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.body, self.end = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4)), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x))


@pytest.mark.parametrize(
    "end", [nn.LogSoftmax(dim=0), lambda z: functional.log_softmax(z, 0)], ids=["module", "function"]
)
def test_the_first_remedy_cures_it(end: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(480, 10, generator=draw)
    y = (x @ torch.randn(10, 4, generator=draw)).argmax(1)
    sick = ds.Problem(
        model=lambda: Net(end), objective=nn.NLLLoss(), train=(x[:360], y[:360]), valid=(x[360:], y[360:])
    )
    result = diagnosed(sick, recipe())
    assert result.root is not None
    assert result.root.symptom == "output-activation"
    assert "over the examples of a batch" in result.root.message
    mended = diagnosed(*result.root.remedies[0].apply(sick, recipe()))
    assert found(mended, "output-activation") is None
