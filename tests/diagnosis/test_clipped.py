"""Gradients that are clipped to nothing, beside norms that are alike or small by nature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.clipped import clipped
from downslope.diagnosis.judge import judge
from downslope.diagnosis.script import watch_script
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.watched import HEAD

STEPS = (1, 2, 3, 40, 120)


def watched(norms: Any, losses: Any = None, rule: str = "sgd", **more: Any) -> Run:
    """A run that stands, whose sampled steps had these norms."""
    noise = np.random.default_rng(0).normal(0.0, 0.05, 200)
    made = run(2.3 + noise if losses is None else losses)
    made.recipe = None
    made.facts["optimizer"] = {"name": rule, "lr": 0.1} | more
    made.facts["modules"] = {"0": {"parameters": 10_000, "norm": False}}
    made.history.extend("grad_norm", list(STEPS), [float(each) for each in norms])
    return made


def test_one_norm_of_all_batches_is_a_clip() -> None:
    found = clipped(watched([3.7e-5] * 5))
    assert found is not None
    assert (found.norm, found.looks) == (pytest.approx(3.7e-5), 5)


@pytest.mark.parametrize(
    "made",
    [
        watched([1e-5, 1.1e-5, 1e-5, 0.9e-5, 1e-5]),  # small, and its own
        watched([1.0] * 5),  # clipped as usual
        watched([1e-4] * 5, rule="adamw", eps=1e-8),  # divided by its own size again
        watched([3.7e-5] * 5, losses=np.full(200, 2.3)),  # one batch of all the data, and nothing moves
    ],
)
def test_what_is_small_alike_or_harmless_is_none(made: Run) -> None:
    assert clipped(made) is None


def test_of_one_batch_a_round_norm_tells() -> None:
    assert clipped(watched([1e-4] * 5, losses=np.full(200, 2.3))) is not None


def test_below_its_eps_an_adaptive_method_does_not_undo_the_clip() -> None:
    assert clipped(watched([1e-7] * 5, rule="adamw", eps=1e-8)) is not None


SCRIPT = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches(300):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), NORM)
    rule.step()
"""


def test_a_script_that_clips_to_nothing_is_told_of_its_clip_and_not_of_its_rate(tmp_path: Path) -> None:
    (path := tmp_path / "train.py").write_text(HEAD + SCRIPT.replace("NORM", "1e-4"))
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-low"
    assert "clipped to a norm of 0.0001" in found.root.message
    assert "clip to a norm of 1" in str(found.root.remedies[0])


def test_its_twin_clips_to_one(tmp_path: Path) -> None:
    (path := tmp_path / "train.py").write_text(HEAD + SCRIPT.replace("NORM", "1.0"))
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    assert found.healthy, str(found)


def test_a_recipe_that_clips_to_nothing_is_mended_by_its_clip() -> None:
    wine = ds.data.wine(standardise=True)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=wine.train, valid=wine.valid)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=32, epochs=20, clip_norm=1e-5)
    found = diagnosed(problem, recipe)
    assert found.root is not None, str(judge(found.run))
    assert found.root.symptom == "learning-rate-too-low"
    assert str(found.root.remedies[0]).startswith("clip_norm 1e-05 -> 1")
