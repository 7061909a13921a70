"""The course of a repair: a second look, moves where no cause is named, and what is never changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core import edits
from downslope.data import breast_cancer, digits
from downslope.diagnosis.candidates import meant

STEPS = "1000000 steps"  # so that no clock decides
TABLE = digits(scale=16.0)
HOW = ds.Recipe(optimizer="sgd", lr=0.2, epochs=10)


def problem(scale: float = 1.0, end: nn.Module | None = None) -> ds.Problem:
    """Digits, all weights multiplied by `scale` at the start."""

    def make() -> nn.Module:
        last = [] if end is None else [end]
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), *last)
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(scale)
        return model

    return ds.Problem(
        model=make, objective=nn.CrossEntropyLoss(), train=TABLE.train, valid=TABLE.valid, metric="accuracy"
    )


def test_a_cause_that_hid_behind_the_first_is_found_by_the_second_look_and_repaired_too() -> None:
    sick = problem(scale=1e-3, end=nn.Softmax(1))
    found = ds.repair(sick, HOW, budget=STEPS, progress=False, folder=False)
    assert found.looks
    assert {each.kind for each in found.edits} >= {"set-objective", "reinitialise"}
    assert found.before is not None
    assert found.after is not None
    assert found.after > 0.93 > 0.3 > found.before
    assert json.loads(found.to_json())["looks"][0]["findings"]


def test_a_start_of_the_wrong_scale_is_put_right_by_the_better_of_two_rules() -> None:
    found = ds.repair(problem(scale=1e-3), HOW.edit(epochs=3), budget=STEPS, progress=False, folder=False)
    raced = {str(each.edit) for each in found.trials}
    rules = {
        "initialise the weights to suit each layer's activation",
        "initialise the weights by Xavier's rule",
    }
    assert rules <= raced
    assert "reinitialise" in {each.kind for each in found.edits}


def test_two_causes_of_which_neither_remedy_helps_alone_are_dealt_with_together() -> None:
    sick = problem(scale=0.0)  # no gradient at all, and a rate of 60 once there is one
    found = ds.repair(sick, HOW.edit(lr=60.0), budget=STEPS, progress=False, folder=False)
    assert found.after is not None
    assert found.after > 0.9
    assert "reinitialise" in {each.kind for each in found.edits}
    kept = next(each for each in found.trials if each.verdict == "kept")
    assert len(kept.before) >= 3  # of seeds that did not choose it


def test_data_with_gaps_that_no_run_takes_is_completed_and_no_target_is_changed() -> None:
    whole = problem()
    (x, y), (xv, yv) = TABLE.train, TABLE.valid
    x, xv = x.clone(), xv.clone()
    x[::7, 3], xv[5, 3] = math.nan, math.inf
    sick = whole.edit(train=(x, y), valid=(xv, yv))
    found = ds.repair(sick, HOW, budget=STEPS, progress=False, folder=False)
    assert str(found.edits[0]) == "fill in missing inputs by the mean of their feature"
    assert found.trials[0].gain.sure
    assert found.problem.train.batch[0].isfinite().all()
    assert torch.equal(found.problem.train.batch[1], y)


@pytest.mark.parametrize("metric", [None, "accuracy"])
def test_by_an_objective_that_falls_without_end_nothing_is_proved(metric: str | None) -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    y = 2.0 * (x[:, 0] > 0) - 1.0  # the logistic loss wants 0 and 1
    problem = ds.Problem(model="logistic", objective="logistic", train=(x, y), metric=metric)
    recipe = ds.Recipe(optimizer="gd", lr=0.1, steps=40)
    found = ds.repair(problem, recipe, budget="40 steps", progress=False, folder=False)
    assert bool(found.trials) == (metric is not None)
    if metric is None:
        assert found.kept is None
        assert "falls without end" in str(found)
        assert "objective -> hinge" in [str(each) for each in found.advice]


@pytest.mark.parametrize(("goal", "tried"), [(None, False), (0.85, False), (0.965, True)])
def test_a_healthy_run_is_left_alone_unless_it_stays_short_of_its_goal(
    goal: float | None, tried: bool
) -> None:
    found = ds.repair(
        problem().edit(goal=goal), HOW.edit(epochs=5), budget=STEPS, progress=False, folder=False
    )
    assert found.diagnosis.healthy
    assert bool(found.trials) is tried
    assert found.idle is not tried
    if not tried:
        assert str(found) == "Healthy, nothing to fix."
        assert found.kept is None
        return
    assert found.before is not None
    assert found.after is not None
    assert found.after > found.before
    assert found.problem.goal == goal


def test_labels_without_meaning_are_not_repaired_and_what_was_tried_is_told() -> None:
    generator = torch.Generator().manual_seed(5)
    x, noise = torch.randn(200, 8, generator=generator), torch.randint(0, 2, (300,), generator=generator)
    held = torch.randn(100, 8, generator=generator)

    made = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), metric="accuracy",
        objective="cross_entropy", train=(x, noise[:200]), valid=(held, noise[200:]),
    )  # fmt: skip
    how = ds.Recipe(optimizer="sgd", lr=30.0, epochs=5)
    found = ds.repair(made, how, budget=STEPS, progress=False, folder=False)
    assert not found.diagnosis.healthy
    assert found.kept is None
    assert found.problem is made
    assert found.recipe.lr == 30.0
    assert "Nothing helped for certain" in str(found)
    assert found.screened
    assert str(found.screened[0].edit) in str(found)


@pytest.mark.parametrize(
    ("activation", "expects", "want"),
    [
        ("softmax", "logits", "objective -> categorical"),
        ("sigmoid", "logit", "objective -> bernoulli"),
        ("softmax", "logit", "module 3 -> Sigmoid and objective -> bernoulli"),
        ("tanh", "logits", "module 3 -> Identity"),
    ],
)
def test_a_remedy_leaves_a_probability_a_probability(activation: str, expects: str, want: str) -> None:
    removal = edits.ReplaceModule("3", "torch.nn:Identity")
    output = {"module": "3", "activation": activation, "expects": expects}
    assert str(meant(removal, output)) == want


@pytest.mark.parametrize(
    ("activation", "expects", "want"),
    [
        ("softmax", "logits", "objective -> categorical"),
        ("softmax", "logit", "last softmax in the forward -> sigmoid and objective -> bernoulli"),
        ("tanh", "logits", "last tanh in the forward -> nothing"),
    ],
)
def test_it_does_so_where_the_forward_calls_the_function(activation: str, expects: str, want: str) -> None:
    removal = edits.ReplaceCall(activation, which="last")
    assert str(meant(removal, {"module": None, "activation": activation, "expects": expects})) == want


class Custom(nn.Module):
    """A forward of functions, with what goes wrong in it given."""

    def __init__(self, width: int, cut: bool, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.into, self.head, self.cut, self.end = nn.Linear(2, width), nn.Linear(width, 1), cut, end

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.into(x))
        return self.end(self.head(h.detach() if self.cut else h))


@pytest.mark.parametrize(
    ("model", "words", "sound"),
    [
        (
            lambda: Custom(16, False, lambda x: functional.softmax(x, dim=1)),
            "last softmax in the forward -> sigmoid",
            lambda: Custom(16, False, torch.sigmoid),
        ),
        (
            lambda: Custom(4, True, lambda x: x),
            "let the gradient through",
            lambda: Custom(4, False, lambda x: x),
        ),
    ],
    ids=["softmax over one unit", "features detached"],
)
def test_what_a_custom_forward_calls_is_put_to_a_trial_and_told_as_code(
    model: Any, words: str, sound: Any
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=draw)
    y = (x.square().sum(1, keepdim=True) > 1.4).float()
    made = ds.Problem(model=model, objective="logistic", metric="accuracy", train=(x[:400], y[:400]),
                      valid=(x[400:], y[400:]))  # fmt: skip
    how = ds.Recipe(optimizer="adam", lr=1e-2, batch_size=32, epochs=20)
    found = ds.repair(made, how, budget=STEPS, progress=False, folder=False)
    assert any(words in str(each) for each in found.edits)
    assert "in forward: " in found.diff
    assert found.before is not None
    assert found.after is not None
    seeds = next(each.seeds for each in found.trials if each.verdict == "kept")
    twins = [ds.fit(made.edit(model=sound), how.edit(seed=s), folder=False, progress=False) for s in seeds]
    reachable = np.mean([each.summary["valid_metric"] for each in twins])
    assert found.after > found.before
    assert found.after >= found.before + 0.9 * (reachable - found.before)


def test_what_a_user_reads_is_still_a_probability_and_the_labels_are_the_same() -> None:
    table = breast_cancer(standardise=True)
    assert table.valid is not None
    made = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 1), nn.Sigmoid()),
        objective=nn.BCEWithLogitsLoss(), metric="accuracy",
        train=(table.train[0], table.train[1].float().unsqueeze(1)),
        valid=(table.valid[0], table.valid[1].float().unsqueeze(1)),
    )  # fmt: skip
    found = ds.repair(made, ds.Recipe(optimizer="sgd", lr=1e-3, epochs=5), budget=STEPS, progress=False,
                      folder=False)  # fmt: skip
    assert found.kept is not None
    run = ds.fit(found.problem, found.recipe, folder=False, progress=False)
    output = run.model()(table.train[0]).detach()
    assert 0 <= float(output.min()) < 0.5 < float(output.max()) <= 1
    before, after = (each.train_source.batch for each in (made, found.problem))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_trials_of_a_budget_in_steps_are_as_long_as_that_and_the_kept_recipe_is_whole() -> None:
    found = ds.repair(problem(), HOW.edit(lr=60.0), budget="60 steps", progress=False, folder=False)
    assert any("cut to 60 of" in note for note in found.notes)
    assert found.kept is not None
    assert found.recipe.epochs == 10
    assert found.recipe.steps is None
