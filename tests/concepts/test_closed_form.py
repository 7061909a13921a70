"""The closed form: exact on paper, and what float64 leaves of it by each way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds


def solved(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = nn.Linear(x.shape[1], 1, bias=False)
    found = ds.solve(ds.Problem(model=model, objective="squared_error", train=(x, y[:, None])))
    return found.weights["weight"][0].numpy()


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The normal equations in rational numbers, where nothing is rounded."""
    rows = [[Fraction(float(v)) for v in row] for row in x]
    target = [Fraction(float(v)) for v in y]
    d = x.shape[1]
    system = [
        [sum(r[i] * r[j] for r in rows) for j in range(d)]
        + [sum(r[i] * t for r, t in zip(rows, target, strict=True))]
        for i in range(d)
    ]
    for i in range(d):
        system[i] = [v / system[i][i] for v in system[i]]
        for k in range(d):
            if k != i:
                system[k] = [a - system[k][i] * b for a, b in zip(system[k], system[i], strict=True)]
    return np.array([float(row[-1]) for row in system])


def ill(condition: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    left, right = np.linalg.qr(draw.normal(size=(12, 4)))[0], np.linalg.qr(draw.normal(size=(4, 4)))[0]
    x = (left * np.logspace(0, -np.log10(condition), 4)) @ right
    return x, x @ np.ones(4)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e7])
def test_the_normal_equations_lose_the_digits_of_the_square_of_the_condition(condition: float) -> None:
    x, y = ill(condition)
    w = exact(x, y)
    by_qr = np.linalg.norm(solved(x, y) - w) / np.linalg.norm(w)
    by_square = np.linalg.norm(np.linalg.solve(x.T @ x, x.T @ y) - w) / np.linalg.norm(w)
    assert np.linalg.cond(x.T @ x) == pytest.approx(condition**2, rel=0.05)
    assert by_qr < 10 * 2.2e-16 * condition
    assert by_square < 10 * 2.2e-16 * condition**2
    if condition > 1e3:
        assert by_square > 10 * by_qr


def test_the_gradient_of_the_closed_form_is_zero() -> None:
    table = ds.data.diabetes(standardise=True)
    problem = ds.Problem(model="linear", objective="squared_error", train=table.train)
    model = ds.solve(problem).model()
    x, y = (each.double() for each in table.train)
    nn.functional.mse_loss(model(x)[:, 0], y).backward()
    assert all(float(p.grad.abs().max()) < 1e-10 for p in model.parameters())


def test_descent_from_anywhere_in_a_valley_ends_at_another_minimum_than_the_shortest() -> None:
    draw = np.random.default_rng(1)
    column = draw.normal(size=(40, 1))
    x, y = np.hstack([column, column]), 1.6 * column[:, 0]
    w = solved(x, y)
    np.testing.assert_allclose(w, [0.8, 0.8], atol=1e-12)
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.0]]))
    problem = ds.Problem(model=model, objective="squared_error", train=(x, y[:, None]))
    run = ds.fit(problem, ds.Recipe(optimizer="gd", lr=0.1, steps=300), folder=False, progress=False)
    ended = run.model().weight.detach()[0].numpy()
    assert ended.sum() == pytest.approx(1.6, abs=1e-5)
    assert ended[0] - ended[1] == pytest.approx(3.0, abs=1e-5)  # what descent cannot see stays as it was
    assert np.linalg.norm(ended) > np.linalg.norm(w) + 1


def test_where_there_is_no_closed_form_newtons_steps_are_few() -> None:
    x, y = ds.data.breast_cancer(standardise=True).train
    found = ds.solve(ds.Problem(model="logistic", objective="logistic", train=(x, y.float())), l2=1e-2)
    assert 0 < found.steps < 20
    assert found.certificate.gradient_norm < 1e-12
