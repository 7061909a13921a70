"""The trace of an operator from random probes, with a standard error and an interval that covers.

Hutchinson 1990 (``E z'A z = tr A`` with signs z), on what is left of the operator once the directions that
hold most of it are known exactly (Meyer, Musco, Musco and Woodruff 2021, Hutch++), where that pays. Whether
it pays is measured from the products that were taken anyway, as in the adaptive variant of Persson,
Cortinovis and Kressner 2022 (Improved variants of the Hutch++ algorithm for trace estimation).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from downslope.core.errors import InputError
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum.deflated import Deflated, completed, uncaptured
from downslope.terrain.spectrum.estimate import Estimate, estimated, exactly
from downslope.terrain.spectrum.operand import operand

PILOT = 16
"""Probes before anything is judged: with fewer, no interval covers what it says where samples are skewed."""

Method = Literal["auto", "hutchinson", "hutch++"]


def trace(
    operator: Operator, *, tol: float = 0.05, steps: int = 400, seed: int = 0, method: Method = "auto"
) -> Estimate:
    """The sum of the eigenvalues.

    Args:
        operator: Symmetric.
        tol: Stop when the interval reaches at most this share of the value to either side, float in (0, 1).
        steps: Products at most, at least 16, and never more than the operator has rows; where they do not
            suffice the interval is as wide as it is.
        seed: Of the probes.
        method: "hutchinson" takes probes only, "hutch++" learns a subspace first, "auto" asks the first
            probes what pays. An operator is summed exactly where the rows that are left are no more than the
            probes needed.

    Returns:
        Value, standard error and interval; NaN where a product was not finite.

    Raises:
        InputError: an argument outside its domain.
    """
    check(tol, steps)
    given = operand(operator)
    draw = torch.Generator().manual_seed(seed)
    part = Deflated(given, keep=operator.size <= steps)
    if operator.size <= PILOT:
        return _summed(part)
    samples = np.empty(0)
    found = exactly(float("nan"), 0)
    count = PILOT
    while True:
        probes = given.signs(draw, count)
        images = part.apply(probes)
        taken = (probes.double() * images.double()).sum(1).cpu().numpy()
        if not np.isfinite(taken).all():
            return exactly(float("nan"), part.products)
        samples = np.concatenate([samples, taken])
        found = estimated(samples, part.trace(), part.products)
        left = min(steps, operator.size) - part.products
        if found.error <= tol * abs(found.value):
            return found
        wanted = needed(found.error, tol * abs(found.value), len(samples))
        if operator.size <= steps and left <= wanted:
            return _summed(part)
        if left < 1:
            return found
        forced = method == "hutch++" and not len(part.rows) and left > 2 * PILOT
        helps = method != "hutchinson" and pays(wanted, uncaptured(images), left)
        if len(samples) == PILOT and (forced or helps):
            part.extend(images)
            samples, count = np.empty(0), PILOT
            continue
        count = min(max(wanted, 4), len(samples), left)


def needed(error: float, allowed: float, count: int) -> int:
    """Further samples until an interval that reaches `error` with `count` of them reaches `allowed`."""
    return int(min(1.1 * count * (error / max(allowed, 1e-300)) ** 2, 1e9)) - count + 1


def pays(wanted: int, share: float, left: int) -> bool:
    """Whether products taken are better spent on a subspace, with as many more and then fresh probes.

    Args:
        wanted: Further probes needed without one.
        share: Of the variance that the subspace leaves.
        left: Products that may be taken.
    """
    if left < 2 * PILOT + 1:
        return False
    price = PILOT + max(PILOT, share * (wanted + PILOT))
    if price > left < wanted:  # neither gets there: which comes nearer
        return share / (left - PILOT) < 1 / (left + PILOT)
    return price < min(wanted, left + 1)


def _summed(part: Deflated) -> Estimate:
    whole = completed(part)
    return exactly(float(whole.diagonal.sum()), part.products, whole.rounding)


def check(tol: float, steps: int) -> None:
    """Refuse what is outside its domain."""
    if not 0 < tol < 1 or steps < PILOT:
        raise InputError(f"tol={tol}, steps={steps}: tol must lie in (0, 1) and steps be at least {PILOT}")
