"""The ground of a problem: precision, pieces, and what is held still, against the loss written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import ModelError
from downslope.terrain.ground import ground_of
from downslope.terrain.ground.stand import ground_at
from downslope.terrain.operators import dense

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(50, 4, generator=DRAW)
Y = torch.randint(0, 3, (50,), generator=DRAW)
WEIGHT = torch.tensor([1.0, 5.0, 0.2])
WIDE = {"examples": "all", "dtype": torch.float64}


def linear() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(4, 3)


def hessian(loss: Any, model: nn.Module) -> Tensor:
    """Of ``loss(outputs)`` by the weights of a linear model, in float64."""
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).double()
    return torch.autograd.functional.hessian(lambda w: loss(X.double() @ w[:12].view(3, 4).T + w[12:]), theta)


class Held(nn.Module):
    """A plain tensor, which no cast reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.matrix = linear(), torch.eye(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x @ self.matrix)


HOLDING = {
    "a module's weights": (linear, nn.CrossEntropyLoss(weight=WEIGHT), WEIGHT),
    "a closure": (linear, lambda o, t: functional.cross_entropy(o, t, weight=WEIGHT), WEIGHT),
    "a constant": (linear, lambda o, t: functional.cross_entropy(o @ torch.eye(3), t), None),
    "a plain attribute": (Held, "cross_entropy", None),
}


@pytest.mark.parametrize("name", HOLDING)
def test_float64_is_that_of_what_model_and_objective_hold_too(name: str) -> None:
    make, objective, weight = HOLDING[name]
    problem = ds.Problem(model=make, objective=objective, train=(X, Y))
    ground = ground_of(problem, make(), **WIDE)
    wide = None if weight is None else weight.double()
    truth = hessian(lambda z: functional.cross_entropy(z, Y, weight=wide), make())
    torch.testing.assert_close(dense(ground.hessian()), truth, rtol=1e-10, atol=1e-12)
    found = ds.survey(problem, make(), dtype="float64", progress=False)
    assert found.kind == "slope"
    assert found.loss == pytest.approx(ground.loss())


def test_the_convexity_of_a_weighted_linear_model_is_told() -> None:
    problem = ds.Problem(model=linear, objective=nn.CrossEntropyLoss(weight=WEIGHT), train=(X, Y))
    assert ds.convexity(problem).convex
    found = ds.survey(problem, progress=False)
    assert found.convexity is not None
    assert found.convexity.convex


def test_a_model_bound_to_float32_is_measured_in_it_and_that_is_told() -> None:
    problem = ds.Problem(model=Bound, objective="cross_entropy", train=(X, Y))
    found = ds.survey(problem, dtype="float64", progress=False)
    assert any(each.startswith("model and objective run in float32 alone") for each in found.notes)
    with pytest.raises(ModelError, match=r"float32 alone: .*measured in torch\.float64"):
        ground_at(problem, problem.build(0), examples=50, dtype=torch.float64, seed=0)


class Bound(nn.Module):
    """Which computes in float32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found Double")
        return self.inner(x)


IGNORING = torch.where(torch.arange(50) < 20, -100, Y)


def pieces(rows: int, target: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, target), batch_size=rows)


@pytest.mark.parametrize("rows", [8, 16, 50])
def test_batches_in_which_nothing_counts_have_no_part_in_the_loss(rows: int) -> None:
    problem = ds.Problem(model=linear, objective=nn.CrossEntropyLoss(), train=pieces(rows, IGNORING))
    ground = ground_of(problem, linear(), **WIDE)
    truth = hessian(lambda z: functional.cross_entropy(z, IGNORING), linear())
    torch.testing.assert_close(dense(ground.hessian()), truth, rtol=1e-10, atol=1e-12)
    assert ground.notes == []
    found = ds.survey(problem, linear(), examples="all", progress=False)
    whole = functional.cross_entropy(linear()(X), IGNORING)
    assert found.loss == pytest.approx(float(whole.detach()), rel=1e-5)


def test_the_exact_minimum_is_that_without_batches_in_which_nothing_counts() -> None:
    sides = [
        ds.solve(ds.Problem(model=linear, objective=nn.CrossEntropyLoss(), train=each), l2=0.1).objective
        for each in (pieces(16, IGNORING), (X, IGNORING))
    ]
    assert sides[0] == pytest.approx(sides[1], rel=1e-10)


def test_a_mean_over_pieces_is_told_with_their_number_and_size_and_one_piece_is_none() -> None:
    weighing = lambda o, t: functional.cross_entropy(o, t, weight=WEIGHT)  # noqa: E731
    some = ds.Problem(model=linear, objective=weighing, train=pieces(16, Y))
    (note,) = ground_of(some, linear(), **WIDE).notes
    assert note.endswith("the loss is the mean over 4 pieces of 16 of them")
    one = ground_of(ds.Problem(model=linear, objective=weighing, train=pieces(50, Y)), linear(), **WIDE)
    assert one.notes == []
    truth = hessian(lambda z: functional.cross_entropy(z, Y, weight=WEIGHT.double()), linear())
    torch.testing.assert_close(dense(one.hessian()), truth, rtol=1e-10, atol=1e-12)


class Always(nn.Module):
    """Dropout that is always on, or is functional."""

    def __init__(self, *, on: bool) -> None:
        super().__init__()
        self.first, self.last, self.on = nn.Linear(4, 8), nn.Linear(8, 3), on

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.dropout(torch.tanh(self.first(x)), 0.5, self.on or self.training))


def noisy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output + torch.randn_like(output), target)


MOVING: dict[str, tuple[Any, Any, list[str]]] = {
    "dropout and batch norm": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)),
        "cross_entropy",
        ["dropout is off", "batch norm uses its running statistics"],
    ),
    "dropout always on": (lambda: Always(on=True), "cross_entropy", ["the loss draws random numbers"]),
    "functional dropout": (
        lambda: Always(on=False),
        "cross_entropy",
        ["the model computes another loss"],
    ),
    "noise in the objective": (linear, noisy, ["the loss draws random numbers"]),
    "nothing": (linear, "cross_entropy", []),
}


@pytest.mark.parametrize("name", MOVING)
def test_what_is_held_still_is_told_of_a_start_and_of_a_run(name: str) -> None:
    make, objective, wanted = MOVING[name]
    problem = ds.Problem(model=make, objective=objective, train=(X, Y))
    run = ds.fit(problem, ds.Recipe(optimizer="sgd", lr=0.1, steps=2), folder=False, progress=False)
    for given in (None, make(), make().eval(), run):
        model = None if given is None else given
        buffers = [] if not isinstance(model, nn.Module) else [each.clone() for each in model.buffers()]
        notes = ground_of(problem, model).notes
        assert len(notes) == len(wanted)
        assert all(each.startswith(start) for each, start in zip(notes, wanted, strict=True))
        if isinstance(model, nn.Module):
            assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))


def test_in_training_mode_it_is_the_loss_of_training_with_masks_drawn_once() -> None:
    make = MOVING["dropout and batch norm"][0]
    problem = ds.Problem(model=make, objective="cross_entropy", train=(X, Y))
    ground = ground_of(problem, training=True)
    assert [each.partition(",")[0] for each in ground.notes] == [
        "dropout is held still",
        "batch norm uses the statistics of the examples measured on",
    ]
    assert ground.loss() == ground.loss()
    plain = lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))  # noqa: E731
    problem = ds.Problem(model=plain, objective="cross_entropy", train=(X, Y))
    model = problem.build(0).train()
    truth = functional.cross_entropy(model(X), Y)
    assert ground_of(problem, training=True).loss() == pytest.approx(float(truth.detach()), rel=1e-6)
