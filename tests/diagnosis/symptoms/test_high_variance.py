"""Overfitting: the share of the way that is missing on validation data, against scores made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.edits import SetRecipe
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.high_variance import high_variance
from tests.diagnosis.runs import learnt, problem


def scored(train: float | None, valid: float | None, *, n: int = 400, **changes: Any) -> Run:
    """A run that learnt; its accuracies on both parts beside a constant guess with 0.5."""
    made = learnt()
    made.facts["constant"] = {"loss": 0.7, "metric": 0.5, "valid_loss": 0.7, "valid_metric": 0.5}
    made.facts["ending"] = {
        "steps": 200, "train_loss": 0.02, "train_metric": train, "train_stderr": 0.001, "train_n": n,
        "valid_loss": 0.4, "valid_metric": valid, "valid_stderr": 0.01, "valid_n": n,
        "best_valid_loss": 0.4, "best_valid_metric": valid,
    }  # fmt: skip
    made.problem = problem(**changes)
    return made


def judged(made: Run) -> Finding:
    found = high_variance(made)
    assert isinstance(found, Finding)
    return found


def validated(made: Run, *values: float) -> Run:
    """Validation losses after every 20 steps."""
    made.history.extend("valid_loss", list(range(20, 20 * len(values) + 1, 20)), list(values))
    return made


def test_a_model_that_learnt_its_examples_and_nothing_else_is_warned_of() -> None:
    found = judged(scored(1.0, 0.6))
    assert found.evidence.value == pytest.approx((1.0 - 0.6) / (1.0 - 0.5))  # 0.8, above three quarters
    assert found.also[0].value == pytest.approx(0.4 / (0.6 * 0.4 / 400) ** 0.5)
    assert found.severity == "warning"
    assert "next to no use" in found.message


def test_a_model_that_lost_less_than_three_quarters_is_only_told_of() -> None:
    found = judged(scored(1.0, 0.65))  # 0.7 is missing
    assert found.severity == "info"
    assert "no use" not in found.message


def test_a_goal_reached_in_training_and_missed_in_validation_is_warned_of() -> None:
    assert judged(scored(1.0, 0.8)).severity == "info"  # 0.4 is missing
    assert judged(scored(1.0, 0.8, goal=0.95)).severity == "warning"


@pytest.mark.parametrize(("train", "goal"), [(0.9, 0.95), (1.0, 0.75)], ids=["missed twice", "reached twice"])
def test_a_goal_that_both_parts_reach_or_miss_makes_no_warning(train: float, goal: float) -> None:
    made = scored(train, 0.8 if goal < 0.8 else 0.7, goal=goal)
    assert judged(made).severity == "info"
    made.summary["valid_metric"] = made.facts["ending"]["valid_metric"]
    assert judged(made).severity == "info"


def test_a_validation_score_that_was_not_had_has_missed_no_goal() -> None:
    # The gap is that of the losses: (0.4 - 0.02) / (0.7 - 0.02) = 0.56 of the way, in 38 standard errors.
    found = judged(scored(1.0, None, goal=0.95))
    assert found.evidence.value == pytest.approx(0.38 / 0.68)
    assert found.severity == "info"


def test_a_perfect_training_score_is_not_good_enough_where_validation_has_none() -> None:
    made = scored(1.0, None)
    made.facts["ending"] |= {"valid_loss": 0.69, "best_valid_loss": 0.69}  # 99 % of the way is missing
    assert judged(made).severity == "warning"


def test_a_gap_within_three_standard_errors_is_cleared() -> None:
    # Of 20 examples: 0.2 is 2.2 times (0.8 * 0.2 / 20) ** 0.5 = 0.089.
    found = high_variance(scored(1.0, 0.8, n=20))
    assert isinstance(found, Clear)
    assert "2.2 standard errors" in found.evidence


def test_a_gap_below_the_limit_is_cleared_however_sure() -> None:
    assert isinstance(high_variance(scored(1.0, 0.93, n=100_000)), Clear)  # 14 % is missing
    assert isinstance(high_variance(scored(1.0, 0.92, n=100_000)), Finding)  # 16 %


def test_a_gap_at_a_level_that_is_near_perfect_is_only_told_of() -> None:
    # From 0.5 the way to 1 is 0.5, of which 0.96 covers 92 %, though the loss rose by all of it after that.
    made = validated(scored(1.0, 0.8), 0.6, 0.3, 0.1, 0.1, 0.1, 0.3, 0.5, 0.6, 0.6, 0.6)
    made.facts["ending"]["best_valid_metric"] = 0.96
    assert judged(made).severity == "info"


def test_a_validation_loss_that_turned_and_rose_is_warned_of_with_the_step_to_stop_at() -> None:
    # Means over three: lowest of .2, .1, .2 at step 60; at the end 0.5. (0.5 - 1/6) / (0.7 - 1/6) = 0.625.
    made = validated(scored(1.0, 0.8), 0.6, 0.2, 0.1, 0.2, 0.4, 0.4, 0.5, 0.5, 0.5)
    found = judged(made)
    assert found.severity == "warning"
    assert found.also[1].value == pytest.approx((0.5 - 0.5 / 3) / (0.7 - 0.5 / 3))
    assert "Stopping at step 60" in found.message


@pytest.mark.parametrize(("valid", "severity"), [(0.825, "info"), (0.81, "warning")])
def test_stopping_early_gives_back_no_more_than_is_missing_by_the_metric(valid: float, severity: str) -> None:
    # 0.19 and 0.22 of the way from 0.5 to 0.9 are missing; the loss rose by 0.625 of its own way both times.
    made = validated(scored(0.9, valid, n=4000), 0.6, 0.2, 0.1, 0.2, 0.4, 0.4, 0.5, 0.5, 0.5)
    assert judged(made).severity == severity


TURNED = (0.6, 0.2, 0.1, 0.2, 0.4, 0.4, 0.5, 0.5, 0.5)


def followed(metric: list[float], loss: tuple[float, ...] = TURNED, n: int = 4000) -> Run:
    """A run whose loss turned, and the accuracies at the same steps."""
    made = validated(scored(0.95, metric[-1], n=n, metric="accuracy"), *loss)
    made.history.extend("valid_metric", list(range(20, 20 * len(metric) + 1, 20)), metric)
    return made


def test_wrong_answers_that_get_surer_while_no_more_are_wrong_are_only_told_of() -> None:
    # The loss rose by 0.625 of its way; the accuracy stays at 0.8, where stopping early wins nothing.
    assert judged(followed([0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])).severity == "info"
    assert judged(followed([0.7, 0.85, 0.85, 0.85, 0.8, 0.78, 0.75, 0.75, 0.75])).severity == "warning"


def test_an_accuracy_that_fell_within_its_errors_is_no_reason_to_stop() -> None:
    # From 0.85 to 0.75: 2 (0.75 * 0.25 / 60) ** 0.5 = 0.11 of 60 examples, 0.04 of 400.
    fell = [0.7, 0.85, 0.85, 0.85, 0.8, 0.78, 0.75, 0.75, 0.75]
    assert judged(followed(fell, n=60)).severity == "info"
    assert judged(followed(fell, n=400)).severity == "warning"


def test_a_loss_that_ends_no_better_than_a_guess_is_warned_of_whatever_the_accuracy() -> None:
    # Means over three: 1/6 at best, 0.9 at the end, beyond the 0.7 of a constant.
    loss = (0.6, 0.2, 0.1, 0.2, 0.4, 0.6, 0.9, 0.9, 0.9)
    assert judged(followed([0.7] + 8 * [0.8], loss)).severity == "warning"


def test_a_validation_loss_that_rises_a_little_is_no_reason_to_stop() -> None:
    # From 0.2 to 0.3 of 0.5: a fifth of the way, which a lucky epoch explains as well.
    made = validated(scored(1.0, 0.8), 0.6, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3)
    assert judged(made).severity == "info"


def test_patience_is_offered_to_a_recipe_in_epochs_and_decay_to_one_without() -> None:
    made = validated(scored(1.0, 0.8), 0.6, 0.2, 0.1, 0.2, 0.4, 0.4, 0.5, 0.5, 0.5)
    assert made.recipe is not None
    made.recipe = made.recipe.edit(epochs=60, steps=None, weight_decay=0.0)
    changes = [each.changes for each in judged(made).remedies if isinstance(each, SetRecipe)]
    assert changes[0] == {"patience": 6}
    assert changes[2] == {"weight_decay": 0.01}
    # The smoothed loss turned at the third of the nine evaluations.
    steps, best = made.summary["steps"], judged(made).where.steps
    assert best is not None
    assert changes[1] == {"epochs": round(60 * best[0] / steps)}
    made.recipe = made.recipe.edit(epochs=None, steps=steps, patience=5, weight_decay=0.1)
    assert not [each for each in judged(made).remedies if each.provable]


def test_a_run_that_stands_still_has_no_variance() -> None:
    made = scored(0.5, 0.5)
    made.history.extend("train_loss", list(range(1, 201)), np.full(200, 0.7).tolist())
    made.facts["ending"]["train_loss"] = 0.7
    found = high_variance(made)
    assert isinstance(found, Clear)
    assert "did not learn its training data either" in found.evidence


def test_without_validation_data_nothing_is_said() -> None:
    made = scored(1.0, None, n=0)
    made.facts["ending"]["valid_loss"] = None
    found = high_variance(made)
    assert isinstance(found, Unknown)
    assert "no validation data" in found.reason


def test_a_loss_beyond_that_of_a_constant_guess_is_told_as_such_and_as_no_share() -> None:
    made = scored(None, None)
    made.facts["ending"] |= {"valid_loss": 92.7, "best_valid_loss": 92.7, "valid_stderr": 2.0}
    found = judged(made)
    assert found.evidence.value > 100
    assert "nothing is left on validation data: loss 92.7 there, 0.7 for a constant guess" in found.message
    assert "%" not in found.message


@pytest.mark.parametrize(
    ("shape", "kind", "augment", "said"),
    [
        ([1, 28, 28], "image", None, "augment -> shift(4)"),
        ([3, 32, 48], "image", None, "augment -> shift(4)"),
        ([1, 8, 8], "image", None, "augment -> shift(1)"),
        ([1, 28, 28], "image", "flip", None),
        ([28, 28, 1], "image", None, None),
        ([64], "tabular", None, None),
    ],
)
def test_images_that_nothing_augments_are_to_be_shifted_by_an_eighth(
    shape: list[int], kind: str, augment: str | None, said: str | None
) -> None:
    made = scored(1.0, 0.6)
    made.facts["data"] = {"kind": kind, "shape": shape}
    made.problem = problem(augment=augment)
    remedies = [str(each) for each in judged(made).remedies]
    assert [each for each in remedies if each.startswith("augment")] == ([said] if said else [])
    other = "other augmentation" if said else "augmentation"
    assert remedies[-1] == f"more training data, {other}, dropout, or a smaller model"


def test_where_a_pattern_may_stand_anywhere_a_trial_proves_the_shift() -> None:
    draw = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(count) % 2
        x = 0.1 * torch.randn(count, 1, 16, 16, generator=draw)
        for image, label, (i, j) in zip(x, y, torch.randint(12, (count, 2), generator=draw), strict=True):
            image[0, i : i + 4, j : j + 2] += 1.0 - label  # an upright bar, or a lying one
            image[0, i : i + 2, j : j + 4] += label
        return x, y

    task = ds.Problem(
        model="cnn", objective="cross_entropy", train=part(24), valid=part(400), metric="accuracy", goal=1.0
    )
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, batch_size=8, epochs=60, patience=60, weight_decay=1e-3)
    found = ds.diagnose(task, recipe, budget="200 steps", folder=False, progress=False)
    assert found.root is not None
    assert found.root.symptom == "high-variance"
    fixed = ds.repair(task, recipe, diagnosis=found, budget="200 steps", progress=False)
    (shifted,) = [each for each in fixed.trials if str(each.edit) == "augment -> shift(2)"]
    assert shifted.verdict in ("kept", "works")
