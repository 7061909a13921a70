"""Where memory ends: a model that cannot take more than so many rows at once is looked at in parts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ModelError
from downslope.terrain.ground import ground_of

LIMIT = 90
ROWS = 240


class Narrow(nn.Module):
    """A network for which there is no memory above `limit` rows."""

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.body = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.body(x)


def problem(limit: int = LIMIT, **settings: Any) -> ds.Problem:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=draw)
    y = torch.randint(0, 3, (ROWS,), generator=draw)
    return ds.Problem(model=lambda: Narrow(limit), objective="cross_entropy", train=(x, y), **settings)


def told(notes: Any) -> list[str]:
    return [each for each in notes if each.startswith("out of memory: parts of")]


@pytest.mark.parametrize("limit", [LIMIT, 10, 5, 1])
def test_a_survey_goes_on_in_parts_and_tells_it(limit: int) -> None:
    wide = ds.survey(problem(ROWS), dtype=torch.float64, progress=False)
    parts = ds.survey(problem(limit), dtype=torch.float64, progress=False)
    assert len(told(parts.notes)) == 1
    assert not told(wide.notes)
    assert parts.kind == wide.kind
    assert math.isclose(parts.loss, wide.loss, rel_tol=1e-12)
    torch.testing.assert_close(parts.eigenvalues, wide.eigenvalues, rtol=1e-9, atol=1e-12)


def test_a_model_without_memory_for_one_row_is_refused_in_a_line() -> None:
    with pytest.raises(ModelError, match="not enough for a single example"):
        ds.survey(problem(0), progress=False)


@pytest.mark.parametrize("quantity", ["loss", "accuracy"])
def test_a_slice_goes_on_in_parts_and_tells_it(quantity: str) -> None:
    settings: dict[str, Any] = {"points": 7, "dimensions": 1, "quantity": quantity, "progress": False}
    wide, parts = (ds.landscape(problem(limit), dtype=torch.float64, **settings) for limit in (ROWS, LIMIT))
    assert len(told(parts.notes)) == 1
    assert abs(wide.values - parts.values).max() < 1e-12


def test_chords_and_curvature_go_on_in_parts() -> None:
    wide, parts = (ds.convexity(problem(limit)) for limit in (ROWS, LIMIT))
    assert parts.convex == wide.convex
    assert parts.by == wide.by


def test_the_way_between_two_models_goes_on_in_parts_and_tells_it() -> None:
    found: list[Any] = []
    for limit in (ROWS, 9):
        asked = problem(limit)
        first, second = asked.build(0), asked.build(1)
        found.append(ds.connect(asked, first, second, points=3, curve="none", progress=False))
    assert math.isclose(found[1].barrier, found[0].barrier, rel_tol=1e-5)
    assert len(told(found[1].notes)) == 1


def test_members_that_need_all_examples_at_once_say_what_to_do() -> None:
    with pytest.raises(InputError, match=r"out of memory.*examples="):
        ds.escape(problem(), "gd", seeds=2, steps=2)
    assert ds.escape(problem(), "gd", seeds=2, steps=2, examples=64).trials


def test_kfac_measures_its_factors_in_the_parts_that_fit() -> None:
    made: list[Tensor] = []
    for limit in (ROWS, LIMIT):
        ground = ground_of(problem(limit), seed=0, dtype=torch.float64)
        method = ds.methods.KFAC(ground.model.parameters(), fisher="empirical")
        method.step(ground)
        made.append(ground.where())
    torch.testing.assert_close(*made, rtol=1e-9, atol=1e-12)


class Backward(torch.autograd.Function):
    """Nothing forwards; backwards there is no memory above `LIMIT` rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        if len(slopes[0]) > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return slopes[0]


class Late(Narrow):
    """One whose backward pass is what there is no memory for."""

    def forward(self, x: Tensor) -> Tensor:
        return Backward.apply(super().forward(x))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("size", ["full", 120])
def test_a_step_goes_on_in_parts_where_the_gradient_has_no_memory(
    size: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[Any] = []
    for model in (lambda: Narrow(ROWS), lambda: Late(ROWS)):
        asked = ds.Problem(model=model, objective="cross_entropy", train=problem().train, metric="accuracy")
        recipe = ds.Recipe(optimizer="lbfgs", batch_size=size, steps=3, precision="float64")
        found.append(ds.fit(asked, recipe, folder=False, progress=False, observe=0))
    one, other = ([*run.history.series("train_loss").values] for run in found)
    assert other == pytest.approx(one, rel=1e-9)
    told_of = [each for each in caplog.messages if "out of memory" in each]
    assert len(told_of) == 1


def test_a_fit_tells_that_memory_ended_and_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"out of memory.*accumulate=.*batch_size"):
        ds.fit(problem(), ds.Recipe(optimizer="lbfgs", steps=2), folder=False, progress=False)
    recipe = ds.Recipe(optimizer="lbfgs", steps=2, accumulate=4)
    assert ds.fit(problem(), recipe, folder=False, progress=False).status == "done"
