"""The certificate against fractions and fifty digits: what it says is a bound, and a close one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.terrain.exact import rounding, twofold


def solved(x: np.ndarray, y: np.ndarray, objective: str = "squared_error") -> Any:
    def model() -> nn.Module:
        return nn.Linear(x.shape[1], 1, bias=False)

    return ds.solve(ds.Problem(model=model, objective=objective, train=(x, y[:, None])))


def rational(x: np.ndarray, y: np.ndarray) -> list[Fraction]:
    """The least squares without any rounding: elimination on the normal equations in fractions."""
    a = [[Fraction(float(each)) for each in row] for row in x]
    b = [Fraction(float(each)) for each in y]
    p = len(a[0])
    m = [
        [sum(r[i] * r[j] for r in a) for j in range(p)] + [sum(r[i] * t for r, t in zip(a, b, strict=True))]
        for i in range(p)
    ]
    for i in range(p):
        for r in range(p):
            factor = m[r][i] / m[i][i] if r != i else Fraction(0)
            m[r] = [left - factor * right for left, right in zip(m[r], m[i], strict=True)]
    return [m[i][p] / m[i][i] for i in range(p)]


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e7, 1e9])
@pytest.mark.parametrize("seed", range(4))
def test_gap_and_distance_bound_the_way_to_the_exact_least_squares(condition: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    u, v = (np.linalg.qr(draw.normal(size=shape))[0] for shape in ((12, 4), (4, 4)))
    x = u @ np.diag(np.logspace(0, -np.log10(condition), 4)) @ v.T
    y = x @ draw.normal(size=4) + draw.normal(size=12)
    found = solved(x, y)
    off = [
        Fraction(float(ours)) - theirs
        for ours, theirs in zip(found.weights["weight"].numpy().ravel(), rational(x, y), strict=True)
    ]
    distance = float(sum(each**2 for each in off)) ** 0.5
    moved = [sum(Fraction(float(a)) * each for a, each in zip(row, off, strict=True)) for row in x]
    gap = float(sum(each**2 for each in moved) / len(x))
    assert distance <= found.certificate.distance <= 2 * distance + 1e-15
    assert gap <= found.certificate.gap <= 2 * gap + 1e-32


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_gap_and_distance_bound_the_way_to_the_logistic_minimum(scale: float, seed: int) -> None:
    """Newton's steps with 50 digits, from where the solver ended."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(30, 3)) * [1, 1 / scale, scale]
    y = (x @ [1, scale, 1 / scale] + 2 * draw.normal(size=30) > 0).astype(float)
    found = solved(x, y, "logistic")
    assert found.kind == "strictly-convex"
    with mpmath.workdps(50):
        a, start = mpmath.matrix(x.tolist()), mpmath.matrix(found.weights["weight"].numpy().ravel().tolist())
        w = start.copy()
        for _ in range(4):
            p = [1 / (1 + mpmath.exp(-each)) for each in a * w]
            slope = a.T * mpmath.matrix([each - label for each, label in zip(p, y, strict=True)])
            w -= mpmath.lu_solve(a.T * mpmath.diag([each * (1 - each) for each in p]) * a, slope)
        values = [
            sum(mpmath.log1p(mpmath.exp(z)) - label * z for z, label in zip(a * at, y, strict=True)) / 30
            for at in (start, w)
        ]
        assert mpmath.norm(w - start) <= found.certificate.distance
        assert values[0] - values[1] <= found.certificate.gap < 1e-25


def test_sums_of_products_have_twice_the_digits() -> None:
    draw = np.random.default_rng(0)
    a, b = (torch.from_numpy(draw.normal(size=s) * 10.0 ** draw.integers(-8, 8, s)) for s in ((7, 5), (5, 2)))
    found = twofold.outputs(a, b)
    turned = twofold.back(a.T.contiguous(), twofold.Twofold(b, torch.zeros_like(b)))
    for i, row in enumerate(a.tolist()):
        for j, column in enumerate(b.T.tolist()):
            terms = [Fraction(s) * Fraction(t) for s, t in zip(row, column, strict=True)]
            size = float(sum(abs(each) for each in terms))
            for high, low in ((found.high, found.low), (turned.high, turned.low)):
                told = Fraction(float(high[i, j])) + Fraction(float(low[i, j]))
                assert abs(float(told - sum(terms))) <= 1e-30 * size


def test_without_more_digits_the_bound_is_wider_and_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(40, 4)), draw.normal(size=40)
    close = solved(x, y).certificate
    monkeypatch.setattr(rounding, "MOST", 0)
    wide = solved(x, y).certificate
    assert close.distance < wide.distance < 1e-12
    assert close.gap < wide.gap < 1e-26
    assert close.gradient_norm == wide.gradient_norm
