from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core import edits
from downslope.core.errors import InputError
from downslope.data import breast_cancer, digits
from downslope.diagnosis.candidates import joined, size
from downslope.diagnosis.paired import difference

STEPS = "1000000 steps"  # so that no clock decides
TABLE = digits(scale=16.0)


def problem(end: type[nn.Module] | None = None) -> ds.Problem:
    def make() -> nn.Module:
        last = [end(1) if end is nn.Softmax else end()] if end is not None else []  # type: ignore[call-arg]
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), *last)

    return ds.Problem(
        model=make, objective=nn.CrossEntropyLoss(), train=TABLE.train, valid=TABLE.valid, metric="accuracy"
    )


def recipe(**changes: object) -> ds.Recipe:
    return ds.Recipe(**({"optimizer": "sgd", "lr": 0.2, "epochs": 10} | changes))  # type: ignore[arg-type]


def test_the_interval_is_that_of_students_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    after, before = np.array([0.9, 0.95, 0.8, 0.97]), np.array([0.1, 0.3, 0.2, 0.15])
    found = difference(after.tolist(), before.tolist())
    want = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((want.low, want.high), rel=1e-3)


def test_a_single_pair_is_never_sure() -> None:
    assert not difference([1.0], [0.0]).sure
    assert math.isnan(difference([1.0], [0.0]).low)


def test_a_healthy_problem_has_nothing_to_fix() -> None:
    found = ds.repair(problem(), recipe(), budget=STEPS, progress=False, folder=False)
    assert found.kept is None
    assert not found.trials
    assert str(found) == "Healthy, nothing to fix."


def test_a_rate_that_is_too_high_is_lowered_and_the_gain_is_proved(tmp_path: Path) -> None:
    found = ds.repair(problem(), recipe(lr=60.0), budget=STEPS, progress=False, folder=False)
    assert found.kept is not None
    assert found.before is not None
    assert found.after is not None
    assert found.after > 0.85 > 0.3 > found.before
    kept = next(each for each in found.trials if each.verdict == "kept")
    assert kept.gain.low > 0.5
    assert len(kept.before) == len(kept.after) == 3
    saved, problem_edits = edits.load(found.save(tmp_path / "fixed.toml"))
    assert saved == found.recipe
    assert problem_edits == ()
    assert found.diff.startswith("optimisation  lr 60 -> ")
    assert json.loads(found.to_json())["kept"]["kind"] == "set-recipe"


def test_what_is_repaired_trains_as_the_trial_did() -> None:
    found = ds.repair(problem(nn.Softmax), recipe(lr=0.05), budget=STEPS, progress=False, folder=False)
    assert str(found.kept).startswith("objective -> categorical")
    run = ds.fit(found.problem, found.recipe, folder=False, progress=False)
    kept = next(each for each in found.trials if each.verdict == "kept")
    assert float(np.nanmax(run.history["valid_metric"][1:])) == pytest.approx(kept.after[0])
    output = run.model()(TABLE.train[0][:4])
    torch.testing.assert_close(output.sum(1), torch.ones(4))  # a probability stays a probability


def test_a_module_that_is_replaced_comes_with_the_change_in_code() -> None:
    table = breast_cancer(standardise=True)

    def as_float(part: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return part[0], part[1].float().unsqueeze(1)

    assert table.valid is not None
    made = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(30, 1), nn.Softmax(1)), objective=nn.BCELoss(),
        train=as_float(table.train), valid=as_float(table.valid), metric="accuracy",
    )  # fmt: skip
    found = ds.repair(made, recipe(epochs=20), budget=STEPS, progress=False, folder=False)
    assert "1 -> Sigmoid" in found.diff
    assert "becomes torch.nn.Sigmoid()" in found.diff
    assert found.after is not None
    assert found.after > 0.9


def test_what_can_only_be_done_by_hand_is_told_as_unproved() -> None:
    x, y = TABLE.train
    made = ds.Problem(
        model=lambda: nn.Linear(64, 10), objective="cross_entropy", train=(x, torch.full_like(y, 3))
    )
    found = ds.repair(made, recipe(), budget=STEPS, progress=False, folder=False)
    assert found.kept is None
    assert "unproved: " in str(found)
    assert found.problem is made


def test_what_is_worse_than_a_constant_guess_is_told_as_measured_and_counts_as_one() -> None:
    table = ds.data.diabetes()
    (x, y), (xv, yv) = table.train, table.valid
    made = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)), objective="mse",
        train=(x, 1000 * y), valid=(xv, 1000 * yv), metric="r2",
    )  # fmt: skip
    how = ds.Recipe(optimizer="adam", lr=1e-3, epochs=10)
    found = ds.repair(made, how, budget="400 steps", progress=False, folder=False)
    kept = next(each for each in found.trials if each.verdict == "kept")
    alone = [ds.fit(made, how.edit(seed=s), folder=False, progress=False).summary for s in kept.seeds]
    assert found.before == pytest.approx(np.mean([each["valid_metric"] for each in alone]))
    assert found.before < -1
    held, mean = yv.double(), y.double().mean()
    assert found.floor == pytest.approx(
        float(1 - (held - mean).square().mean() / held.var(correction=0)), abs=1e-6
    )
    assert kept.gain.mean == pytest.approx(np.mean(kept.after) - found.floor)
    assert "worse than a constant guess" in str(found)


def test_one_seed_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        ds.repair(problem(), recipe(), seeds=1)


def test_a_smaller_change_counts_less() -> None:
    lr = edits.SetRecipe({"lr": 0.1})
    both = edits.Combined((lr, edits.StandardiseInputs()))
    assert size(lr) == size(edits.StandardiseInputs()) < size(both)
    assert size(lr) < size(edits.ReplaceModule("0", "torch.nn:ReLU"))


def test_a_later_value_takes_the_place_of_an_earlier_one_and_both_are_told_from_the_untouched_recipe() -> (
    None
):
    how = recipe(lr=0.2)
    first = edits.Combined((edits.SetRecipe({"lr": 0.01}), edits.StandardiseInputs()))
    both = joined(first, edits.SetRecipe({"lr": 0.03}, {"lr": 0.01}), how)
    assert str(both) == "standardise the inputs and lr 0.2 -> 0.03"
    assert str(joined(both, edits.StandardiseInputs(), how)) == str(both)
    longer = joined(edits.SetRecipe({"steps": 50}), edits.SetRecipe({"epochs": 30}), how)
    assert str(longer) == "epochs 10 -> 30"
