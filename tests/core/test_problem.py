"""A problem refuses at once, in one line, what could only fail later or would quietly mean something else."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ModelError, ObjectiveError
from tests.training.problems import data, mlp, regression

X, Y = data()


class Scored:
    """An objective or metric that is an object, as torchmetrics has them."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).mean()


@pytest.mark.parametrize(
    ("given", "kind", "part"),
    [
        ({"objective": nn.MSELoss}, InputError, "objective=MSELoss is a class: make one, MSELoss()"),
        ({"objective": Scored}, InputError, "objective=Scored is a class: make one, Scored()"),
        ({"metric": nn.L1Loss}, InputError, "metric=L1Loss is a class: make one, L1Loss()"),
        ({"metric": Scored}, InputError, "metric=Scored is a class: make one, Scored()"),
        ({"objective": 3}, ObjectiveError, "objective=3: must be a name or (output, target) -> scalar"),
        ({"metric": 3}, InputError, "metric=3: must be a name or (output, target) -> float"),
        ({"goal": "x"}, InputError, "goal='x': must be a finite number; leave it out if there is none"),
        ({"goal": True}, InputError, "goal=True: must be a finite number"),
        ({"goal": math.inf}, InputError, "goal=inf: must be a finite number"),
        ({"goal": np.zeros(2)}, InputError, "must be a finite number"),
        ({"goal": torch.zeros(2)}, InputError, "must be a finite number"),
        ({"metric_goal": "up"}, InputError, "metric_goal='up': must be 'max' or 'min'"),
        ({"maximize": "yes"}, InputError, "maximize='yes': must be True or False"),
        ({"constraint": 3}, InputError, "constraint=3: must be a function of the model"),
        ({"split": 3}, InputError, "split=3: must be a function batch -> (args, kwargs, target)"),
        ({"arguments": [1]}, InputError, "arguments=[1]: must be a dict of keyword arguments"),
        ({"model": 3}, ModelError, "model=3: must be a factory (**arguments) -> nn.Module, or a name"),
    ],
)
def test_a_field_of_the_wrong_kind_is_told_with_what_is_allowed(
    given: dict[str, Any], kind: type[Exception], part: str
) -> None:
    with pytest.raises(kind) as told:
        regression(**given)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_a_goal_may_be_a_scalar_of_numpy_or_torch(given: Any) -> None:
    goal = regression(goal=given).goal
    assert goal == 0.5
    assert type(goal) is float


@pytest.mark.parametrize(
    ("split", "part"),
    [
        (lambda batch: batch, "split gave 2 parts: it must give (args, kwargs, target), such as ((x,)"),
        (lambda batch: None, "split gave NoneType"),
        (lambda batch: (batch[0], {}, batch[1]), "split gave args of type Tensor and kwargs of type dict"),
        (lambda batch: ((batch[0],), None, batch[1]), "args of type tuple and kwargs of type NoneType"),
        (lambda batch: batch[7], "split failed on a batch: IndexError: tuple index out of range (test"),
    ],
)  # fmt: skip
def test_a_split_that_gives_something_else_is_told(split: Any, part: str) -> None:
    with pytest.raises(InputError) as told:
        ds.fit(regression(split=split), ds.Recipe(epochs=1), folder=False, progress=False)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_a_split_of_ones_own_trains_as_the_default_does() -> None:
    def turned(batch: Any) -> Any:
        target, inputs = batch
        return [inputs], {}, target

    how = ds.Recipe(epochs=2, batch_size=16)
    own = ds.fit(regression(train=(Y, X), valid=None, split=turned), how, folder=False, progress=False)
    usual = ds.fit(regression(train=(X, Y), valid=None), how, folder=False, progress=False)
    for a, b in zip(own.model().parameters(), usual.model().parameters(), strict=True):
        assert torch.equal(a, b)


def by_itself(model: nn.Module) -> None:
    raise ValueError("not a ball")


def in_torch(model: nn.Module) -> None:
    nn.init.xavier_normal_(torch.zeros(3))


def in_python(model: nn.Module) -> None:
    json.loads("{")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (by_itself, "ValueError: not a ball"),
        (in_torch, "ValueError: Fan in"),
        (in_python, "JSONDecodeError: "),
    ],
)
def test_a_constraint_that_raises_is_told_with_ones_own_line(bad: Any, words: str) -> None:
    with pytest.raises(InputError) as told:
        ds.fit(regression(constraint=bad), ds.Recipe(epochs=1), folder=False, progress=False)
    text = str(told.value)
    assert text.startswith(f"the constraint failed: {words}")
    assert text.endswith(f"(test_problem.py, line {bad.__code__.co_firstlineno + 1})")
    assert "\n" not in text


def test_a_constraint_holds_after_every_step_and_in_what_is_handed_out() -> None:
    seen: list[float] = []

    def clamp(model: nn.Module) -> None:
        seen.append(max(float(each.abs().max()) for each in model.parameters()))
        for each in model.parameters():
            each.clamp_(-0.1, 0.1)

    run = ds.fit(
        regression(model=mlp, constraint=clamp), ds.Recipe(lr=0.1, epochs=2, batch_size=16),
        folder=False, progress=False,
    )  # fmt: skip
    assert len(seen) == run.summary["steps"] + 1  # the start is inside as well
    assert max(seen) > 0.1
    assert max(float(each.detach().abs().max()) for each in run.model("last").parameters()) <= 0.1 + 1e-7


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: ds.Problem(modle="mlp"), "'modle' is no field of a Problem; did you mean 'model'?"),
     (lambda: ds.Problem("mlp"), "takes its fields by name")],
)  # fmt: skip
def test_a_field_that_is_misspelt_or_not_named_is_told(make: Any, said: str) -> None:
    with pytest.raises(InputError) as told:
        make()
    assert said in str(told.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("made", [torch.jit.script, lambda each: torch.jit.trace(each, torch.zeros(2, 3))])
def test_torchscript_is_refused_with_what_to_give(made: Any) -> None:
    script = made(nn.Linear(3, 1))
    for model in (script, lambda: nn.Sequential(script)):
        problem = ds.Problem(
            model=model, objective="squared_error", train=(torch.zeros(4, 3), torch.zeros(4))
        )
        with pytest.raises(ModelError, match=r"TorchScript.* give the module that went into torch\.jit"):
            problem.build()
