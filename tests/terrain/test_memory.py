"""Where memory ends: a model that cannot take more than so many rows at once is looked at in parts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ModelError
from downslope.terrain.ground import Ground, ground_of
from downslope.terrain.ground.stand import running
from downslope.terrain.hvp import Hessian
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.operators.functional import ForwardOverReverse
from downslope.terrain.operators.outputs import Outputs
from downslope.terrain.slices import heights
from downslope.terrain.slices.heights import Heights

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


@pytest.mark.parametrize("kind", ["gauss_newton", "fisher"])
@pytest.mark.parametrize("late", [False, True])
def test_products_through_the_outputs_stay_exact_where_memory_ends(
    kind: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends as the graph is formed (`Late`) or as a product is taken."""
    wide = ground_of(problem(ROWS), seed=0, dtype=torch.float64)
    vector = torch.randn(wide.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = getattr(wide, kind)().product(vector)
    real = Outputs._reverse

    def reverse(self: Outputs, direction: Tensor) -> list[Tensor]:
        if len(self.batch[0]) > LIMIT:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory")
        return real(self, direction)

    asked = problem(ROWS)
    if late:
        asked = ds.Problem(model=lambda: Late(ROWS), objective="cross_entropy", train=asked.train)
    else:
        monkeypatch.setattr(Outputs, "_reverse", reverse)
    ground = ground_of(asked, seed=0, dtype=torch.float64)
    operator = getattr(ground, kind)()
    torch.testing.assert_close(operator.product(vector), wanted, rtol=1e-10, atol=1e-12)
    assert operator.exact
    assert len(told(ground.notes)) == 1


def test_a_way_without_memory_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(Curvature, "_worth", lambda *_: ["linearize"])
    monkeypatch.setattr(ForwardOverReverse, "__init__", refuse)
    ground = ground_of(problem(ROWS), seed=0)
    operator = Curvature(ground, "hessian", products=1000)
    operator.product(torch.ones(ground.size))
    assert operator.way == "reverse"
    assert ground.notes == ["out of memory: products by linearize were left out of the choice"]


def test_a_closure_without_memory_for_its_graph_says_that_products_are_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Hessian) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    x = torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(Hessian, "_record", refuse)
    ground = Ground.of_closure(lambda: x.pow(4).sum(), [x])
    operator = ground.hessian()
    found = operator.product(torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found, 12 * x.detach() ** 2, rtol=1e-6, atol=1e-9)
    assert not operator.exact
    assert [each.split(":")[0] for each in ground.notes] == ["out of memory"]


@pytest.mark.parametrize(
    ("most", "tried", "chunk"), [(1, True, 1), (8, True, 8), (32, True, 32), (8, False, 4)]
)
def test_a_slice_whose_points_have_no_memory_together_takes_fewer_and_tells_it(
    most: int, tried: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether memory ends as batches are tried or later."""

    def timed(self: Heights, points: Any) -> float:
        if tried:
            self._batched(points)
        return 1e-9

    settings: dict[str, Any] = {"points": 8, "dtype": torch.float64, "exact": True, "progress": False}
    monkeypatch.setattr(heights, "LOOPED", math.inf)
    monkeypatch.setattr(Heights, "_timed", timed)
    wide = ds.landscape(problem(ROWS), **settings)
    real: Any = torch.func.vmap

    def vmap(value: Any, **kwargs: Any) -> Any:
        def call(tensors: Any, batch: Any) -> Tensor:
            if len(next(iter(tensors.values()))) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return real(value, **kwargs)(tensors, batch)

        return call

    monkeypatch.setattr(torch.func, "vmap", vmap)
    parts = ds.landscape(problem(ROWS), **settings)
    assert abs(wide.values - parts.values).max() < 1e-12
    said = [each for each in parts.notes if each.startswith("out of memory")]
    way = "one by one" if chunk == 1 else f"in batches of {chunk}"
    assert said == [f"out of memory: points go {way}"]


def test_want_of_memory_is_no_fault_of_the_model() -> None:
    with pytest.raises(RuntimeError, match="not enough memory"), running(nn.Linear(2, 2)):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 20 bytes")
    with pytest.raises(ModelError, match=r"Linear.*does not run.*shapes"), running(nn.Linear(2, 2)):
        raise RuntimeError("shapes cannot be multiplied")
