"""What the first steps did, told from losses made by hand: thrown up, recovered, killed, risen, NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.early import ever_rose, killed, little, risen, short, spike, sudden, thrown
from downslope.diagnosis.judge import judge, verdict
from downslope.diagnosis.progress import progress
from tests.diagnosis.runs import learnt, problem, run

START = {"loss": 2.0, "layers": [], "norms": 0}
UP = [2.0, *[7.0] * 19]  # 3.5 times the loss before the first step


def probed(made: Run, statistic: str, *rows: dict[str, float]) -> Run:
    for step, row in enumerate(rows, start=1):
        made.probes.log(step, statistic, row)
    return made


def dying(*rows: Any) -> Run:
    """A standing run that recorded the share of dead units of one layer, or of several by name."""
    return probed(
        run(), "dead_fraction", *(row if isinstance(row, dict) else {"1": float(row)} for row in rows)
    )


def maximised(losses: Any, start: float, constant: float) -> Run:
    """A run whose objective is maximised; nothing is known of a floor."""
    made = run(losses, constant=constant, start=START | {"loss": start})
    made.problem = problem(maximize=True)
    made.facts["output"]["expects"] = None
    return made


def test_a_spike_is_the_usual_loss_of_the_early_steps_in_that_of_the_start() -> None:
    made = run([*UP, *[3.0] * 180], start=START)
    assert spike(made, progress(made)) == pytest.approx(7.0 / 2.0)
    assert thrown(made)


def test_one_bad_step_among_the_early_ones_is_no_spike() -> None:
    losses = np.full(200, 2.3)
    losses[3] = 1e6
    made = run(losses, start=START)
    assert spike(made, progress(made)) == pytest.approx(2.3 / 2.0)
    assert not thrown(made)


def test_losses_of_unlike_examples_in_turn_are_no_spike() -> None:
    """Single examples, the first of which happens to be answered well: 0.06, 0.61, 0.62, 0.04, ..."""
    made = run([0.06, 0.61, 0.62, 0.04] * 50, start=START | {"loss": 0.06}, constant=0.25)
    assert spike(made, progress(made)) == 0.0
    assert not thrown(made)


def test_a_spike_into_overflow_is_endless() -> None:
    made = run([2.0, 40.0, 9e5, math.inf, math.inf], start=START)
    assert spike(made, progress(made)) == math.inf


def test_a_run_that_spikes_and_recovers_is_healthy() -> None:
    made = run([*UP, *np.geomspace(6.0, 0.02, 180)], start=START)
    assert thrown(made)
    found = judge(made)
    assert found.healthy
    assert "the run came far enough" in dict(found.cleared)["learning-rate-too-high"]


def test_a_run_that_spikes_and_stays_is_put_down_to_the_step() -> None:
    found = judge(run([*UP, *[2.3] * 180], start=START))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert "3.5-fold" in found.root.message


def test_units_alive_at_first_and_dead_for_good_were_killed() -> None:
    assert killed(dying(0.1, 0.95, 0.95, 1.0))
    assert killed(dying({"1": 0.0, "3": 0.1}, {"1": 0.0, "3": 0.97}))


@pytest.mark.parametrize(
    "rows",
    [
        [1.0, 1.0, 1.0, 1.0],
        [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3],
        [0.0, 0.85, 0.85, 0.85],
        [0.0],
        [{"1": 0.0}, {"1": 0.0, "3": 1.0}, {"1": 0.0, "3": 1.0}],
        [{"1": 0.0, "3": 0.0}, {"1": 0.0, "3": 1.0}, {"1": 0.0}],
    ],
    ids=["from the start", "come back", "most of them", "seen once", "first seen dead", "last not seen"],
)  # fmt: skip
def test_units_dead_from_the_start_or_alive_at_the_end_were_not_killed(rows: list[Any]) -> None:
    assert not killed(dying(*rows))


def test_a_run_risen_above_its_start_is_told_by_how_much() -> None:
    losses = np.r_[2.0, np.full(199, 4.6)]
    assert risen(run(losses, start=START, constant=2.3)) == pytest.approx(4.6 / 2.3)
    assert risen(run(losses, start=START | {"loss": 4.0}, constant=2.3)) == pytest.approx(4.6 / 4.0)


def test_a_rise_within_the_noise_of_the_batches_is_none() -> None:
    # The last tenth: mean and deviation 2.6; 3 standard errors of 20 batches are 3 * 2.6 / 20 ** 0.5 = 1.74.
    assert risen(run(np.tile([0.0, 5.2], 100), start=START)) == 0.0
    # With deviation 0.2 they are 0.13: above 2.3 the mean of 2.6 is sure.
    assert risen(run(np.tile([2.4, 2.8], 100), start=START)) == pytest.approx(2.6 / 2.3)


def test_updates_too_small_to_lead_anywhere_led_not_up() -> None:
    losses = np.full(200, 4.6)
    assert risen(probed(run(losses), "update_ratio", {"0": 1e-5, "2": 2e-5})) == 0.0
    assert risen(probed(run(losses), "update_ratio", {"0": 1e-2, "2": 2e-2})) > 1.9


def test_a_first_batch_that_came_out_low_by_chance_is_no_rise() -> None:
    """Losses that stand at 10, of batches that differ by a fifth; the first one is 8."""
    draw = np.random.default_rng(0)
    losses = 10 * (1 + 0.2 * draw.standard_normal(400))
    losses[0] = 8.0
    assert risen(run(losses, start=START | {"loss": 8.0}, constant=0.8)) == 0.0
    assert risen(run(losses, start=START | {"loss": 5.0}, constant=0.8)) > 1.9  # told of more than one batch
    rising = np.linspace(8.0, 16.0, 400) * (1 + 0.02 * draw.standard_normal(400))
    rising[0] = 8.0
    assert risen(run(rising, start=START | {"loss": 8.0}, constant=0.8)) > 1.8


def test_fewer_than_fifty_steps_have_no_end_to_be_risen() -> None:
    assert risen(run(np.full(49, 4.6))) == 0.0
    assert risen(run(np.full(50, 4.6))) > 1.9


def test_nan_out_of_a_quiet_loss_came_suddenly_and_is_not_put_down_to_the_step() -> None:
    made = run([2.0, 1.9, 1.8, 1.7, math.nan], start=START)
    assert sudden(made)
    assert not thrown(made)
    found = judge(made)
    assert "NaN in a batch" in found.verdict
    assert "learning-rate-too-high" not in found.symptoms
    assert found.lost


def test_nan_after_a_loss_that_rose_is_put_down_to_the_step() -> None:
    made = run([2.0, 9.0, 500.0, 1e6, math.nan], start=START)
    assert not sudden(made)
    assert thrown(made)
    assert judge(made).root.symptom == "learning-rate-too-high"  # type: ignore[union-attr]


def test_a_leap_of_the_weights_before_nan_is_the_step_even_if_the_loss_was_quiet() -> None:
    losses = [2.0, 1.9, 1.8, 1.7, math.nan]
    assert not sudden(probed(run(losses), "update_ratio", {"0": 3.0, "2": 5.0}))
    assert sudden(probed(run(losses), "update_ratio", {"0": 0.01, "2": 5.0, "4": 0.02}))


def test_two_losses_before_nan_say_nothing_unless_the_weights_were_watched() -> None:
    losses = [2.0, 1.9, math.nan]
    assert not sudden(run(losses))
    assert sudden(probed(run(losses), "update_ratio", {"0": 0.01}))


def test_a_finite_run_was_not_lost_suddenly() -> None:
    assert not sudden(run())
    assert not sudden(Run())


def test_a_run_that_has_hardly_begun_is_short() -> None:
    assert short(run(np.full(19, 2.3)))
    assert not short(run(np.full(20, 2.3)))
    assert not short(run(np.geomspace(2.3, 0.5, 10)))  # it learns
    assert not short(run([2.0, *[9.0] * 9], start=START))  # it was thrown
    assert not short(run(np.full(10, 2.3), references=[{"what": "another", "loss": 0.1}]))


def test_a_little_learnt_beyond_the_noise_is_no_loss() -> None:
    falls = run(np.linspace(2.3, 2.2, 200))  # 4 % of the way to 0, and half its steps below 2.25
    assert progress(falls).standing
    assert little(falls)
    assert judge(falls).healthy
    assert "Learnt little" in judge(falls).verdict


@pytest.mark.parametrize(
    "losses",
    [np.linspace(2.3, 2.28, 200), np.tile([1.0, 3.4], 100), np.full(200, 2.4), np.linspace(2.3, 2.2, 19)],
    ids=["1 % of the guess", "noise", "above the guess", "too few steps"],
)
def test_what_may_be_noise_is_not_called_a_little_learnt(losses: Any) -> None:
    assert not little(run(losses))


def test_a_run_that_others_left_behind_has_not_learnt_a_little() -> None:
    made = run(np.linspace(2.3, 2.2, 200), references=[{"what": "another", "loss": 0.1}])
    assert not little(made)
    assert judge(made).lost


def test_a_maximised_objective_is_read_the_other_way() -> None:
    risen_to = maximised(np.linspace(0.1, 0.9, 200), 0.1, 0.1)  # a probability: 9 times its start
    assert not thrown(risen_to)
    assert judge(risen_to).healthy
    # A log-likelihood from -2.3 to -9.2 is 4 times as bad, and thrown down at once.
    fallen = maximised([-2.3, *[-9.2] * 199], -2.3, -2.3)
    assert spike(fallen, progress(fallen)) == pytest.approx(4.0)
    assert risen(fallen) == pytest.approx(4.0)
    assert not sudden(maximised([-2.3, -9.0, -500.0, math.nan], -2.3, -2.3))


def test_a_maximised_objective_below_a_constant_guess_is_lost() -> None:
    fell = maximised(np.r_[0.5, np.linspace(0.5, 0.2, 199)], 0.5, 0.5)
    assert not little(fell)
    assert judge(fell).lost
    assert not judge(fell).healthy


def test_a_run_is_thrown_by_a_spike_a_rise_or_units_that_die() -> None:
    assert not thrown(run())
    assert thrown(dying(0.1, 0.95, 0.95, 1.0))
    assert thrown(run(np.full(200, 2.6), start=START))  # risen by 13 %, no spike
    assert not thrown(run(np.full(200, 2.4), start=START))  # by 4 % above a constant guess


def test_a_run_that_learnt_was_thrown_nowhere() -> None:
    made = learnt()
    assert not thrown(made)
    assert not killed(made)
    assert risen(made) == 0.0
    assert not short(made)


def test_the_first_steps_of_weights_that_began_at_zero_are_no_leaps() -> None:
    losses = [*([1.0] * 20), math.nan]
    made = run(losses)
    for step, norm in ((1, 0.0), (2, 0.1), (3, 0.15), (20, 0.5)):
        made.probes.log(step, "weight_norm", {"0": norm})
        made.probes.log(step, "update_ratio", {"0": 0.1 / max(norm, 1e-12)})
    assert sudden(made)
    for step in (1, 2, 3, 20):
        made.probes.log(step, "weight_norm", {"2": 1.0})
        made.probes.log(step, "update_ratio", {"2": 9.0})
    assert not sudden(made)


def test_units_that_died_late_are_told_with_their_step_and_not_with_the_first_ones() -> None:
    made = dying(0.1, 0.2, 0.3, 0.95, 0.95, 1.0)
    step = killed(made)
    assert step == made.probes["dead_fraction"].steps[3]
    found = judge(made).root
    assert found is not None
    when = "in the first steps" if step <= 25 else f"by step {step}"
    assert found.message.startswith(f"lr 0.1 threw the weights so far {when} that units died")


NOISE = 0.1 * np.random.default_rng(0).standard_normal((5, 200))


@pytest.mark.parametrize(
    ("losses", "rose"),
    [
        ([1.0, 1.0, 1.0, 1.0], False),
        ([3.0, 2.0, 1.5], False),
        *((1.0 + each, False) for each in NOISE),
        *((np.geomspace(3.0, 0.1, 200) + each, False) for each in NOISE),
        ([1.0, 1.2, 1.5, 2.0], True),
        ([1.0, 5.0, 25.0, 3.0, 1.0], True),
        *((np.linspace(1.0, 2.5, 200) + each, True) for each in NOISE),
        (np.r_[np.linspace(10, 1, 100), np.linspace(1, 9, 100)], True),
        (np.r_[np.linspace(2, 1, 50), 80.0, 1.0, 1.0, 1.0], True),
    ],
)
@pytest.mark.parametrize("up", [False, True])
def test_that_a_loss_had_not_risen_is_said_of_one_alone_that_had_not(
    losses: Any, rose: bool, up: bool
) -> None:
    made = maximised(-np.asarray(losses), -losses[0], -losses[0]) if up else run(np.asarray(losses))
    made.status, made.facts["nonfinite"] = (
        "diverged",
        {"step": len(losses) + 1, "what": "loss", "module": None},
    )
    assert ever_rose(made) == rose
    said = verdict(made)
    assert ("had not" in said) == (sudden(made) and not rose)
    assert ("objective had not fallen" in said) == (sudden(made) and not rose and up)
    assert sudden(made) == ("NaN in a batch" in said)
