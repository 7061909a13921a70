"""Losses that are piecewise constant: said, and still answered."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import ObjectiveError

DRAW = torch.Generator().manual_seed(0)
X, Y = torch.randn(60, 6, generator=DRAW), torch.randint(0, 3, (60,), generator=DRAW)


def zero_one(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) != target).float().mean()


OBJECTIVES: dict[str, Any] = {
    "no gradient": zero_one,
    "zero gradient": lambda output, target: zero_one(output, target) + 0 * output.sum(),
    "sign": lambda output, target: torch.sign(output).mean(),
}


def problem(objective: Any, **more: Any) -> ds.Problem:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    return ds.Problem(model=net, objective=objective, train=(X, Y), **more)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_piecewise_constant_loss_is_a_plateau_and_said_to_be_one(name: str) -> None:
    found = ds.survey(problem(OBJECTIVES[name]), progress=False)
    assert found.kind == "plateau"
    assert "piecewise constant" in found.why
    assert "saddle" not in str(found)
    assert found.gradient_norm == 0.0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_of_a_piecewise_constant_loss_a_chord_shows_that_it_is_not_convex(name: str) -> None:
    found = ds.convexity(problem(OBJECTIVES[name]))
    assert (found.convex, found.by) == (False, "chord")


@pytest.mark.parametrize("verb", [lambda p: ds.survey(p, progress=False), ds.convexity])
def test_an_objective_that_is_cut_off_by_mistake_is_still_refused(verb: Any) -> None:
    for objective in (
        lambda output, target: nn.functional.cross_entropy(output.detach(), target),
        lambda output, target: torch.tensor(float(output.detach().numpy().sum())),
    ):
        with pytest.raises(ObjectiveError, match="no gradient"):
            verb(problem(objective))


def test_a_run_on_a_piecewise_constant_loss_says_what_a_sharpness_of_nothing_means(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        run = ds.fit(
            problem(OBJECTIVES["zero gradient"]), ds.Recipe(optimizer="gd", lr=0.1, steps=5), folder=False,
            progress=False, terrain=0.2,
        )  # fmt: skip
    assert set(run.history.series("sharpness").values) == {0.0}
    assert caplog.text.count("curvature is zero") == 1
