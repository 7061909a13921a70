"""The diagonal of an operator from random probes, with a standard error for every entry.

Bekas, Kokiopoulou and Saad 2007, An estimator for the diagonal of a matrix: ``z * A z`` with signs z has the
diagonal as its mean. What a few directions hold is taken off and known exactly where that pays, as for the
trace.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core.numerals import numeral
from downslope.terrain.hvp import length
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum.deflated import Deflated, completed, uncaptured
from downslope.terrain.spectrum.operand import Operand, operand
from downslope.terrain.spectrum.trace import PILOT, check, needed, pays


class Diagonal(NamedTuple):
    """The diagonal, entry by entry."""

    values: Tensor
    """Shape (n,), float64, on the operator's device."""
    stderr: Tensor
    """Standard error of each entry, shape (n,); 0 where it is known exactly."""
    probes: int
    """Independent samples behind each; 0 of what is known exactly."""
    products: int
    """Products with the operator."""
    reached: bool
    """Whether the error asked for was reached."""

    def __repr__(self) -> str:
        least, most = float(self.values.min()), float(self.values.max())
        return (
            f"Diagonal of {len(self.values):,} entries from {numeral(least)} to {numeral(most)}: error "
            f"{numeral(self.error, 2)} of their size, {self.probes} probes, {self.products} products"
        )

    @property
    def error(self) -> float:
        """Root mean square of the standard errors, as a share of that of the entries."""
        size = length(self.values)
        return length(self.stderr) / size if size else 0.0


def diagonal(operator: Operator, *, tol: float = 0.1, steps: int = 400, seed: int = 0) -> Diagonal:
    """The diagonal, such as a preconditioner or a Laplace approximation takes.

    Args:
        operator: Symmetric.
        tol: Stop when the standard errors together (root of the sum of squares) are at most this share of the
            diagonal's norm, float in (0, 1). A share of 0.1 costs about ``100 |A - diag A|_F^2 / |diag A|^2``
            products where no subspace helps.
        steps: Products at most, at least 16.
        seed: Of the probes.

    Returns:
        The entries with their standard errors. Memory: a few vectors, and what the subspace holds.

    Raises:
        InputError: an argument outside its domain.
    """
    check(tol, steps)
    given = operand(operator)
    draw = torch.Generator().manual_seed(seed)
    part, moments = Deflated(given, keep=operator.size <= steps), _Moments()
    if operator.size <= PILOT:
        return _exact(part)
    while True:
        found, pilot = _batch(part, given, draw, moments)
        found = found._replace(reached=found.error <= tol)
        if found.reached or not bool(found.values.isfinite().all()):
            return found
        wanted = needed(found.error, tol, moments.count)
        left = min(steps, operator.size) - part.products
        if operator.size <= steps and left <= wanted:
            return _exact(part)
        if left < 1:
            return found
        if pilot is not None and pays(wanted, uncaptured(pilot), left):
            part.extend(pilot)
            moments = _Moments()
            continue
        moments.ahead = min(max(wanted, 4), moments.count, left)


class _Moments:
    """Mean and sum of squared deviations of vectors, one after the other (Welford 1962)."""

    def __init__(self) -> None:
        self.count, self.ahead = 0, PILOT
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, sample: Tensor) -> None:
        self.count += 1
        if self.count == 1:
            self.mean, self.squares = sample, torch.zeros_like(sample)
            return
        off = sample - self.mean
        self.mean = self.mean + off / self.count
        self.squares = self.squares + off * (sample - self.mean)


def _batch(
    part: Deflated, given: Operand, draw: torch.Generator, moments: _Moments
) -> tuple[Diagonal, Tensor | None]:
    """Take the probes that are due; the diagonal by now, and the products of a pilot."""
    first = not moments.count
    kept: list[Tensor] = []
    for _ in range(moments.ahead):
        probe = given.signs(draw)
        image = part.apply(probe)
        moments.add((probe.double() * image.double())[0])
        if first:
            kept.append(image[0])
    stderr = (moments.squares / (moments.count - 1) / moments.count).sqrt()
    values = part.diagonal() + moments.mean
    found = Diagonal(values, stderr, moments.count, part.products, False)
    return found, torch.stack(kept) if first else None


def _exact(part: Deflated) -> Diagonal:
    values = completed(part).diagonal
    return Diagonal(values, torch.zeros_like(values), 0, part.products, True)
