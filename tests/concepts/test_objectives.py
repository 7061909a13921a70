"""Linear, logistic and softmax regression beside scikit-learn and the normal equations; ascent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

import downslope as ds

PENALTY = 0.01
"""Decay of the weights: it makes the minimum unique where the classes can be separated."""


def fitted(problem: ds.Problem, lr: float, steps: int, decay: float = 0.0) -> torch.nn.Module:
    recipe = ds.Recipe(
        optimizer="nesterov",
        momentum=0.9,
        lr=lr,
        steps=steps,
        batch_size="full",
        weight_decay=decay,
        precision="float64",
    )
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0).model()


def test_linear_regression_is_scikit_learns() -> None:
    x, y = ds.data.diabetes(standardise=True).train
    x = x[:, [2, 3, 8]]
    model = fitted(ds.Problem(model="linear", objective="squared_error", train=(x, y)), 0.1, 600)
    other = LinearRegression().fit(x.double().numpy(), y.double().numpy())
    weight, bias = (p.detach().numpy() for p in model.parameters())
    np.testing.assert_allclose(weight[0], other.coef_, rtol=1e-6)
    np.testing.assert_allclose(bias[0], other.intercept_, rtol=1e-6)


def test_logistic_regression_gives_log_odds_as_scikit_learn_does() -> None:
    x, y = ds.data.breast_cancer(standardise=True).train
    problem = ds.Problem(model="logistic", objective="logistic", train=(x, y.float()))
    model = fitted(problem, 0.2, 3000, PENALTY)
    inputs = x.double().numpy()
    other = LogisticRegression(C=1 / (len(x) * PENALTY), tol=1e-10, max_iter=10_000).fit(inputs, y.numpy())
    with torch.no_grad():
        z = model(x.double())[:, 0].numpy()
    np.testing.assert_allclose(z, other.decision_function(inputs), atol=1e-4)
    p = other.predict_proba(inputs)[:, 1]
    np.testing.assert_allclose(z, np.log(p / (1 - p)), atol=1e-4)


def test_softmax_regression_gives_scikit_learns_probabilities() -> None:
    x, y = ds.data.wine(standardise=True).train
    model = fitted(ds.Problem(model="softmax", objective="cross_entropy", train=(x, y)), 0.2, 3000, PENALTY)
    inputs = x.double().numpy()
    other = LogisticRegression(C=1 / (len(x) * PENALTY), tol=1e-10, max_iter=10_000).fit(inputs, y.numpy())
    with torch.no_grad():
        p = model(x.double()).softmax(1).numpy()
    np.testing.assert_allclose(p, other.predict_proba(inputs), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_going_up_on_an_objective_is_going_down_on_its_negative(optimizer: str) -> None:
    x, y = ds.data.wine(standardise=True).train

    def likelihood(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output.log_softmax(1).gather(1, target[:, None]).mean()

    down = ds.Problem(model="softmax", objective="cross_entropy", train=(x, y))
    up = down.edit(objective=likelihood, maximize=True)
    recipe = ds.Recipe(optimizer=optimizer, lr=0.05, steps=50, batch_size="full", precision="float64")
    fell = ds.fit(down, recipe, folder=False, progress=False)
    rose = ds.fit(up, recipe, folder=False, progress=False)
    np.testing.assert_allclose(
        rose.history.series("train_loss").values, -fell.history.series("train_loss").values, rtol=1e-12
    )
    for a, b in zip(rose.model().parameters(), fell.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert rose.summary["train_loss"] == pytest.approx(-fell.summary["train_loss"], rel=1e-12)
