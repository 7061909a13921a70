"""Penalties against closed forms and scikit-learn's optima, and which weights they fall on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import ObjectiveError
from downslope.objectives import elastic, l1, l2, penalised

N, D = 60, 5


def data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g, dtype=torch.float64)
    w = torch.tensor([2.0, -1.0, 0.0, 0.05, 0.0], dtype=torch.float64)
    return x, x @ w + 0.5 + 0.3 * torch.randn(N, generator=g, dtype=torch.float64)


def minimised(objective, x: Tensor, y: Tensor, outputs: int = 1) -> nn.Linear:
    """A linear model at the minimum of risk and penalties, by torch's L-BFGS."""
    model = nn.Linear(D, outputs).double()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(model(x), y) + sum(objective.penalties(model).values())
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_l2_beside_a_squared_error_is_ridge(strength):
    x, y = data()
    model = minimised(penalised("squared_error", l2=strength), x, y)
    ridge = Ridge(alpha=N * strength / 2, tol=1e-12).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(model.weight.detach().numpy()[0], ridge.coef_, rtol=1e-6)
    np.testing.assert_allclose(model.bias.item(), ridge.intercept_, rtol=1e-6)
    centred, target = x - x.mean(0), y - y.mean()
    closed = torch.linalg.solve(
        centred.T @ centred + N * strength / 2 * torch.eye(D, dtype=x.dtype), centred.T @ target
    )
    torch.testing.assert_close(model.weight[0].detach(), closed, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("strength", [0.01, 0.5])
def test_l2_beside_a_logistic_loss_is_that_of_scikit_learn(strength):
    x, y = data()
    y = (y > 0.5).long()
    model = minimised(penalised("logistic", l2=strength), x, y)
    wanted = LogisticRegression(C=1 / (N * strength), tol=1e-12, max_iter=10_000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(model.weight.detach().numpy()[0], wanted.coef_[0], rtol=1e-5)
    np.testing.assert_allclose(model.bias.item(), wanted.intercept_[0], rtol=1e-5)


def test_l1_and_the_elastic_net_have_scikit_learns_minimum_where_they_are_given_it():
    x, y = data()
    for own, wanted in (
        (penalised("squared_error", l1=0.4), Lasso(alpha=0.2, tol=1e-12)),
        (penalised("squared_error", elastic(0.4, l1_ratio=0.3)), ElasticNet(0.2, l1_ratio=0.3, tol=1e-12)),
    ):
        wanted.fit(x.numpy(), y.numpy())
        model = nn.Linear(D, 1).double()
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(wanted.coef_)[None])
            model.bias.fill_(float(wanted.intercept_))
        loss = own(model(x), y) + sum(own.penalties(model).values())
        loss.backward()
        zero = model.weight.detach()[0] == 0
        assert zero.any()
        gradient = model.weight.grad[0]
        torch.testing.assert_close(gradient[~zero], torch.zeros_like(gradient[~zero]), atol=1e-8, rtol=0)
        # Where a weight is 0 the risk may pull by no more than the penalty holds.
        limit = 0.4 if own.terms[0].kind == "l1" else 0.4 * 0.3
        assert (gradient[zero].abs() <= limit).all()


def test_fit_goes_down_to_the_lasso_within_the_step_of_a_subgradient():
    x, y = data()
    problem = ds.Problem(
        model=lambda: nn.Linear(D, 1), objective=penalised("squared_error", l1=0.4), train=(x, y)
    )
    recipe = ds.Recipe(
        optimizer="gd", lr=0.05, batch_size="full", steps=3000, schedule="cosine", precision="float64", seed=0
    )
    run = ds.fit(problem, recipe, folder=False, progress=False)
    wanted = Lasso(alpha=0.2, tol=1e-12).fit(x.numpy(), y.numpy())
    found = run.model().weight.detach().numpy()[0]
    np.testing.assert_allclose(found, wanted.coef_, atol=2e-3)
    lowest = float(np.mean((wanted.predict(x.numpy()) - y.numpy()) ** 2) + 0.4 * np.abs(wanted.coef_).sum())
    assert run.summary["train_objective"] == pytest.approx(lowest, rel=1e-4)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_biases_and_norms_are_left_out_unless_they_are_named():
    model = net()
    found = l2(0.5)(model).detach()
    wanted = 0.25 * sum(float(model[i].weight.detach().square().sum()) for i in (0, 2))
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert l1(1.0, only="2.*")(model).item() == pytest.approx(
        float(model[2].weight.detach().abs().sum() + model[2].bias.detach().abs().sum()), rel=1e-6
    )
    only = elastic(2.0, only=["0.weight", "1.weight"], l1_ratio=0.25)(model)
    weights = torch.cat([model[0].weight.flatten(), model[1].weight]).detach()
    assert only.item() == pytest.approx(
        2 * float(0.25 * weights.abs().sum() + 0.75 / 2 * weights.square().sum()), rel=1e-6
    )


def test_a_tied_weight_counts_once_and_a_frozen_one_not_at_all():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert l2(2.0)(model).item() == pytest.approx(float(model[0].weight.detach().square().sum()), rel=1e-6)
    model = net()
    model[0].requires_grad_(False)
    assert l2(2.0)(model).item() == pytest.approx(float(model[2].weight.detach().square().sum()), rel=1e-6)


def test_a_pattern_that_fits_nothing_is_told():
    with pytest.raises(
        ObjectiveError, match=r"only='head.*': no trained parameter fits; there are: 0.weight"
    ):
        l2(0.1, only="head.*")(net())
    with pytest.raises(ObjectiveError, match="two dimensions"):
        l1(0.1)(nn.BatchNorm1d(3))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), True, "a"])
def test_a_strength_outside_its_domain_is_refused(bad):
    with pytest.raises(ObjectiveError, match="must be a number in"):
        l2(bad)


def test_the_gradient_of_l2_is_the_weight_times_its_strength():
    model = net()
    l2(0.3)(model).backward()
    torch.testing.assert_close(model[0].weight.grad, 0.3 * model[0].weight.detach())
    assert model[0].bias.grad is None
