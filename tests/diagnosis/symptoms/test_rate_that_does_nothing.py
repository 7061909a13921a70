"""A rate so small that nothing moves, in a script whose loss began below that of a constant guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

LOOP = """
torch.manual_seed(SEED)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
with torch.no_grad():  # weights that say something from the start
    model[0].weight[:10], model[0].weight[10:20] = torch.eye(10), -torch.eye(10)
    W = torch.linalg.lstsq(X, F.one_hot(C, 4).float()).solution.T
    model[2].weight[:, :10], model[2].weight[:, 10:20] = 2 * W, -2 * W
rule = torch.optim.RULE
for at in batches(150):
    rule.zero_grad()
    F.cross_entropy(model(X[at]), C[at]).backward()
    rule.step()
"""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("rule", "sick"),
    [
        ("SGD(model.parameters(), 1e-6)", True),
        ("Adam(model.parameters(), 1e-8)", True),
        ("SGD(model.parameters(), 0.1)", False),
        ("Adam(model.parameters(), 1e-4)", False),
    ],
)
def test_steps_that_move_nothing_are_told_where_the_start_was_better_than_a_guess(
    rule: str, sick: bool, seed: int, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(HEAD + LOOP.replace("RULE", rule).replace("SEED", str(seed)), encoding="utf-8")
    found, _ = watch_script(script, trials=0.0)
    assert found is not None
    assert found.verdict.startswith("Learning")
    assert found.healthy is not sick, str(found)
    if sick:
        assert found.root is not None
        assert found.root.symptom == "learning-rate-too-low"
        assert "took the loss from" in found.root.message
