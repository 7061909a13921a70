"""nll_loss on what is no log-probability, in a script: a loss below 0 is no success."""

from __future__ import annotations

from pathlib import Path

import pytest

from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

LOOP = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(200):
    rule.zero_grad()
    F.nll_loss(END, C[at]).backward()
    rule.step()
"""


@pytest.mark.parametrize(
    ("end", "severity"),
    [
        ("model(X[at])", "critical"),
        ("model(X[at]).softmax(1)", "warning"),
        ("F.log_softmax(model(X[at]), 1)", None),
    ],
    ids=["raw scores", "softmax", "log_softmax"],
)
def test_a_likelihood_below_zero_is_told_and_its_healthy_twin_is_not(
    end: str, severity: str | None, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(HEAD + LOOP.replace("END", end), encoding="utf-8")
    found, _ = watch_script(script, trials=0.0)
    assert found is not None
    assert found.healthy is (severity is None), str(found)
    if severity is not None:
        assert found.root is not None
        assert (found.root.symptom, found.root.severity) == ("output-activation", severity)
        assert "costs nothing" not in found.root.message
