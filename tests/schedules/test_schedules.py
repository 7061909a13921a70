"""Schedules against torch's own schedulers, by hand where torch has none, and on wrong arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from downslope.core import names
from downslope.core.errors import RecipeError
from downslope.schedules import (
    constant,
    cosine,
    cyclic,
    exponential,
    inverse_sqrt,
    join,
    multiply,
    stairs,
    step,
    warmup,
)

STEPS = 50
SCHEDULERS = torch.optim.lr_scheduler


def torch_factors(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(STEPS):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (step(STEPS, every=7, factor=0.5), lambda o: SCHEDULERS.StepLR(o, 7, 0.5)),
        (step(STEPS), lambda o: SCHEDULERS.StepLR(o, 17, 0.1)),
        (stairs(STEPS), lambda o: SCHEDULERS.MultiStepLR(o, [25, 38], 0.1)),
        (stairs(STEPS, at=[0.2, 0.9], factors=[3, 9]), lambda o: SCHEDULERS.MultiStepLR(o, [10, 45], 3.0)),
        (exponential(STEPS, final=0.02), lambda o: SCHEDULERS.ExponentialLR(o, 0.02 ** (1 / STEPS))),
        (cosine(STEPS, final=0.1), lambda o: SCHEDULERS.CosineAnnealingLR(o, STEPS, eta_min=0.1)),
        (constant(STEPS), lambda o: SCHEDULERS.ConstantLR(o, 1.0)),
        (
            warmup(constant(STEPS), 10, start=0.2),
            lambda o: SCHEDULERS.LambdaLR(o, lambda t: min(0.2 + 0.8 * (t + 1) / 10, 1.0)),
        ),
    ],
    ids=[
        "step",
        "step default",
        "stairs default",
        "stairs that rise",
        "exponential",
        "cosine",
        "constant",
        "warmup",
    ],
)
def test_factor_is_that_of_torch_scheduler(ours, theirs):
    assert [ours(t) for t in range(STEPS)] == pytest.approx(torch_factors(theirs), rel=1e-12, abs=1e-15)


def test_inverse_sqrt_halves_its_square_after_one_timescale():
    rate = inverse_sqrt(100, timescale=8)
    assert rate(0) == 1.0
    assert rate(8) ** 2 == pytest.approx(1 / 2)
    assert rate(24) ** 2 == pytest.approx(1 / 4)


def test_inverse_sqrt_takes_a_tenth_of_the_run_as_timescale():
    assert inverse_sqrt(500)(50) == pytest.approx(math.sqrt(1 / 2))


@pytest.mark.parametrize(
    "given",
    [{"at": [0.5, 0.2], "factors": [1, 1]}, {"at": [0.0], "factors": [1]}, {"at": [0.5], "factors": [1, 2]},
     {"at": [0.5], "factors": [-1]}],
)  # fmt: skip
def test_stairs_that_do_not_rise_in_time_or_have_no_height_are_refused(given):
    with pytest.raises(RecipeError, match="must"):
        stairs(10, **given)


def test_cosine_stays_at_its_final_factor():
    assert cosine(10, final=0.25)(10) == 0.25
    assert cosine(10, final=0.25)(1000) == 0.25


def test_warmup_hands_over_to_the_first_step_of_its_schedule():
    rate = warmup(cosine(4), 3)
    assert [rate(t) for t in range(7)] == pytest.approx(
        [1 / 3, 2 / 3, 1.0, 1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]
    )


def test_join_starts_each_schedule_at_its_own_first_step():
    rate = join([lambda t: 10 + t, lambda t: 20 + t, lambda t: 30 + t], [2, 3])
    assert [rate(t) for t in range(7)] == [10, 11, 20, 21, 22, 30, 31]


def test_multiply_is_the_product():
    assert multiply(lambda t: t, lambda t: t + 1)(3) == 12
    assert multiply()(3) == 1


def test_every_named_schedule_is_made_from_the_length_of_the_run_alone():
    for name in names.TABLE["schedule"]:
        rate = names.resolve("schedule", name)(30)
        factors = [rate(t) for t in range(30)]
        assert factors[0] == 1.0
        assert all(0.0 <= factor <= 1.0 for factor in factors)
        assert factors == sorted(factors, reverse=True) or name == "cyclic"


def test_a_cycle_falls_in_a_line_and_begins_anew():
    rate = cyclic(12, cycles=3, final=0.1)
    np.testing.assert_allclose([rate(t) for t in range(13)], [1.0, 0.7, 0.4, 0.1] * 3 + [1.0])
    assert [cyclic(5, cycles=9)(t) for t in range(5)] == [1.0] * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine(0), "total_steps=0: must be a whole number from 1"),
        (lambda: cosine(2.5), "total_steps=2.5: must be a whole number from 1"),
        (lambda: constant(True), "total_steps=True: must be a whole number from 1"),
        (lambda: cyclic(5, cycles=0), "cycles=0: must be a whole number from 1"),
        (lambda: cosine(5, final=-0.1), r"final=-0.1: must lie in \[0, 1\]"),
        (lambda: cosine(5, final=math.nan), r"final=nan: must lie in \[0, 1\]"),
        (lambda: exponential(5, final=0.0), r"final=0.0: must lie in \(0, 1\]"),
        (lambda: step(5, every=0), "every=0: must be"),
        (lambda: step(5, factor=2), r"factor=2: must lie in \(0, 1\]"),
        (lambda: inverse_sqrt(5, timescale=0), "timescale=0: must be"),
        (lambda: warmup(constant(5), 0), "steps=0: must be"),
        (lambda: warmup(constant(5), 5, start=1.5), r"start=1.5: must lie in \[0, 1\]"),
        (lambda: join([constant(5)], [3]), "1 schedules and 1 lengths"),
        (lambda: join([constant(5), constant(5)], [0]), "lengths=0: must be"),
    ],
)
def test_argument_outside_its_domain_is_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
