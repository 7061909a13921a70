"""Penalties as priors, decay, dropout as an ensemble, augmentation and early stopping, against scikit-learn,
SciPy, enumeration of all masks and of all changes, and linear algebra.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn.linear_model import Lasso
from torch import nn

import downslope as ds
from downslope.objectives.penalised import penalised

DIABETES = ds.data.diabetes(standardise=True)
X, Y = DIABETES.train[0].double(), ((DIABETES.train[1] - 150) / 75).double()
XN, YN = X.numpy(), Y.numpy()
N = len(X)


def linear(objective: Any = "squared_error", **changes: Any) -> ds.Problem:
    return ds.Problem(model="linear", objective=objective, train=(X, Y), **changes)


def fit(problem: ds.Problem, **how: Any) -> nn.Module:
    recipe = ds.Recipe(**({"optimizer": "gd", "lr": 0.1, "steps": 400, "precision": "float64"} | how))
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0).model("last")


def weights(model: nn.Module) -> np.ndarray[Any, Any]:
    return next(p for p in model.parameters() if p.dim() == 2).detach().numpy().ravel().copy()


@pytest.mark.parametrize(
    "how", [{}, {"optimizer": "momentum", "momentum": 0.9, "batch_size": 32, "lr": 0.01}]
)
def test_under_gradient_descent_the_penalty_is_the_decay(how: dict[str, Any]) -> None:
    penalty = fit(linear(penalised("squared_error", l2=0.1)), steps=50, **how)
    decay = fit(linear(), weight_decay=0.1, steps=50, **how)
    none = fit(linear(), steps=50, **how)
    np.testing.assert_allclose(weights(penalty), weights(decay), rtol=1e-12, atol=1e-15)
    assert np.abs(weights(none) - weights(decay)).max() > 0.005


def test_under_adam_it_is_not_and_adamw_shrinks_every_weight_alike() -> None:
    how: dict[str, Any] = {"batch_size": "full", "steps": 1, "lr": 0.1}
    start = weights(linear().build(0).double())
    plain = weights(fit(linear(), optimizer="adam", **how))
    coupled = weights(fit(linear(), optimizer="adam", weight_decay=0.5, **how))
    penalty = weights(fit(linear(penalised("squared_error", l2=0.5)), optimizer="adam", **how))
    decoupled = weights(fit(linear(), optimizer="adamw", weight_decay=0.5, **how))
    np.testing.assert_allclose(penalty, coupled, atol=1e-12)  # Adam divides the penalty's gradient too ...
    kept = np.abs(penalty - start) == pytest.approx(np.abs(plain - start), rel=1e-3)
    assert kept  # ... so that a first step is lr long with it or without, whatever the weight's size
    np.testing.assert_allclose(decoupled, plain - 0.1 * 0.5 * start, atol=1e-12)
    assert np.abs(decoupled - coupled).max() > 1e-3


def test_l2_is_the_logarithm_of_a_gaussian_prior() -> None:
    """The minimum is the most probable weight under y = xw + b + N(0, s^2), w from N(0, t^2), by SciPy."""
    s, t = 0.7, 0.05

    def minus_log_posterior(wb: np.ndarray[Any, Any]) -> float:
        w, b = wb[:-1], wb[-1]
        return float(((YN - XN @ w - b) ** 2).sum() / (2 * s**2) + (w**2).sum() / (2 * t**2))

    best = optimize.minimize(minus_log_posterior, np.zeros(11), method="BFGS", options={"gtol": 1e-9}).x
    strength = 2 * s**2 / (N * t**2)  # of strength / 2 |w|^2 beside the mean of (y - f)^2
    model = fit(linear(penalised("squared_error", l2=strength)), steps=1500)
    np.testing.assert_allclose(weights(model), best[:-1], atol=1e-6)


def test_l1_is_the_logarithm_of_a_laplace_prior_and_leaves_few_weights() -> None:
    """scikit-learn's Lasso, which is exact; a subgradient step stops within lr times the strength of 0."""
    strength = 0.3
    lasso = Lasso(alpha=strength / 2, tol=1e-12, max_iter=100_000).fit(XN, YN)
    model = fit(linear(penalised("squared_error", l1=strength)), steps=2000, schedule="cosine")
    np.testing.assert_allclose(weights(model), lasso.coef_, atol=1e-3)
    zero = lasso.coef_ == 0
    assert 3 <= zero.sum() <= 8
    assert np.abs(weights(model)[zero]).max() < 1e-3 < np.abs(weights(model)[~zero]).min()
    ridge = fit(linear(penalised("squared_error", l2=strength)), steps=1500)
    assert np.abs(weights(ridge)).min() > 1e-3  # a Gaussian prior sets none to 0
    scale = 2 / (N * strength)  # of the prior exp(-|w| / scale), for noise of variance 1
    posterior = ((YN - XN @ lasso.coef_ - lasso.intercept_) ** 2).sum() / 2 + np.abs(
        lasso.coef_
    ).sum() / scale
    for other in (weights(ridge), lasso.coef_ + 0.02, np.zeros(10)):
        b = (YN - XN @ other).mean()
        assert ((YN - XN @ other - b) ** 2).sum() / 2 + np.abs(other).sum() / scale > posterior


UNITS, CLASSES = 8, 3


def masks(p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Every mask of eight units, and its probability."""
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=UNITS)), dtype=torch.float64)
    kept = every.sum(1)
    return every / (1 - p), (1 - p) ** kept * p ** (UNITS - kept)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_a_network_without_dropout_is_the_mean_of_all_its_thinned_networks(p: float) -> None:
    """Of a linear layer the mean exactly; under a softmax the normalised geometric mean (Hinton 2012)."""
    torch.manual_seed(0)
    h = torch.randn(UNITS, dtype=torch.float64)
    model = nn.Sequential(nn.Dropout(p), nn.Linear(UNITS, CLASSES)).double()
    mask, share = masks(p)
    with torch.no_grad():
        outputs = model[1](h * mask)
        np.testing.assert_allclose((share[:, None] * outputs).sum(0), model.eval()(h), rtol=1e-12)
        logs = torch.log_softmax(outputs, 1)
        geometric = torch.softmax((share[:, None] * logs).sum(0), 0)
        np.testing.assert_allclose(geometric, torch.softmax(model.eval()(h), 0), rtol=1e-12)


def test_sampled_masks_average_to_the_ensemble_and_their_spread_is_an_uncertainty() -> None:
    """Monte Carlo dropout of a net with a ReLU, against the enumeration of its 256 thinned networks."""
    torch.manual_seed(1)
    p, draws = 0.3, 20_000
    model = ds.models.mlp(4, CLASSES, width=UNITS, depth=1, dropout=p).double().train()
    x = torch.randn(4, dtype=torch.float64)
    mask, share = masks(p)
    first, last = (each for each in model if isinstance(each, nn.Linear))
    with torch.no_grad():
        every = torch.softmax(last(torch.relu(first(x)) * mask), 1)
        mean = (share[:, None] * every).sum(0)
        spread = ((share[:, None] * (every - mean) ** 2).sum(0)).sqrt()
        sampled = torch.softmax(model(x.expand(draws, -1)), 1)
        single = torch.softmax(model.eval()(x[None]), 1)[0]
    error = (sampled.mean(0) - mean) / (spread / math.sqrt(draws))
    assert float(error.abs().max()) < 4
    np.testing.assert_allclose(sampled.std(0), spread, rtol=0.05)
    np.testing.assert_allclose(single, mean, atol=0.03)  # weight scaling: close, and exact only when linear
    assert float((single - mean).abs().max()) > 1e-6


DIGITS = ds.data.digits(images=True, scale=16, valid=0.5)


def test_the_expected_loss_on_changed_batches_is_that_on_all_the_changed_examples() -> None:
    """Nine shifts enumerated by numpy, against the mean over many draws; in standard errors."""
    x, y = (each[:40] for each in DIGITS.train)
    torch.manual_seed(0)
    model = ds.models.cnn(1, 8, 10, width=4).eval()
    shifts = [np.roll(np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1))), (a, b), (2, 3))
              for a in (-1, 0, 1) for b in (-1, 0, 1)]  # fmt: skip
    with torch.no_grad():
        every = [nn.functional.cross_entropy(model(torch.from_numpy(s[:, :, 1:-1, 1:-1])), y) for s in shifts]
        augment = ds.augment.Shift(1)
        drawn = [float(nn.functional.cross_entropy(model(augment((x, y))[0]), y)) for _ in range(600)]
    expected = float(torch.stack(every).mean())
    error = np.std(drawn) / math.sqrt(len(drawn))
    assert abs(np.mean(drawn) - expected) < 4 * error
    assert error < 0.01 * expected


def errors(augment: Any, part: Any) -> float:
    few = tuple(each[:150] for each in DIGITS.train)
    problem = ds.Problem(
        model="cnn", objective="cross_entropy", train=few, metric="error", augment=augment,
        arguments={"width": 8},
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=4e-3, batch_size=30, epochs=60)
    model = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model()
    with torch.no_grad():
        return float((model(part[0]).argmax(1) != part[1]).double().mean())


def test_what_a_model_was_shown_to_be_of_no_matter_is_of_none() -> None:
    """A hundred and fifty digits; the held-out ones shifted by a pixel, and as they are."""
    x, y = DIGITS.valid
    torch.manual_seed(3)
    shifted = ds.augment.Shift(1)(x), y
    assert errors("shift(1)", shifted) < 0.6 * errors(None, shifted)
    assert errors("flip", (x, y)) > 1.2 * errors(None, (x, y))  # a digit in a mirror is no digit


def test_early_stopping_holds_the_weights_back_as_a_penalty_does() -> None:
    """From 0, t steps on a squared error reach 1 - (1 - lr h)^t of the way along each eigenvector."""
    steps, lr = 25, 0.05
    centred, target = XN - XN.mean(0), YN - YN.mean()
    h, v = np.linalg.eigh(2 * centred.T @ centred / N)
    least = np.linalg.lstsq(centred, target, rcond=None)[0]
    expected = v @ ((1 - (1 - lr * h) ** steps) * (v.T @ least))

    def zeros(inputs: int = 10) -> nn.Module:
        line = nn.Linear(inputs, 1, bias=False)
        nn.init.zeros_(line.weight)
        return line

    data = torch.from_numpy(centred), torch.from_numpy(target)
    problem = ds.Problem(model=zeros, objective="squared_error", train=data)
    early = weights(fit(problem, steps=steps, lr=lr))
    np.testing.assert_allclose(early, expected, rtol=1e-9, atol=1e-12)
    assert np.linalg.norm(early) < 0.8 * np.linalg.norm(least)
    strength = 1 / (lr * steps)  # of a ridge that holds it back about as much (Goodfellow et al. 2016, 7.8)
    ridge = v @ (h / (h + strength) * (v.T @ least))
    assert np.corrcoef(early, ridge)[0, 1] > 0.98


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_label_smoothing_is_the_loss_on_rows_that_keep_a_doubt(smoothing: float) -> None:
    x, y = (each[:100].flatten(1) if each.dim() > 1 else each[:100] for each in DIGITS.train)
    rows = (1 - smoothing) * torch.eye(10)[y] + smoothing / 10
    named = ds.Problem(model="softmax", objective=f"cross_entropy(label_smoothing={smoothing})", train=(x, y))
    by_rows = ds.Problem(model="softmax", objective="cross_entropy", train=(x, rows))
    np.testing.assert_allclose(weights(fit(named, steps=40)), weights(fit(by_rows, steps=40)), atol=1e-8)
