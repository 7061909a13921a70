"""Cliff: a single step that threw the loss up for good, and the leaps that are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downslope.core.edits import SetRecipe
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.swing import leap
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.cliff import cliff
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Pair, diagnosed, problem, recipe
from tests.diagnosis.symptoms.trying import FAR, finding, tried

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


class Walled(nn.Module):
    """A recurrence over the rows of an image, orthogonal times `norm`: beyond 1 its loss has walls."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.cell, self.out = nn.RNN(8, 32, batch_first=True), nn.Linear(32, 10)
        nn.init.orthogonal_(self.cell.weight_hh_l0)
        with torch.no_grad():
            self.cell.weight_hh_l0.mul_(norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x.reshape(-1, 8, 8))[0][:, -1])


def walled(norm: float, **how: Any) -> Any:
    task = problem(PARTS, lambda: Walled(norm), "cross_entropy", "accuracy")
    return task, recipe(optimizer="sgd", lr=0.15, momentum=0.9, epochs=7, batch_size=64, **how)


def test_a_recurrence_with_walls_is_blamed_for_its_step_and_clipped_it_is_healthy() -> None:
    """A smaller step mends it as well as clipping, and is the earlier cause."""
    result = diagnosed(*walled(3.0))
    assert result.root is not None
    assert result.root.symptom in ("cliff", "learning-rate-too-high", "exploding-gradient")
    assert diagnosed(*walled(2.0, clip_norm=0.3)).healthy


def fallen(height: float = 40.0, after: float | None = None, share: float | None = None) -> Run:
    """Down to 0.1 in 100 steps; step 101 throws it up to `height`, where it stays unless `after` is given."""
    losses = np.concatenate([np.geomspace(2.3, 0.1, 100), np.full(100, height if after is None else after)])
    losses[100] = height
    return tried(run(losses, references=FAR), "cliff", share)


def test_a_step_that_throws_the_loss_up_for_good_is_found_at_its_place() -> None:
    told = finding(cliff(fallen(share=0.9)))
    assert told.where.steps == (101, 101)
    assert told.severity == "critical"
    before = np.median(np.geomspace(2.3, 0.1, 100)[80:])
    assert told.evidence.value == pytest.approx(40.0 / before)
    assert told.remedies[0] == SetRecipe({"clip_norm": 1.0})


def test_a_trial_decides() -> None:
    assert finding(cliff(fallen())).severity == "info"
    assert isinstance(cliff(fallen(share=0.02)), Clear)
    looked_at = fallen()
    del looked_at.facts["trials"]
    assert isinstance(cliff(looked_at), Unknown)


def test_one_hard_batch_one_before_anything_was_learnt_and_a_small_step_up_are_no_cliffs() -> None:
    assert isinstance(cliff(fallen(after=0.1, share=0.9)), Clear)
    assert isinstance(cliff(fallen(height=0.4, share=0.9)), Clear)
    early = np.full(200, 2.3)
    early[50:] = 40.0
    assert isinstance(cliff(tried(run(early, references=FAR), "cliff", 0.9)), Clear)


def test_a_run_that_came_back_in_the_end_is_well() -> None:
    losses = np.concatenate([np.geomspace(2.3, 0.1, 100), np.geomspace(40.0, 0.1, 100)])
    assert isinstance(cliff(tried(run(losses, references=FAR), "cliff", 0.9)), Clear)


def test_a_leap_that_lasts_comes_before_a_higher_one_that_does_not() -> None:
    losses = np.full(200, 1.0)
    losses[60] = 90.0
    losses[120:] = 10.0
    found = leap(run(losses))
    assert found is not None
    assert (found.step, found.times, found.lasts, found.leaps) == (121, 10.0, True, 2)


def test_noise_leaps_for_good_at_less_than_one_place_in_a_thousand() -> None:
    lasting = 0
    for seed in range(60):
        noise = np.exp(np.random.default_rng(seed).standard_normal(200))
        found = leap(run(noise))
        lasting += found is not None and found.lasts
    assert lasting / (60 * 170) < 1e-3


def test_a_leap_out_of_the_numbers_is_one_beyond_all_of_them() -> None:
    losses = np.geomspace(2.3, 0.1, 100)
    losses[80:] = math.nan
    found = leap(run(losses))
    assert found is not None
    assert math.isinf(found.times)
    assert (found.step, found.lasts) == (81, True)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0] * 25, [-1.0] * 100, [math.nan] * 100, [0.0] * 100])
def test_runs_without_a_leap(losses: Any) -> None:
    assert leap(run(losses)) is None
    assert not isinstance(cliff(run(losses)), Finding)


def test_where_no_step_raised_the_loss_no_number_of_times_is_told() -> None:
    calm = cliff(run(np.linspace(2.0, 1.0, 200)))
    assert isinstance(calm, Clear)
    assert calm.evidence == "no step raised the loss"
    uneven = cliff(run(np.linspace(2.0, 1.0, 200) + 0.2 * (np.arange(200) % 50 == 49)))
    assert isinstance(uneven, Clear)
    assert uneven.evidence.startswith("no step raised the loss")
    assert " 1 times" not in uneven.evidence


def test_what_the_terrain_says_of_the_step_is_told_where_it_was_taken_once_more() -> None:
    made = fallen(share=0.9)
    made.facts["wall"] = {
        "step": 100, "loss": 0.1, "happened": 39.0, "foretold": 55.0, "slope": -0.2, "curvature": 110.0,
        "share": 0.31, "losses": [0.1, 2.0, 15.0, 39.1],
    }  # fmt: skip
    told = finding(cliff(made))
    assert "Step 100 moved the weights by 0.31 of their length" in told.message
    assert "rose by 39" in told.message
    assert told.also[0].value == 39.0
    made.facts["wall"] |= {"happened": None, "foretold": None}
    assert "left the numbers" in finding(cliff(made)).message
    made.facts["wall"] |= {"happened": -0.1}
    assert "Step 100" not in finding(cliff(made)).message
