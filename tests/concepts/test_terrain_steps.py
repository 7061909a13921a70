"""Plateaus, and steps that raise the loss: measured beside closed forms and the losses themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds

# -- 23: plateaus -----------------------------------------------------------------------------------------


class Shut(nn.Module):
    """A sigmoid that starts almost shut."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        nn.init.constant_(self.layer.bias, -8.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x))[:, 0]


class Open(Shut):
    """The same model, its sigmoid left to the objective."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, 0]


X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X.sum(1) > -1).double()
SHUT = ds.Problem(model=Shut, objective="squared_error", train=(X, Y))


def after(steps: int) -> nn.Module:
    recipe = ds.Recipe(optimizer="gd", lr=4.0, steps=steps, precision="float64")
    return ds.fit(SHUT, recipe, folder=False, progress=False, observe=0).model("last").double()


def test_a_shut_sigmoid_stands_on_a_plateau_for_long_and_walks_on_at_last() -> None:
    """The gradient by its closed form, 2 mean((p - y) p (1 - p) (x, 1)); p (1 - p) is what makes it flat."""
    kinds, losses = [], []
    for steps in (1, 100, 310):
        model = after(steps)
        terrain = ds.survey(SHUT, model, progress=False)
        p = model(X).detach().numpy()
        inputs = np.column_stack([X.numpy(), np.ones(len(X))])
        exact = 2 * ((p - Y.numpy()) * p * (1 - p)) @ inputs / len(X)
        assert terrain.gradient_norm == pytest.approx(np.linalg.norm(exact), rel=1e-6)
        kinds.append(terrain.kind)
        losses.append(terrain.loss)
    assert kinds == ["plateau", "plateau", "slope"]
    assert losses[1] > 0.995 * losses[0]
    assert losses[2] < 0.8 * losses[0]


def test_on_a_plateau_no_direction_leads_anywhere_and_beside_it_some_do() -> None:
    """The losses themselves along 200 directions, a move by a tenth of the weights' size each."""

    def change(problem: ds.Problem, model: nn.Module) -> float:
        weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        draw = torch.Generator().manual_seed(1)
        here = float(problem.objective(model(X), Y).detach())
        seen = []
        for _ in range(200):
            way = torch.randn(len(weights), generator=draw, dtype=torch.float64)
            moved = weights + 0.1 * weights.norm() * way / way.norm()
            torch.nn.utils.vector_to_parameters(moved, model.parameters())
            seen.append(abs(float(problem.objective(model(X), Y).detach()) - here))
        return max(seen) / here

    model = SHUT.build(0).double()
    assert ds.survey(SHUT, model, progress=False).kind == "plateau"
    assert change(SHUT, model) < 0.01
    open_ = SHUT.edit(model=Open, objective="logistic")
    same = open_.build(0).double()
    assert ds.survey(open_, same, progress=False).kind == "slope"
    assert change(open_, same) > 0.05


# -- 24: ill-conditioning ---------------------------------------------------------------------------------


def test_a_step_on_a_quadratic_raises_the_loss_exactly_where_the_rule_says() -> None:
    """J = w^T A w / 2 over random A, w and rates: if and only if lr gAg > 2 gg."""
    draw = np.random.default_rng(0)
    raised = 0
    for _ in range(200):
        root = draw.normal(size=(4, 4))
        a, w = root @ root.T, draw.normal(size=4)
        g = a @ w
        lr = 10 ** draw.uniform(-2, 0.5)
        change = (w - lr * g) @ a @ (w - lr * g) / 2 - w @ a @ w / 2
        assert (change > 0) == (lr * (g @ a @ g) > 2 * (g @ g))
        raised += change > 0
    assert 20 < raised < 180


def test_the_expansion_foretells_it_for_a_network_wherever_the_third_order_is_small() -> None:
    """Every step of a run near its limit: the sign of the change, beside the loss before and after."""
    digits = ds.data.digits(scale=16)
    x, y = digits.train[0][:200].double(), digits.train[1][:200]
    net = ds.Problem(
        model="mlp", objective="cross_entropy", train=(x, y),
        arguments={"width": 12, "depth": 1, "activation": "tanh"},
    )  # fmt: skip
    model, lr = net.build(0).double(), 1.0
    seen: list[tuple[float, float, float]] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        found = ds.expansion(net, model, lr=lr)
        assert found.loss == pytest.approx(loss.item(), rel=1e-12)
        seen.append((found.steps[0].predicted, found.steps[0].actual, loss.item()))
        optimizer.step()
    happened = np.diff([before for _, _, before in seen])
    np.testing.assert_allclose([actual for _, actual, _ in seen[:-1]], happened, atol=1e-9)
    sure = [(p, a) for p, a, _ in seen if abs(a - p) < 0.5 * abs(p)]
    assert len(sure) > 12
    assert all((p > 0) == (a > 0) for p, a in sure)
    assert any(p > 0 for p, _ in sure)


def test_even_a_small_step_raises_the_loss_of_inputs_in_units_of_their_own() -> None:
    """Beside the eigenvalues of 2 X^T X / n in NumPy; scaled inputs have a kappa below 1e3, not 1e7."""
    x, y = ds.data.diabetes().train
    x, y = x.double(), y.double()
    kappas, rises = [], []
    for inputs in (x, (x - x.mean(0)) / x.std(0)):
        line = ds.Problem(model="linear", objective="squared_error", train=(inputs, y))
        whole = np.column_stack([inputs.numpy(), np.ones(len(inputs))])
        values = np.linalg.eigvalsh(2 * whole.T @ whole / len(whole))
        terrain = ds.survey(line, dtype=torch.float64, progress=False)
        assert terrain.sharpness == pytest.approx(values[-1], rel=1e-9)
        assert terrain.condition == pytest.approx(values[-1] / values[0], rel=1e-4)
        found = ds.expansion(line, lr=1e-4, dtype=torch.float64)
        assert 2 / values[-1] <= found.limit <= 2 / values[0]
        kappas.append(terrain.condition)
        rises.append(found.steps[0].actual > 0)
    assert kappas[0] > 1e7
    assert kappas[1] < 1e3
    assert rises == [True, False]


@pytest.mark.parametrize("kappa", [10.0, 300.0])
def test_steps_grow_with_the_condition_number_and_with_its_root_under_momentum(kappa: float) -> None:
    """On (a^2 + kappa b^2) / 2 a step at the best rate leaves (kappa - 1) / (kappa + 1) of the error."""
    root = math.sqrt(kappa)
    rates = {
        (kappa - 1) / (kappa + 1): {"lr": 2 / (1 + kappa)},
        (root - 1) / (root + 1): {"lr": 4 / (1 + root) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2},
    }
    for factor, settings in rates.items():
        place = torch.ones(2, dtype=torch.float64, requires_grad=True)
        optimizer = ds.optim.SGD([place], **settings)
        bends = torch.tensor([1.0, kappa], dtype=torch.float64)
        sizes = []
        for _ in range(400):
            optimizer.zero_grad()
            (bends * place.square()).sum().div(2).backward()
            optimizer.step()
            sizes.append(float(place.detach().norm()))
        late = [(sizes[k + 50] / sizes[k]) ** (1 / 50) for k in (20, 50) if sizes[k + 50] > 1e-250]
        assert late[-1] == pytest.approx(factor, rel=0.05)
