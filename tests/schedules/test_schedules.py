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
    cosine_restarts,
    cyclic,
    exponential,
    inverse_sqrt,
    join,
    multiply,
    one_cycle,
    one_cycle_momentum,
    plateau,
    polynomial,
    stairs,
    step,
    warmup,
    warmup_stable_decay,
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
        if len(factors) < STEPS:
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
        (polynomial(STEPS), lambda o: SCHEDULERS.LinearLR(o, 1.0, 0.0, total_iters=STEPS)),
        (polynomial(STEPS, final=0.2), lambda o: SCHEDULERS.LinearLR(o, 1.0, 0.2, total_iters=STEPS)),
        (polynomial(40, power=2.5), lambda o: SCHEDULERS.PolynomialLR(o, total_iters=40, power=2.5)),
        (cosine_restarts(49), lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 7, 2)),
        (
            cosine_restarts(STEPS, cycles=4, growth=1, final=0.1),
            lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 13, 1, eta_min=0.1),
        ),
        (
            cosine_restarts(STEPS, cycles=3, growth=3),
            lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 4, 3),
        ),
        (one_cycle(STEPS), lambda o: SCHEDULERS.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False)),
        (
            one_cycle(STEPS, rise=0.45, start=0.1, final=1e-3, anneal="linear"),
            lambda o: SCHEDULERS.OneCycleLR(
                o,
                1.0,
                STEPS,
                pct_start=0.45,
                anneal_strategy="linear",
                div_factor=10,
                final_div_factor=100,
                cycle_momentum=False,
            ),
        ),
        (
            one_cycle(STEPS, rise=0.0),
            lambda o: SCHEDULERS.OneCycleLR(o, 1.0, STEPS, pct_start=0.0, cycle_momentum=False),
        ),
        (
            warmup_stable_decay(STEPS, rise=0.2, fall=0.4),
            lambda o: SCHEDULERS.LambdaLR(o, lambda t: min((t + 1) / 10, 1.0, (STEPS - t) / 20)),
        ),
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
        "line",
        "line to a fifth",
        "polynomial",
        "restarts that double",
        "restarts alike",
        "restarts that treble",
        "one cycle",
        "one cycle in lines",
        "one cycle without a rise",
        "warm-up, stable, decay",
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


def test_every_named_schedule_is_made_from_the_length_of_the_run_alone():
    rising = {"one_cycle", "warmup_stable_decay"}
    for name in names.TABLE["schedule"]:
        rate = names.resolve("schedule", name)(30)
        factors = [rate(t) for t in range(30)]
        assert max(factors) == pytest.approx(1.0, abs=0.01)
        assert all(0.0 <= factor <= 1.0 for factor in factors)
        assert factors[0] == 1.0 or name in rising
        again = {"cyclic", "cosine_restarts", "one_cycle_momentum"}
        assert factors == sorted(factors, reverse=True) or name in rising | again


def test_the_momentum_of_one_cycle_is_that_of_torchs_scheduler():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    scheduler = SCHEDULERS.OneCycleLR(optimizer, 1.0, STEPS, base_momentum=0.8, max_momentum=0.9)
    ours = one_cycle_momentum(STEPS, low=0.8 / 0.9)
    for t in range(STEPS):
        assert 0.9 * ours(t) == pytest.approx(optimizer.param_groups[0]["momentum"], rel=1e-12)
        optimizer.step()
        if t + 1 < STEPS:
            scheduler.step()


@pytest.mark.parametrize(
    ("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - math.sqrt(0.5)), ("square", 0.25)]
)
def test_the_fall_of_a_stable_rate_has_the_shape_that_was_asked_for(shape, half):
    rate = warmup_stable_decay(100, rise=0.1, fall=0.2, final=0.1, shape=shape)
    assert [rate(t) for t in (0, 4, 9, 10, 79, 80)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 1.0])
    assert rate(90) == pytest.approx(0.1 + 0.9 * half)
    assert rate(100) == rate(1000) == pytest.approx(0.1)


def test_a_stable_rate_that_never_falls_stays():
    assert [warmup_stable_decay(10, rise=0.0, fall=0.0)(t) for t in (0, 9, 50)] == [1.0] * 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"factor": 0.5, "patience": 2, "threshold": 0.1},
        {"factor": 0.5, "patience": 1, "cooldown": 2, "final": 0.1},
        {"factor": 0.3, "patience": 0, "threshold": 0.0},
    ],
)
def test_a_plateau_falls_when_torchs_does(settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    given = {key: value for key, value in settings.items() if key != "final"}
    scheduler = SCHEDULERS.ReduceLROnPlateau(
        optimizer, min_lr=settings.get("final", 0.0), eps=0.0, **{"factor": 0.1, **given}
    )
    ours = plateau(STEPS, **settings)
    draw = np.random.default_rng(0)
    falls = 0
    for t in range(80):
        loss = float(1 / (1 + t // 8) + 0.1 * draw.random()) if t != 33 else math.nan
        former = ours.factor
        scheduler.step(loss)
        ours.told(loss)
        assert ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        falls += ours.factor < former
    assert falls or not settings


def test_a_plateau_goes_on_from_its_state_and_counts_a_loss_below_zero_by_its_size():
    ours = plateau(10, factor=0.5, patience=1)
    for loss in (-1.0, -1.0, -0.99999):
        ours.told(loss)
    assert ours.factor == 0.5
    again = plateau(10, factor=0.5, patience=1)
    again.restore(ours.state())
    for each in (ours, again):
        each.told(-1.0)
        each.told(-1.1)
        each.told(-1.1)
    assert ours.state() == again.state()
    assert ours.factor == 0.5


@pytest.mark.parametrize(
    ("make", "before"),
    [
        (lambda inner: warmup(inner, 3), 3),
        (lambda inner: multiply(constant(9), inner), 0),
        (lambda inner: join([constant(4), inner], [4]), 4),
        (lambda inner: warmup(multiply(inner, constant(9)), 3), 3),
    ],
)
def test_a_plateau_inside_of_another_schedule_is_told_and_goes_on_from_its_state(make, before):
    rate, again = (make(plateau(10, factor=0.5, patience=0)) for _ in range(2))
    assert rate(before) == 1.0
    for _ in range(2):
        rate.told(1.0)
    assert rate(before + 1) == 0.5
    again.restore(rate.state())
    assert again(before + 1) == 0.5
    again.told(1.0)
    assert (rate(before + 1), again(before + 1)) == (0.5, 0.25)


def test_a_plateau_that_is_not_yet_running_does_not_fall():
    rate = join([constant(4), plateau(4, factor=0.5, patience=0)], [4])
    for t in range(8):
        rate(t)
        rate.told(1.0)  # of which four come too early, and the fifth is the best so far
    assert rate(8) == 0.5**3


def test_new_schedules_compose_as_the_others():
    rate = multiply(warmup(polynomial(8), 2), join([constant(4), cosine_restarts(4, cycles=1)], [4]))
    assert [rate(t) for t in (0, 1, 2, 4, 6)] == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5 * 0.5])


def test_a_cycle_falls_in_a_line_and_begins_anew():
    rate = cyclic(12, cycles=3, final=0.1)
    np.testing.assert_allclose([rate(t) for t in range(13)], [1.0, 0.7, 0.4, 0.1] * 3 + [1.0])
    assert [cyclic(5, cycles=9)(t) for t in range(5)] == pytest.approx([1.0, 0.1, 1.0, 0.1, 1.0])


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
        (lambda: polynomial(5, power=0), r"power=0: must lie in \(0, inf\)"),
        (lambda: polynomial(5, final=2), r"final=2: must lie in \[0, 1\]"),
        (lambda: cosine_restarts(5, cycles=0), "cycles=0: must be a whole number from 1"),
        (lambda: cosine_restarts(5, growth=1.5), "growth=1.5: must be a whole number from 1"),
        (lambda: one_cycle(5, rise=1.1), r"rise=1.1: must lie in \[0, 1\], it is a share of the run"),
        (lambda: one_cycle(5, anneal="sine"), "anneal='sine': must be 'cos' or 'linear'"),
        (lambda: one_cycle_momentum(5, low=-0.1), r"low=-0.1: must lie in \[0, 1\]"),
        (lambda: warmup_stable_decay(5, rise=0.6, fall=0.5), "shares of one run, at most 1 together"),
        (lambda: warmup_stable_decay(5, shape="flat"), "shape='flat': must be one of linear, cosine"),
        (lambda: plateau(5, factor=1), "factor=1: must lie in"),
        (lambda: plateau(5, patience=-1), "patience=-1: must be a whole number from 0"),
        (lambda: plateau(5, cooldown=1.5), "cooldown=1.5: must be a whole number from 0"),
        (lambda: cosine(5, final="a"), r"final='a': must lie in \[0, 1\]"),
        (lambda: one_cycle(5, rise=None), r"rise=None: must lie in \[0, 1\]"),
        (lambda: polynomial(5, power="a"), r"power='a': must lie in \(0, inf\)"),
        (lambda: stairs(5, at=["a", 0.5]), r"at=\['a', 0.5\]: must rise within"),
        (lambda: warmup(3, 4), "3 is no schedule: give a function of the step"),
        (lambda: multiply(constant(5), 3), "3 is no schedule"),
        (lambda: join([1, constant(5)], [1]), "1 is no schedule"),
        (lambda: join([constant(5)], [3]), "1 schedules and 1 lengths"),
        (lambda: join([constant(5), constant(5)], [0]), "lengths=0: must be"),
    ],
)
def test_argument_outside_its_domain_is_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()


def of_ten():
    return constant(10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: join([of_ten(), of_ten()]), "2 schedules and 0 lengths: .* as in join"),
        (lambda: join([of_ten(), of_ten()], 3), "lengths=3: must be a list, as in join"),
        (lambda: join([of_ten(), of_ten()], "3"), "lengths='3': must be a list, as in join"),
        (lambda: join(of_ten(), []), "schedules=.*: must be a list, as in join"),
        (lambda: join([], []), "0 schedules and 0 lengths"),
        (multiply, "no schedules were given: give at least one"),
        (lambda: stairs(10, at=3), "at=3: must be a list, such as"),
        (lambda: stairs(10, factors="low"), "factors='low': must be a list, such as"),
    ],
)
def test_what_composes_no_schedule_is_refused_in_one_line(make, message):
    with pytest.raises(RecipeError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


MADE = {name: names.resolve("schedule", name)(10) for name in names.TABLE["schedule"]} | {
    "stairs": stairs(10),
    "momentum": one_cycle_momentum(10),
    "joined": join([of_ten(), of_ten()], [3]),
    "multiplied": multiply(of_ten(), plateau(10)),
    "warmed": warmup(of_ten(), 3),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("t", [-1, 2.5, "a", None, math.nan, math.inf, -3.0, torch.ones(2)])
def test_a_schedule_is_asked_for_whole_numbers_of_steps_only(name, t):
    with pytest.raises(RecipeError, match=r"was asked for step .*: must be a whole number from 0"):
        MADE[name](t)


@pytest.mark.parametrize("name", MADE)
def test_a_whole_number_of_any_kind_is_a_step(name):
    rate = MADE[name]
    assert rate(np.int64(3)) == rate(3.0) == rate(torch.tensor(3)) == rate(3)
