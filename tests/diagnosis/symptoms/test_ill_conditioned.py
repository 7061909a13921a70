"""Ill-conditioned: inputs that lie in a narrow valley, and rates that their steepest direction limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.edits import SetRecipe, WhitenInputs
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.ill_conditioned import ill_conditioned
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, Pair, diagnosed, problem

HOW = ds.Recipe(optimizer="sgd", lr=0.03, momentum=0.9, epochs=25, batch_size=64, seed=0)


def valley(condition: float, seed: int = 0) -> tuple[Pair, Pair]:
    """Columns of deviation 1 whose directions spread from 1 down to 1 / condition; y is linear along all."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(600, 10, generator=draw)
    basis = torch.linalg.qr(torch.randn(10, 10, generator=draw))[0]
    x = (z * torch.logspace(0, -float(np.log10(condition)), 10)) @ basis.T
    x = (x - x.mean(0)) / x.std(0)
    y = z @ torch.randn(10, 1, generator=draw)
    y = (y + 0.1 * torch.randn(600, 1, generator=draw)) / y.std()
    return (x[:450], y[:450]), (x[450:], y[450:])


def linear(condition: float) -> ds.Problem:
    return problem(valley(condition), lambda: nn.Linear(10, 1), "mse", "r2")


@pytest.mark.parametrize(
    "model", [lambda: nn.Linear(10, 1), lambda: Functional(10, 1)], ids=["linear", "custom"]
)
@pytest.mark.parametrize("condition", [1e3, 1e4])
def test_inputs_in_a_narrow_valley_are_the_root_and_whitening_cures_them(
    model: Any, condition: float
) -> None:
    task = problem(valley(condition), model, "mse", "r2")
    result = diagnosed(task, HOW)
    assert result.root is not None
    assert result.root.symptom == "ill-conditioned"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, WhitenInputs)
    cured = diagnosed(*remedy.apply(task, HOW))
    assert cured.healthy
    assert cured.run.summary["valid_metric"] > 0.97


@pytest.mark.parametrize("condition", [1.0, 10.0])
def test_a_round_or_a_mild_valley_is_healthy(condition: float) -> None:
    assert diagnosed(linear(condition), HOW).healthy


def test_a_narrow_direction_that_nothing_depends_on_is_healthy() -> None:
    (x, _), (xv, _) = valley(1e4)
    w = torch.linalg.svd(x, full_matrices=False)[2][0]  # the widest
    data = ((x, (x @ w)[:, None] / 3), (xv, (xv @ w)[:, None] / 3))
    assert diagnosed(problem(data, lambda: nn.Linear(10, 1), "mse", "r2"), HOW).healthy


# -- by hand ---------------------------------------------------------------------------------------------

TRIAL = {
    "edit": "whiten the inputs",
    "steps": 200,
    "full": True,
    "longer": False,
    "loss": 0.05,
    "valid_loss": None,
}


def by_hand(share: float | None = None, *, lambda_max: float | None = None, **facts: Any) -> Run:
    made = run(np.geomspace(2.3, 1.8, 200), spread={"condition": 1e6}, **facts)
    made.facts["trials"] = {} if share is None else {"ill-conditioned": TRIAL | {"share": share}}
    if lambda_max is not None:
        del made.facts["spread"]
        made.facts["ground"] = {"lambda_max": lambda_max, "lambda_min": 0.0}
    return made


def verdict(made: Run) -> Finding:
    result = ill_conditioned(made)
    assert isinstance(result, Finding), result
    return result


def test_a_suspicion_is_only_worth_knowing_until_a_trial_settles_it() -> None:
    assert verdict(by_hand()).severity == "info"
    assert verdict(by_hand(0.5)).severity == "warning"
    assert isinstance(ill_conditioned(by_hand(0.1)), Clear)


def test_where_nothing_is_tried_it_is_not_judged() -> None:
    made = by_hand()
    del made.facts["trials"]
    assert isinstance(ill_conditioned(made), Unknown)


def test_lr_times_lambda_max_over_2_says_whether_the_steepest_direction_limits_the_rate() -> None:
    far = [{"what": "a plain network", "loss": 0.05}]
    at_limit = verdict(by_hand(0.6, lambda_max=10.0, references=far))  # 0.1 x 10 / 2
    assert at_limit.evidence.value == pytest.approx(0.5)
    assert isinstance(at_limit.remedies[0], SetRecipe)
    assert at_limit.remedies[0].changes["momentum"] == 0.9
    assert isinstance(ill_conditioned(by_hand(0.6, lambda_max=1.9, references=far)), Clear)


def test_a_method_that_scales_by_itself_has_no_steepest_direction_but_may_have_narrow_inputs() -> None:
    adam = ds.Recipe(optimizer="adam", lr=0.1)
    made = by_hand(0.6, lambda_max=10.0)
    made.recipe = adam
    assert isinstance(ill_conditioned(made), Clear)
    made = by_hand(0.6)
    made.recipe = adam
    assert [type(each) for each in verdict(made).remedies] == [WhitenInputs]


def test_a_solved_run_and_one_without_the_terrain_are_left_alone() -> None:
    solved = by_hand()
    solved.status = "goal"
    assert isinstance(ill_conditioned(solved), Clear)
    bare = by_hand(lambda_max=1.0)
    del bare.facts["ground"]
    assert isinstance(ill_conditioned(bare), Unknown)
    assert isinstance(ill_conditioned(Run()), Unknown)
