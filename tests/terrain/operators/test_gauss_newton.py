"""The generalised Gauss-Newton matrix against ``J^T H J`` formed in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import ObjectiveError
from downslope.core.loss import Objective
from downslope.objectives import penalised
from downslope.terrain.ground import ModelGround, Piece
from tests.terrain.operators.dense import grounded, hessian, jacobian, matrix


def mlp(out: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, out))


def data(n: int = 12, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, 4, generator=draw), torch.randint(0, classes, (n,), generator=draw)


def close(found: torch.Tensor, wanted: torch.Tensor, rtol: float = 1e-10) -> None:
    assert (found - wanted).norm() <= rtol * wanted.norm()


def test_it_is_the_jacobian_around_the_hessian_of_the_cross_entropy():
    x, y = data()
    ground = grounded(mlp(), "cross_entropy", (x, y))
    j = jacobian(ground, x.double())
    p = ground.model(x.double()).softmax(1).detach()
    middle = torch.block_diag(*[(torch.diag(q) - torch.outer(q, q)) / 12 for q in p])
    operator = ground.gauss_newton()
    assert operator.exact
    close(matrix(operator), j.T @ middle @ j)


def test_it_is_the_hessian_where_the_model_is_linear():
    x, y = data()
    ground = grounded(nn.Linear(4, 3), "cross_entropy", (x, y))
    close(matrix(ground.gauss_newton()), hessian(ground))


def test_penalties_come_in_with_their_own_hessian_and_maximisation_turns_the_risk_alone():
    x, y = data()
    plain = matrix(grounded(mlp(), "cross_entropy", (x, y)).gauss_newton())
    held = grounded(mlp(), penalised("cross_entropy", l2=0.3), (x, y))
    added = matrix(held.gauss_newton()) - plain
    wanted = hessian(held) - hessian(grounded(mlp(), "cross_entropy", (x, y)))
    close(added, wanted)
    turned = grounded(mlp(), "cross_entropy", (x, y), maximize=True)
    close(matrix(turned.gauss_newton()), -plain)


def test_an_objective_that_reads_the_weights_brings_their_own_hessian_and_it_is_told():
    x, y = data()

    def read(output, target, model):
        return nn.functional.cross_entropy(output, target) + model[2].weight.pow(4).sum()

    ground = grounded(mlp(), read, (x, y))
    wanted = matrix(grounded(mlp(), "cross_entropy", (x, y)).gauss_newton())
    wanted[25:40, 25:40] += torch.diag(12 * ground.model[2].weight.detach().flatten() ** 2)
    close(matrix(ground.gauss_newton()), wanted)
    assert any("reads the model itself" in note for note in ground.notes)


class Heads(nn.Module):
    """Two outputs of one body, in a dict, or as attributes of an object."""

    def __init__(self, as_object: bool = False) -> None:
        super().__init__()
        self.body, self.as_object = mlp(4), as_object

    def forward(self, x):
        z = self.body(x)
        return SimpleNamespace(logits=z) if self.as_object else {"kind": z[:, :3], "size": z[:, 3]}


def test_outputs_of_several_parts_and_objectives_of_ones_own():
    x, y = data()

    def own(output, target):
        return nn.functional.cross_entropy(output["kind"], target) + (output["size"] - target).pow(4).mean()

    ground = grounded(Heads(), own, (x, y))
    held = dict(zip(ground.names, (p.detach() for p in ground.params), strict=True))
    call = torch.func.functional_call

    def outputs(params):
        found = call(ground.model, params, (x.double(),))
        return torch.cat([found["kind"].flatten(), found["size"]])

    found = torch.func.jacrev(outputs)(held)
    j = torch.cat([found[name].flatten(1) for name in ground.names], 1)
    z = outputs(held).detach()
    middle = torch.func.jacrev(
        torch.func.jacrev(lambda z: own({"kind": z[:36].reshape(12, 3), "size": z[36:]}, y))
    )(z)
    close(matrix(ground.gauss_newton()), j.T @ middle @ j)


def test_an_object_with_logits_is_its_logits():
    x, _ = data()
    y = torch.randint(0, 4, (12,), generator=torch.Generator().manual_seed(2))
    as_object = grounded(Heads(as_object=True), "cross_entropy", (x, y))
    plain = grounded(Heads().body, "cross_entropy", (x, y))
    close(matrix(as_object.gauss_newton()), matrix(plain.gauss_newton()))


class OwnLoss(nn.Module):
    """A model that computes its loss, from its logits, or past them."""

    def __init__(self, past: float = 0.0) -> None:
        super().__init__()
        self.body, self.past = mlp(), past

    def forward(self, x, y):
        z = self.body(x)
        loss = nn.functional.cross_entropy(z, y) + self.past * self.body[0].weight.square().sum()
        return {"logits": z, "loss": loss}


def test_a_model_that_computes_its_loss_from_its_logits_is_taken_at_them():
    x, y = data()
    close(
        matrix(grounded(OwnLoss(), None, (x, y)).gauss_newton()),
        matrix(grounded(mlp(), "cross_entropy", (x, y)).gauss_newton()),
    )
    with pytest.raises(ObjectiveError, match="no output to take this curvature at"):
        grounded(OwnLoss(0.1), None, (x, y)).gauss_newton()


def test_an_objective_without_gradient_is_refused_in_one_line():
    x, y = data()
    ground = grounded(mlp(), lambda output, target: (output.argmax(1) != target).double().mean(), (x, y))
    with pytest.raises(ObjectiveError, match="no gradient"):
        ground.gauss_newton()


class Scaled(nn.Module):
    """A layer whose backward forbids a second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(_Cube.apply(self.first(x)))


class _Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_without_a_derivative_of_the_jacobian_outputs_are_differenced():
    x, y = data()
    ground = grounded(Scaled(), "cross_entropy", (x, y))
    j_of = nn.Sequential(ground.model.first, nn.Identity(), ground.model.last)
    h = j_of[0](x.double()).detach()
    operator = ground.gauss_newton()
    v = torch.randn(ground.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    # J v by hand: last(h^3), h = first(x)
    w, b, out, _ = torch.split(v, [20, 5, 15, 3])
    moved = 3 * h**2 * (x.double() @ w.reshape(5, 4).T + b)
    jv = moved @ ground.model.last.weight.T + h**3 @ out.reshape(3, 5).T + v[40:]
    p = ground.model(x.double()).softmax(1).detach()
    wanted = ((p * jv * jv).sum(1) - (p * jv).sum(1) ** 2).mean()
    assert not operator.exact
    assert abs(v @ operator.product(v) - wanted) <= 1e-7 * wanted


def test_in_training_mode_every_look_has_one_mask_and_running_statistics_move_once():
    x, y = data()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    problem = ds.Problem(model=lambda: model, objective="cross_entropy", train=(x, y))
    once = nn.BatchNorm1d(6).double()
    once(model[0](x.double()))
    before = torch.get_rng_state()
    ground = ModelGround(model, Objective(problem), [Piece((x.double(), y), 1.0)], seed=3)
    first, (again, slope) = ground.loss(), ground.slope()
    assert ground.hessian().exact
    ground.gauss_newton().product(slope)
    assert first == again == ground.loss()
    assert first != ModelGround(model, ground.objective, ground.pieces, seed=4).loss()
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    ground.loss()
    assert model[1].num_batches_tracked == 2  # of two grounds
    fresh = nn.BatchNorm1d(6).double()
    for _ in range(2):
        fresh(model[0](x.double()))
    torch.testing.assert_close(model[1].running_mean, fresh.running_mean)
