"""High bias: models that cannot say what the data asks for, and ones that were not trained enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.edits import Advice, SetArgument
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown, Verdict
from downslope.diagnosis.symptoms.high_bias import high_bias, wider
from tests.diagnosis.runs import problem as problem_of
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import diagnosed, numbers, problem, recipe


def narrow(width: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 1))


def test_one_hidden_unit_is_the_root_and_eight_of_them_cure_it() -> None:
    task, how = problem(numbers(), narrow, "mse", "r2"), recipe(lr=1e-2, epochs=40)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "high-bias"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, SetArgument)
    assert diagnosed(*remedy.apply(task, how)).healthy


def test_a_linear_model_of_a_linear_target_and_a_wide_one_of_a_bent_target_are_healthy() -> None:
    (x, _), (xv, _) = numbers()
    straight = ((x, x[:, :2].sum(1, keepdim=True)), (xv, xv[:, :2].sum(1, keepdim=True)))
    task = problem(straight, lambda: nn.Linear(6, 1), "mse", "r2")
    assert diagnosed(task, recipe(optimizer="sgd", lr=0.05)).healthy
    wide = problem(numbers(), narrow, "mse", "r2", arguments={"width": 32})
    assert diagnosed(wide, recipe(lr=1e-2, epochs=40)).healthy


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda: nn.Sequential(nn.Linear(6, 1), nn.Tanh(), nn.Linear(1, 1)),
            "hidden layers 64 times as wide",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), "module 1 -> mlp"),
    ],
)
def test_a_factory_without_a_size_gets_its_layers_replaced_and_that_is_proved(model: Any, words: str) -> None:
    task, how = problem(numbers(), model, "mse", "r2"), recipe(lr=1e-2, epochs=40)
    found = ds.repair(task, how, budget="1000000 steps", progress=False, folder=False)
    assert words in {str(each) for each in found.edits}
    assert "in code" in found.diff
    assert found.before is not None
    assert found.after is not None
    assert found.after > found.before + 0.2
    assert found.problem.build()(torch.zeros(5, 6)).shape == (5, 1)


# -- by hand: a guess has 2.3, the run ended at 1.8 -------------------------------------------------------


def poor(plain: float | None = 0.3, same: float = 1.75, capacity: float | None = 1.7, **facts: Any) -> Run:
    rows = [{"what": "the same model", "loss": same}]
    rows += [] if plain is None else [{"what": "a plain network", "loss": plain}]
    falling = facts.pop("falling", False)
    losses = np.geomspace(2.3, 1.8, 200) if falling else np.full(200, 1.8)
    return run(losses, references=rows, capacity={"loss": capacity}, trials={}, **facts)


def found(verdict: Verdict) -> Finding:
    assert isinstance(verdict, Finding), verdict
    return verdict


def test_what_the_plain_network_reaches_beyond_the_best_of_the_model_counts() -> None:
    told = found(high_bias(poor()))
    assert told.severity == "warning"
    assert told.evidence.value == pytest.approx((1.7 - 0.3) / (2.3 - 0.3))
    assert isinstance(high_bias(poor(capacity=0.5)), Clear)  # L-BFGS takes the same model there
    assert isinstance(high_bias(poor(same=0.6)), Clear)
    assert isinstance(high_bias(poor(plain=1.6)), Clear)


def test_a_model_that_more_steps_took_there_is_not_too_simple() -> None:
    trial = {"edit": "epochs 10 -> 30", "steps": 600, "full": True, "longer": True, "valid_loss": None}
    mended = poor()
    mended.facts["trials"] = {"too-few-steps": trial | {"loss": 0.4, "share": 0.7}}
    assert isinstance(high_bias(mended), Clear)
    vain = poor(falling=True)
    assert isinstance(high_bias(vain), Clear)  # who knows: it was still falling
    vain.facts["trials"] = {"too-few-steps": trial | {"loss": 1.6, "share": 0.1}}
    told = found(high_bias(vain))
    assert told.evidence.value == pytest.approx((1.6 - 0.3) / (2.3 - 0.3))


def test_what_was_not_measured_is_said() -> None:
    assert isinstance(high_bias(poor(plain=None)), Unknown)
    assert isinstance(high_bias(poor(capacity=None)), Unknown)


@pytest.mark.parametrize(
    ("goal", "plain", "own", "told"),
    [(0.9, 0.95, 0.6, True), (None, 0.95, 0.6, False), (0.9, 0.85, 0.6, False), (0.9, 0.95, 0.92, False)],
)
def test_a_goal_that_the_plain_network_alone_reaches_makes_a_smaller_gap_matter(
    goal: float | None, plain: float, own: float, told: bool
) -> None:
    made = poor(plain=0.3, same=0.6, capacity=0.6)  # .15 of the way
    made.problem = problem_of(metric="accuracy", goal=goal)
    made.facts["ending"] = {"train_metric": own}
    made.facts["references"][0]["metric"] = own
    made.facts["references"][1]["metric"] = plain
    verdict = high_bias(made)
    assert isinstance(verdict, Finding if told else Clear), verdict
    if told:
        assert "the goal of 0.9" in found(verdict).message


def test_the_trial_of_a_larger_model_is_none_of_the_model_itself() -> None:
    made = poor()
    trial = {"edit": "model.width 1 -> 8", "steps": 200, "full": True, "longer": False, "valid_loss": None}
    made.facts["trials"] = {"high-bias": trial | {"loss": 0.4, "share": 0.7}}
    told = found(high_bias(made))
    assert told.evidence.value == pytest.approx((1.7 - 0.3) / (2.3 - 0.3))
    assert "model.width 1 -> 8 recovers 70%" in told.message


def test_few_units_that_only_a_second_order_method_trains_are_too_few_where_more_of_them_win_most() -> None:
    trial = {"steps": 200, "full": True, "longer": False, "valid_loss": None}
    rate = trial | {"edit": "lr 0.01 -> 0.03", "loss": 1.2, "share": 0.3}
    made = poor(capacity=0.3)
    made.problem = problem_of(model=lambda: nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2)))
    made.facts["trials"] = {"learning-rate-too-low": rate}
    assert isinstance(high_bias(made), Clear)  # not before the larger model was tried
    assert str(wider(made)).endswith("times as wide")
    made.facts["trials"]["high-bias"] = trial | {
        "edit": "hidden layers 64 times as wide",
        "loss": 0.3,
        "share": 0.7,
    }
    told = found(high_bias(made))
    assert told.evidence.value == pytest.approx((1.2 - 0.3) / (2.3 - 0.3))
    assert "0.3 under L-BFGS, which none finds" in told.message
    made.facts["trials"]["learning-rate-too-low"] = rate | {"share": 0.6}
    assert isinstance(high_bias(made), Clear)  # the rate wins about as much
    assert wider(poor(same=0.4)) is None


def test_learning_by_heart_is_no_capacity() -> None:
    made = poor()
    made.facts["constant"] |= {"valid_metric": 0.1}
    made.facts["ending"] = {"train_loss": 1.8, "best_valid_metric": 0.3}
    made.facts["references"][1]["valid_metric"] = 0.31
    assert isinstance(high_bias(made), Clear)
    made.facts["references"][1]["valid_metric"] = 0.9
    assert isinstance(high_bias(made), Finding)


def test_a_maximised_objective_is_compared_in_its_own_direction() -> None:
    rows = [{"what": "the same model", "loss": -1.75}, {"what": "a plain network", "loss": -0.3}]
    made = run(np.full(200, -1.8), constant=-2.3, references=rows, capacity={"loss": -1.7}, trials={})
    made.problem = problem_of(objective=lambda output, target: -output.square().mean(), maximize=True)
    assert found(high_bias(made)).evidence.value == pytest.approx((1.7 - 0.3) / (2.3 - 0.3))


class Own(nn.Module):
    """Weights of its own beside its layers: no edit makes it wider."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_where_no_layer_can_be_replaced_there_is_advice() -> None:
    made = poor()
    made.problem = problem_of(model=Own)
    assert [type(each) for each in found(high_bias(made)).remedies] == [Advice]
