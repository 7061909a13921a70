"""Paired trials: what an edit reached is scored as the untouched problem would, whatever it trained by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits import Advice, SetObjective, SetRecipe
from downslope.core.fixed_sample import scored
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import as_tried, tried
from downslope.diagnosis.trials import attempt, by_the_new, compare, control_at, score, train
from tests.diagnosis.runs import learnt, problem, run

HOW = ds.Recipe(optimizer="sgd", lr=0.5, epochs=4, batch_size=10)


def thousandth(output: Tensor, target: Tensor) -> Tensor:
    return 1e-3 * functional.cross_entropy(output, target)


def hinge(output: Tensor, target: Tensor) -> Tensor:
    return functional.multi_margin_loss(output, target)


def by_hand(task: ds.Problem, made: Run) -> float:
    """Cross-entropy of the last model on the training data."""
    x, y = task.train_source.batch  # type: ignore[union-attr]
    with torch.no_grad():
        return float(functional.cross_entropy(made.model("last").eval()(x), y))


@pytest.mark.parametrize("other", [thousandth, hinge])
def test_a_swapped_objective_is_scored_in_the_units_of_the_one_given(other: Any) -> None:
    task = problem()
    found = attempt(task, HOW, SetObjective(other), None, scored(task))
    want = by_hand(task, train(task.edit(objective=other), HOW, None))
    assert found["loss"] == pytest.approx(want, rel=1e-5)
    assert found["valid_loss"] == pytest.approx(want, rel=1e-5)  # both parts are the same here
    assert found["comparable"] is False


def test_an_edit_that_keeps_the_objective_may_count_its_batches() -> None:
    task = problem()
    found = attempt(task, HOW, SetRecipe({"lr": 0.1}), None, scored(task))
    same = train(task, HOW.edit(lr=0.1), None)
    tail = float(same.history.series("train_loss").values[-5:].mean())  # a tenth of 16 steps, five at least
    assert found["comparable"] is True
    assert found["loss"] == pytest.approx(min(tail, by_hand(task, same)), rel=1e-5)


def test_an_objective_in_other_units_wins_nothing_by_its_units() -> None:
    """A thousandth of the loss at the same rate hardly trains: its small losses must not count."""
    task = problem()
    made = ds.fit(task, HOW, folder=False, progress=False)
    held = scored(task)
    made.facts["constant"] = {
        "loss": math.log(2), "metric": 0.5, "valid_loss": math.log(2), "valid_metric": 0.5,
    }  # fmt: skip
    made.facts["ending"] = score(made, task, held, comparable=True)
    made.facts["ending"] |= {
        "train_loss": made.facts["ending"]["loss"], "train_metric": made.facts["ending"]["metric"],
        "best_valid_loss": made.facts["ending"]["valid_loss"],
        "best_valid_metric": made.facts["ending"]["valid_metric"],
    }  # fmt: skip
    found = attempt(task, HOW, SetObjective(thousandth), None, held)
    assert found["loss"] > 0.6  # about log 2, not a thousandth of it
    assert compare(made, found, None)["share"] <= 0


def ended(reached: float, loss: float, **changes: Any) -> Run:
    """A run at accuracy `reached` and `loss`, beside a constant guess with 0.1 and 2.3."""
    facts = {
        "train_loss": loss, "train_metric": reached, "best_valid_metric": reached, "best_valid_loss": loss,
    }  # fmt: skip
    made = run(np.full(200, loss), ending=facts)
    made.problem = problem(**changes)
    return made


def test_a_swapped_objective_is_compared_by_the_metric() -> None:
    made = ended(0.3, 2.0)
    # (0.95 - 0.3) / (0.95 - 0.1), though its loss under the old objective is far worse.
    trial = {"loss": 50.0, "metric": 0.95, "valid_metric": 0.9, "comparable": False}
    found = compare(made, trial, None)
    assert found["share"] == pytest.approx(0.65 / 0.85)
    assert found["valid_share"] == pytest.approx(0.6 / 0.8)
    # By a lower loss at the same metric it wins nothing.
    assert compare(made, trial | {"loss": 0.01, "metric": 0.3}, None)["share"] == 0.0


@pytest.mark.parametrize(("metric", "recovers"), [(0.13, False), (0.25, True)])
def test_what_chance_gives_to_the_best_of_many_epochs_is_no_share_of_a_way(
    metric: float, recovers: bool
) -> None:
    """A guess has 0.1 +- 0.015 of 400 examples: 0.13 is no better, and all of the way from 0.12 to 0.13."""
    made = ended(0.12, 2.3)
    made.facts["ending"] |= {"valid_n": 400, "valid_stderr": 0.02}
    trial = {"loss": 2.29, "metric": 0.11, "valid_metric": metric, "valid_loss": 2.3, "comparable": True}
    found = compare(made, trial, None)
    assert found["share"] == pytest.approx(1.0)
    assert (found["valid_share"] > 0.5) == recovers, found


def test_a_metric_that_is_minimised_is_compared_the_other_way() -> None:
    made = ended(0.9, 2.0, metric="mae", metric_goal="min")
    made.facts["constant"]["metric"] = 1.0
    found = compare(made, {"loss": 50.0, "metric": 0.1, "comparable": False}, None)
    assert found["share"] == pytest.approx(0.8 / 0.9)


def test_the_same_objective_is_compared_by_the_loss() -> None:
    made = ended(0.3, 2.0)
    trial = {"loss": 0.3, "metric": 0.3, "comparable": True}
    assert compare(made, trial, None)["share"] == pytest.approx((2.0 - 0.3) / (2.3 - 0.3))
    made.facts["references"] = [{"loss": 0.1}, {"loss": None}]
    assert compare(made, trial, None)["share"] == pytest.approx((2.0 - 0.3) / (2.3 - 0.1))


def test_without_a_metric_the_loss_of_the_problem_s_own_objective_decides() -> None:
    made = ended(0.3, 2.0, metric=None)
    found = compare(made, {"loss": 0.3, "metric": None, "comparable": False, "valid_loss": 1.0}, None)
    assert found["share"] == pytest.approx(1.7 / 2.0)
    assert found["valid_share"] == pytest.approx((2.0 - 1.0) / (2.3 - 1.0))


def test_a_control_worse_than_a_constant_guess_counts_as_that_guess() -> None:
    trial = {"loss": 0.3, "metric": 0.5, "comparable": True}
    assert compare(ended(0.1, 90.0), trial, None)["share"] == pytest.approx(1.0)
    assert compare(ended(0.1, 90.0), trial | {"loss": 2.4}, None)["share"] <= 0


def test_a_trial_that_left_the_numbers_recovers_nothing() -> None:
    lost = {"loss": None, "metric": None, "valid_loss": None, "valid_metric": None}
    assert compare(ended(0.3, 2.0), lost, None) == {"share": 0.0, "valid_share": None}


def test_a_maximised_objective_is_compared_in_its_own_direction() -> None:
    made = ended(0.3, -2.0, maximize=True)
    made.facts["constant"] |= {"loss": -2.3, "valid_loss": -2.3}
    found = compare(made, {"loss": -0.3, "metric": 0.3, "comparable": True}, None)
    assert found["share"] == pytest.approx(1.7 / 2.0)


def test_the_control_of_a_short_trial_is_the_run_at_that_step() -> None:
    made = learnt()
    made.history.extend("valid_metric", [0, 50, 100, 200], [0.99, 0.4, 0.6, 0.95])
    made.history.extend("valid_loss", [0, 50, 100, 200], [0.01, 1.5, 1.0, 0.1])
    losses = np.geomspace(2.3, 0.02, 200)
    short = control_at(made, 100)
    assert short["loss"] == pytest.approx(losses[90:100].mean())
    assert (short["valid_metric"], short["valid_loss"]) == (0.6, 1.0)  # the untrained model does not count
    made.facts["ending"] = {"train_loss": 0.01, "best_valid_metric": 0.97}
    assert control_at(made, None)["loss"] == 0.01
    assert control_at(made, 200)["valid_metric"] == 0.97


def test_a_run_that_broke_off_before_the_step_is_lost_there() -> None:
    made = run([2.3, 9.0])  # the weights left the numbers in the second step, after its loss
    made.status = "diverged"
    assert control_at(made, 10)["loss"] is None
    assert control_at(made, None)["loss"] is None
    assert control_at(made, 1)["loss"] == 2.3


def test_an_edit_that_does_not_fit_is_told_in_a_line() -> None:
    def broken(output: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(output, target.reshape(-1, 3).float())

    task = problem()
    found = attempt(task, HOW, SetObjective(broken), 3, scored(task))
    assert set(found) == {"error"}
    assert "\n" not in found["error"]


def test_a_trial_by_another_objective_does_not_move_what_is_reachable_in_other_units() -> None:
    """0.0006 of a thousandth of the loss is no loss that the run could have had."""
    task = problem(model=lambda: nn.Linear(4, 2))
    found = attempt(task, HOW, SetObjective(thousandth), None, scored(task))
    made = run(np.full(200, 0.69), constant=math.log(2), trials={"x": found | {"full": True}})
    made.facts["start"]["loss"] = 0.7
    reachable = progress(made).reachable
    assert reachable is not None
    assert reachable > 0.5


def test_without_a_metric_a_new_objective_is_judged_by_itself() -> None:
    """Outputs of (n, 1) against targets of (n,): the broadcast loss cannot say what the right one wins."""
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    task = ds.Problem(
        model=lambda: torch.nn.Linear(1, 1),
        objective=lambda output, target: ((output - target) ** 2).mean(),
        train=(x, 3 * x.squeeze(1)),
        valid=(x + 0.01, 3 * x.squeeze(1) + 0.03),
    )
    recipe = ds.Recipe(optimizer="sgd", lr=0.3, batch_size="full", steps=60)
    made = ds.fit(task, recipe, folder=False, progress=False)
    edit = SetObjective(lambda output, target: ((output.squeeze(1) - target) ** 2).mean())
    held = scored(task)
    found = attempt(task, recipe, edit, 60, held)
    beside = by_the_new(made, task, recipe, edit, found, held)
    assert beside["share"] == pytest.approx(1.0, abs=0.02)  # the control is the constant 0: nothing learnt
    assert beside["valid_share"] == pytest.approx(1.0, abs=0.02)
    assert abs(compare(made, found, None)["share"]) < 0.2


def test_what_a_trial_did_not_confirm_is_said_so_and_recommended_last() -> None:
    made = run(nonfinite={"step": 3, "what": "loss", "module": None}, trials={})
    first, second = SetRecipe({"lr": 0.5}, {"lr": 0.1}), Advice("look at the formula")
    nothing = {"edit": str(first), "share": 0.0, "steps": 200, "full": True}
    made.facts["trials"] = {"unstable-objective": nothing}
    assert as_tried(made, "unstable-objective", (first, second)) == (second, first)
    assert tried(made, "unstable-objective") == " Tried and not confirmed: lr 0.1 -> 0.5 recovers nothing."
    made.facts["trials"] = {"unstable-objective": nothing | {"share": -700.0}}
    assert tried(made, "unstable-objective").endswith("recovers nothing.")
    made.facts["trials"] = {"unstable-objective": nothing | {"share": 1.4}}
    assert as_tried(made, "unstable-objective", (first, second)) == (first, second)
    assert tried(made, "unstable-objective").endswith("recovers 100% of the way to what is reachable.")


def test_another_objective_beside_a_run_without_a_score_is_told_by_its_metric() -> None:
    made = run(np.array([2.3, np.nan]), nonfinite={"step": 2, "what": "loss", "module": None})
    made.status = "diverged"
    found = compare(made, {"loss": None, "metric": 1.0, "comparable": False}, None)
    assert found["share"] == pytest.approx(1.0)  # from 0.1, that of a constant guess
