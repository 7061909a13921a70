"""How far a run came, on numbers made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.progress import final_loss, progress, smoothed
from tests.diagnosis.runs import learnt, problem, run

GUESS = {"loss": 2.0, "metric": 0.1, "valid_loss": 2.0, "valid_metric": 0.1}


def at(final: float, *others: float, **facts: Any) -> Run:
    """A run that stands at `final`; a guess has 2.0, references the losses `others`."""
    told = [{"what": "another", "loss": each} for each in others]
    made = run(np.full(200, final), **({"references": told} if told else {}), **facts)
    made.facts["constant"] = GUESS
    return made


def test_the_share_is_of_the_way_from_a_guess_to_the_best_that_was_reached() -> None:
    how = progress(at(1.5, 1.0, 1.2))
    assert (how.constant, how.final, how.reachable) == (2.0, 1.5, 1.0)
    assert how.share == pytest.approx(0.5)
    assert how.ended_far
    assert not how.standing


def test_a_run_that_did_best_itself_came_the_whole_way() -> None:
    how = progress(at(0.8, 1.0))
    assert how.share == pytest.approx(1.0)
    assert not how.ended_far


def test_a_run_above_a_guess_has_a_negative_share_and_stands() -> None:
    how = progress(at(3.0, 1.0))
    assert how.share == pytest.approx(-1.0)
    assert how.standing


@pytest.mark.parametrize(("final", "standing"), [(1.91, True), (1.89, False)])
def test_a_tenth_of_the_way_is_no_standing_still(final: float, standing: bool) -> None:
    assert progress(at(final, 1.0)).standing == standing


@pytest.mark.parametrize(("final", "far"), [(1.26, True), (1.24, False)])
def test_three_quarters_of_the_way_are_not_far(final: float, far: bool) -> None:
    assert progress(at(final, 1.0)).ended_far == far


def test_with_nothing_beside_it_the_way_leads_to_the_floor_of_the_objective() -> None:
    assert progress(at(1.5)).share == pytest.approx(0.25)
    unknown = at(1.5)
    unknown.facts["output"]["expects"] = None
    assert progress(unknown).share is None
    assert not progress(unknown).standing


def test_a_run_no_better_than_a_guess_stands_even_without_a_floor() -> None:
    made = at(2.0)
    made.facts["output"]["expects"] = None
    assert progress(made).share == 0.0
    assert progress(made).standing


def test_others_that_got_nowhere_do_not_say_what_is_reachable() -> None:
    """A reference a millionth below a guess would make a run that is there too one that did all there is."""
    how = progress(at(1.999999, 1.999999))
    assert how.share == pytest.approx(5e-7)
    assert how.standing


def test_a_trial_that_got_nowhere_makes_no_run_that_got_nowhere_either_the_best_there_is() -> None:
    made = at(1.99, output={"expects": "real"})
    made.facts["trials"] = {"init-scale": {"loss": 2.5, "valid_metric": -0.3, "full": True}}
    made.facts["ending"] = {"train_loss": 1.99, "best_valid_metric": 0.105}
    how = progress(made)
    assert how.share == pytest.approx(0.005)  # of the way to 0, the floor of a squared error
    assert how.valid_share is None
    assert how.ended_far


def test_trials_of_the_whole_length_say_what_is_reachable_and_shorter_or_longer_ones_do_not() -> None:
    full = {"loss": 0.5, "full": True}
    assert progress(at(1.5, trials={"x": full})).reachable == 0.5
    assert progress(at(1.5, trials={"x": full | {"full": False}})).reachable is None
    assert progress(at(1.5, trials={"x": full | {"longer": True}})).reachable is None


def test_a_run_is_futile_where_nothing_got_a_tenth_of_the_way_to_a_perfect_score() -> None:
    assert progress(at(1.95, 1.85)).futile  # 0.15 of 2.0
    assert not progress(at(1.95, 1.75)).futile
    assert not progress(at(1.95)).futile  # nothing was compared
    assert not progress(at(1.95, 1.85)).ended_far


def test_losses_that_compete_say_nothing_of_the_way() -> None:
    made = at(2.0, rivals=1)
    how = progress(made)
    assert how.share is None
    assert not how.standing
    assert not how.ended_far
    made.status = "diverged"
    assert progress(made).standing


@pytest.mark.parametrize(
    "facts",
    [{"status": "diverged"}, {"nonfinite": {"step": 3, "what": "loss", "module": None}}, {"nan": True}],
    ids=["status", "fact", "history"],
)
def test_a_run_that_left_the_numbers_has_no_final_loss(facts: dict[str, Any]) -> None:
    made = at(1.0)
    if "nan" in facts:
        made.history.extend("train_loss", [201], [math.nan])
    made.status = facts.get("status", "done")
    made.facts |= {key: value for key, value in facts.items() if key == "nonfinite"}
    how = progress(made)
    assert how.diverged
    assert how.standing
    assert how.ended_far
    assert not how.solved
    assert how.share == -math.inf


def test_the_better_of_the_scored_model_and_the_last_batches_counts() -> None:
    assert final_loss(at(1.0, ending={"train_loss": 0.7})) == 0.7
    assert final_loss(at(1.0, ending={"train_loss": 1.7})) == 1.0
    assert final_loss(at(1.0, ending={"train_loss": math.nan})) == 1.0
    up = at(1.0, ending={"train_loss": 1.7})
    up.problem = problem(maximize=True)
    assert final_loss(up) == 1.7


def test_the_loss_at_the_end_is_the_mean_of_the_last_tenth() -> None:
    made = run(np.arange(1.0, 201.0))
    assert smoothed(made) == pytest.approx(190.5)
    assert smoothed(made, 50) == pytest.approx(48.0)  # of 46 to 50
    assert smoothed(run([3.0])) == 3.0
    assert smoothed(Run()) is None


def test_of_a_short_run_five_batches_at_least_are_its_end() -> None:
    assert smoothed(run(np.arange(12.0))) == pytest.approx(9.0)


def test_a_maximised_objective_runs_the_other_way() -> None:
    made = run(np.full(200, 0.4), references=[{"what": "another", "loss": 0.9}])
    made.problem = problem(maximize=True)
    made.facts["constant"] = {"loss": 0.1}
    how = progress(made)
    assert (how.constant, how.final, how.reachable) == (0.1, pytest.approx(0.4), 0.9)
    assert how.share == pytest.approx(0.3 / 0.8)


def test_the_validation_share_is_that_of_the_metric_against_what_others_reached() -> None:
    made = at(1.5, 1.0, ending={"best_valid_metric": 0.5, "train_metric": 0.5})
    made.facts["references"][0]["valid_metric"] = 0.9
    assert progress(made).valid_share == pytest.approx(0.4 / 0.8)
    made.facts["references"][0]["valid_metric"] = None
    assert progress(made).valid_share is None


def test_a_run_that_does_well_on_validation_data_did_not_end_far() -> None:
    made = at(1.5, 1.0, ending={"best_valid_metric": 0.85, "train_metric": 0.5})
    made.facts["references"][0]["valid_metric"] = 0.9  # 0.75 of 0.8 is 94 %
    assert not progress(made).ended_far
    made.facts["ending"]["best_valid_metric"] = 0.75  # 81 %
    assert progress(made).ended_far


@pytest.mark.parametrize(
    ("train", "valid", "solved"), [(0.92, 0.92, True), (0.92, 0.9, False), (0.9, 0.92, False)]
)
def test_a_bounded_metric_is_solved_at_nine_tenths_of_the_way_on_both_parts(
    train: float, valid: float, solved: bool
) -> None:
    made = at(1.5, ending={"train_metric": train, "best_valid_metric": valid})  # 0.1 + 0.9 * 0.9 = 0.91
    assert progress(made).solved == solved


def test_without_a_metric_a_loss_near_its_floor_is_solved() -> None:
    for final, solved in ((0.21, False), (0.19, True)):
        made = at(final)
        made.problem = problem(metric=None)
        assert progress(made).solved == solved


def test_a_goal_that_is_reached_is_solved_at_any_level() -> None:
    made = at(1.9)
    assert not progress(made).solved
    made.problem = problem(goal=0.3)
    made.summary["valid_metric"] = 0.4
    assert progress(made).solved


def test_a_loss_still_falling_is_told_by_its_last_fifth() -> None:
    # Of 2.0 to 1.0 in 200 steps the last fifth falls by 0.2, of a way of 2.0 - 0.5.
    made = run(np.linspace(2.0, 1.0, 200), references=[{"what": "another", "loss": 0.5}])
    made.facts["constant"] = GUESS
    assert progress(made).falling == pytest.approx(0.2 / 1.5, rel=0.01)
    assert progress(at(1.0)).falling == 0.0
    assert progress(learnt()).falling < 0.05


def held_out(final: float, valid: float, beside: dict[str, Any], **facts: Any) -> Run:
    """A run that ended at `valid` (standard error 0.01) on held-out data, beside one reference."""
    told = {"references": [{"what": "another"} | beside]} if facts.pop("reference", True) else {}
    made = run(np.full(200, final), **told, **facts)
    made.facts["constant"] = GUESS
    made.facts["ending"] = {"train_loss": final, "valid_loss": valid, "valid_stderr": 0.01, "valid_n": 400}
    return made


def test_what_only_memorises_does_not_say_what_is_reachable() -> None:
    """A reference at 0.1 on its training data that is no better on held-out data than this run at 1.9."""
    how = progress(held_out(1.9, 1.9, {"loss": 0.1, "valid_loss": 1.89}))
    assert (how.reachable, how.share) == (pytest.approx(1.9), pytest.approx(1.0))
    assert not how.standing
    assert not how.ended_far


def test_what_is_better_on_held_out_data_beyond_its_error_says_what_is_reachable() -> None:
    how = progress(held_out(1.9, 1.9, {"loss": 0.1, "valid_loss": 1.87}))
    assert how.reachable == 0.1
    assert how.ended_far


def test_a_loss_with_an_error_of_its_own_size_does_not_tie_with_a_small_one() -> None:
    made = held_out(1e3, 1e3, {"loss": 0.1, "valid_loss": 0.1})
    made.facts["ending"]["valid_stderr"] = 1e3
    assert progress(made).reachable == 0.1


def test_other_rates_say_what_is_reachable_too() -> None:
    scores = [{"loss": 0.2, "valid_loss": 0.2, "valid_metric": None}]
    made = held_out(1.9, 1.9, {}, reference=False, rates={"scores": scores})
    assert progress(made).reachable == 0.2


def test_a_remedy_that_failed_does_not_say_that_there_is_nothing_further() -> None:
    failed = {"x": {"loss": 1.95, "valid_loss": 1.95, "full": True}}
    how = progress(held_out(1.9, 1.9, {}, reference=False, trials=failed))
    assert how.reachable is None
    assert how.standing
    assert how.ended_far


def test_a_run_whose_score_is_nearly_perfect_does_not_stand_whatever_its_loss() -> None:
    made = at(20.0)
    made.facts["ending"] = {"train_metric": 0.99, "best_valid_metric": 0.97}
    made.problem = problem(metric="accuracy")
    how = progress(made)
    assert how.solved
    assert not how.standing
