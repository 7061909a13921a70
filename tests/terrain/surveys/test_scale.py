"""What counts as much of a loss: what its objective leaves to be won, above whatever constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.terrain.ground import ground_of
from downslope.terrain.surveys.scale import left

ROWS, CLASSES = 40, 4


def problem(objective: Any, target: Tensor | None = None, **settings: Any) -> ds.Problem:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 3, generator=draw, dtype=torch.float64)
    y = torch.randint(CLASSES, (ROWS,), generator=draw) if target is None else target
    return ds.Problem(
        model=lambda: nn.Linear(3, CLASSES).double(), objective=objective, train=(x, y), **settings
    )


def numbers() -> Tensor:
    return torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def above(constant: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda output, target: functional.cross_entropy(output, target) + constant


@pytest.mark.parametrize("constant", [1e6, 30.0, -1.4, -30.0])
def test_a_constant_in_the_loss_changes_nothing_that_is_told_of_the_ground(constant: float) -> None:
    bare = ds.survey(problem(above(0.0)), dtype=torch.float64, progress=False)
    found = ds.survey(problem(above(constant)), dtype=torch.float64, progress=False)
    assert (found.kind, bare.kind) == ("slope", "slope")
    assert found.loss == pytest.approx(bare.loss + constant)
    assert found.scale == pytest.approx(bare.scale, rel=1e-2)
    assert found.slope_gain == pytest.approx(bare.slope_gain, rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_saturated_outputs_stay_a_plateau_above_a_constant(constant: float) -> None:
    asked = problem(
        lambda output, target: (output.sigmoid() - 1).square().mean() + 0 * target.sum() + constant
    )
    model = asked.build(0)
    nn.init.constant_(model.bias, -15.0)  # type: ignore[arg-type]
    assert ds.survey(asked, model, progress=False).kind == "plateau"


@pytest.mark.parametrize("chunk", [None, 7])
def test_what_is_left_of_soft_targets_is_what_is_above_their_entropy(chunk: int | None) -> None:
    ground = ground_of(problem(nn.CrossEntropyLoss(label_smoothing=0.2)), seed=0)
    ground.chunk = chunk or ground.chunk
    hit, miss = 0.8 + 0.2 / CLASSES, 0.2 / CLASSES
    entropy = -hit * math.log(hit) - (CLASSES - 1) * miss * math.log(miss)
    before = ground.where()
    assert left(ground, ground.loss()) == pytest.approx(ground.loss() - entropy, rel=2e-3)
    assert torch.equal(ground.where(), before)


@pytest.mark.parametrize(
    ("objective", "target", "most"),
    [
        ("cross_entropy", None, 2e-2),
        (nn.CrossEntropyLoss(reduction="sum"), None, 2e-2),
        ("squared_error", numbers(), 1e-9),
        (nn.L1Loss(), numbers(), 3e-2),
        (
            lambda output, target: (output.sigmoid() - target.sigmoid().round()).square().mean(),
            numbers(),
            2e-2,
        ),
    ],
)
def test_of_an_objective_that_goes_down_to_zero_all_is_left(objective: Any, target: Any, most: float) -> None:
    ground = ground_of(problem(objective, target), seed=0)
    assert left(ground, ground.loss()) == pytest.approx(ground.loss(), rel=most)


def refusing(output: Tensor, target: Tensor) -> Tensor:
    if output.is_leaf and output.requires_grad:
        raise ValueError("no model gave this")
    return (output - target).square().mean()


@pytest.mark.parametrize(
    "objective",
    [
        lambda output, target: -(output * target).mean(),
        lambda output, target: -output.square().mean() + 0 * target.mean(),
        lambda output, target: (
            output[:, :1].exp() * (output[:, 1:2] - target[:, :1]) ** 2 - output[:, :1]
        ).mean(),
        refusing,
    ],
)
def test_without_a_least_value_the_losss_own_size_counts(objective: Any) -> None:
    ground = ground_of(problem(objective, numbers()), seed=0)
    assert left(ground, ground.loss()) == abs(ground.loss())


def test_a_maximised_objective_counts_from_its_largest_value() -> None:
    turned = problem(lambda output, target: 5 - functional.cross_entropy(output, target), maximize=True)
    ground = ground_of(turned, seed=0)
    assert left(ground, ground.loss()) == pytest.approx(ground.loss() + 5, rel=1e-2)


def test_penalties_are_taken_to_go_down_to_zero() -> None:
    asked = problem("squared_error", numbers()).edit(**{"objective.l2": 1.0})
    ground = ground_of(asked, seed=0)
    bare = ground_of(problem("squared_error", numbers()), seed=0)
    assert ground.loss() > 1.2 * bare.loss()
    assert left(ground, ground.loss()) == pytest.approx(ground.loss(), rel=1e-9)
