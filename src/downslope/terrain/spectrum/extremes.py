"""The k largest and k smallest eigenpairs of an operator, by Lanczos with thick restarts.

Wu and Simon 2000, Thick-restart Lanczos method for large symmetric eigenvalue problems. The search stops on
the error of the values, not of the vectors: with a gap between a Ritz value and the rest of the spectrum that
error is at most ``residual^2 / gap`` (Kato 1949; Parlett, The Symmetric Eigenvalue Problem, theorem 11.7.1),
so that three digits cost half of the products. One start vector shows one copy of a multiple eigenvalue, so
the search looks a second time, from another vector and orthogonal to what it has, until a copy would be seen
with 99 %.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.terrain.hvp import length
from downslope.terrain.krylov import Krylov, Pairs
from downslope.terrain.lanczos import Status
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum.operand import Operand, operand

STEPS = 300
"""Products at most, unless told otherwise."""

MEMORY = 2**30
"""Bytes of basis vectors beyond which the search restarts."""


DENSE = 48
"""Basis vectors up to which every step is judged; beyond, every fourth, since judging costs their cube."""


LEAN = {False: 1.0, True: 10.0}
"""Random part of the first start vector, beside a unit part along the gradient, which is likely to lie in the
top eigenspace (Gur-Ari, Roberts and Dyer 2018, Gradient descent happens in a tiny subspace), by whether the
bottom is wanted too. A CNN of 215 k parameters, at 18 points: 7.6 products for the top on average in place of
11.4."""


SMALL = 0.1
"""Share of the largest magnitude below which the value of an end is looked at twice: where nearly all
eigenvalues are next to nothing, any vector at random solves ``A x = 0`` nearly, and its residual is no sign
of an end."""

PATIENCE = 10
"""Products before such an end is believed."""

STANDING = 3
"""Products over which it must have stood still."""


DOUBT = 0.01
"""Probability with which a second look may miss a copy."""


SHOWN = 8
"""Eigenvalues that are told in a line."""


class Spectrum(NamedTuple):
    """Eigenpairs from both ends, largest value first."""

    values: Tensor
    """Shape (k,), float64, on the CPU: the `top` largest, then the `bottom` smallest, descending."""
    residuals: Tensor
    """``|A x - value x|`` and rounding, shape (k,): an exact eigenvalue lies within, whatever else holds."""
    errors: Tensor
    """Estimate of ``|value - eigenvalue|``, shape (k,): ``min(residual, residual^2 / gap)``, the gap being
    the distance to the nearest other Ritz value less that one's residual."""
    vectors: Tensor
    """Unit eigenvectors, shape (k, n), a row each, in the operator's precision (float32 at least)."""
    top: int
    """How many belong to the upper end."""
    products: int
    """Products with the operator."""
    status: Status
    """"converged": all errors are within the tolerance. "steps": some are not, after all steps. "exhausted":
    the whole space was spanned. "non-finite": no answer, the values are NaN."""
    complete: bool
    """Whether a second look, orthogonal to these, saw no further copy of a multiple eigenvalue. True where
    one pair an end was asked for, whose value no copy can change."""
    exact: bool
    """False where the products were differences of gradients."""

    def __repr__(self) -> str:
        values: list[float] = self.values.tolist()
        errors: list[float] = self.errors.tolist()
        pairs = [f"{numeral(v)} ± {numeral(e, 1)}" for v, e in zip(values, errors, strict=True)]
        if len(pairs) > SHOWN:
            pairs[SHOWN // 2 : -SHOWN // 2] = ["..."]
        exact = "" if self.exact else ", of differences"
        return f"Spectrum {', '.join(pairs)}: {self.status}, {self.products} products{exact}"

    @property
    def largest(self) -> float:
        """The largest eigenvalue; NaN if none was asked for."""
        return float(self.values[0]) if self.top else float("nan")

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue; NaN if none was asked for."""
        return float(self.values[-1]) if self.top < len(self.values) else float("nan")


def extremes(
    operator: Operator, top: int = 1, bottom: int = 1, *, tol: float = 1e-3, steps: int = STEPS, seed: int =
        0,
    room: int | None = None, copies: bool = True,
) -> Spectrum:  # fmt: skip
    """The `top` largest and `bottom` smallest eigenvalues (not in magnitude), with their vectors and errors.

    Equivalent to `scipy.sparse.linalg.eigsh` with ``which="LA"`` and ``"SA"`` at once, with error bounds.
    Where ``top + bottom`` exceeds the size, all eigenpairs.

    Args:
        operator: Symmetric.
        top: Eigenvalues from the upper end, at least 0.
        bottom: From the lower end, at least 0.
        tol: Error of a value that is good enough, as a share of it, float in (0, 1). A value below ``tol^2``
            of the largest magnitude counts as zero, and its error against that.
        steps: Products at most, at least 1.
        seed: Of the start vectors.
        room: Basis vectors held at most, each as long as the parameters; by default what fits into 1 GiB, at
            least enough to search with.
        copies: Whether to look for further copies of multiple eigenvalues, where more than one pair of an end
            is asked for; about doubles the products.

    Returns:
        The pairs, largest value first, and how far they can be trusted.

    Raises:
        InputError: an argument outside its domain.
    """
    _check(top, bottom, tol, steps, room)
    given = operand(operator)
    search = _Search(given, top, bottom, tol, steps, seed, room)
    found = search.pass_from(None)
    complete = not (copies and max(top, bottom) > 1) or search.whole
    again = found.status == "converged"
    while again and not complete:
        more = search.pass_from(found)
        again = more.status in ("converged", "exhausted")
        merged = _merged(found, more, search)
        complete, found = again and merged is None, found if merged is None else merged
        found = found._replace(products=found.products + more.products)
    return found._replace(complete=complete, exact=operator.exact)


class _Search:
    """The passes of one call, and the products that are left to them."""

    def __init__(
        self, given: Operand, top: int, bottom: int, tol: float, steps: int, seed: int, room: int | None
    ) -> None:
        size = given.operator.size
        self.given, self.tol, self.left = given, tol, steps
        self.top = min(top, size)
        self.bottom = min(bottom, size - self.top)
        self.draw = torch.Generator().manual_seed(seed)
        least = self.top + self.bottom + 4
        fits = MEMORY // (size * given.dtype.itemsize)
        self.room = max(least, room or fits)
        self.whole = False
        self.past: list[tuple[int, float, float]] = []

    def pass_from(self, found: Spectrum | None) -> Spectrum:
        """Both ends of what is orthogonal to `found`: all that was asked for, or the next one of each end."""
        locked = None if found is None else found.vectors
        free = self.given.operator.size - (0 if locked is None else len(locked))
        top, bottom = self.top, self.bottom
        if found is not None:
            top, bottom = min(top, 1) if top > 1 else 0, min(bottom, 1) if bottom > 1 else 0
            top, bottom = min(top, free), min(bottom, max(free - top, 0))
        start = self.given.normal(self.draw)[0]
        if found is None:
            start = _leant(start, self.given.operator, LEAN[bool(bottom)])
        if self.left < 1 or not free:
            return _nothing(0, self.given, "steps" if free else "exhausted")
        self.past = []
        space = Krylov(self.given.product, start, min(self.room, self.left, free), locked)
        status, pairs = self._grow(space, top, bottom, free, found)
        self.left -= space.products
        self.whole = space.count == free
        if pairs is None:
            return _nothing(top + bottom, self.given, status)._replace(products=space.products, top=top)
        return _told(space, pairs, top, bottom, status)

    def _grow(
        self, space: Krylov, top: int, bottom: int, free: int, found: Spectrum | None
    ) -> tuple[Status, Pairs | None]:
        while True:
            try:
                space.grow()
            except KeyboardInterrupt as stop:
                for products, low, high in self.past[-1:]:
                    stop.add_note(f"eigenvalues after {products} products: from {low:.4g} to {high:.4g}")
                raise
            if space.lost:
                return "non-finite", None
            last = space.count == free or space.products >= self.left
            if not last and not space.full and space.count > DENSE and space.count % 4:
                continue
            pairs = space.ritz()
            self.past.append((space.products, float(pairs.values[0]), float(pairs.values[-1])))
            if space.count == free:
                return "exhausted", pairs
            if space.count > min(top + bottom, free - 1) and self._good(pairs, top, bottom, found):
                return "converged", pairs
            if last:
                return "steps", pairs
            if space.full:
                space.restart(_kept(space.count, top, bottom))
            if space.broken:
                space.turn(self.given.normal(self.draw)[0])

    def _good(self, pairs: Pairs, top: int, bottom: int, found: Spectrum | None) -> bool:
        """Whether the values are good enough, or in a second look whether they add nothing to `found`."""
        chosen = _ends(len(pairs.values), top, bottom)
        errors, values = errors_of(pairs)[chosen], pairs.values[chosen]
        size = float(pairs.values.abs().max())
        if found is None:
            good = errors <= self.allowed(values, size)
            return bool(good.all()) and self._stands(pairs, top, bottom, size)
        good = errors <= self.allowed(values, max(size, float(found.values.abs().max())))
        seen = torch.cat([pairs.values, found.values])
        sure = self._sure(len(pairs.values)) * float(seen.max() - seen.min())
        if top:
            good[0] |= values[0] < found.values[self.top - 1] - sure
        if bottom:
            good[-1] |= values[-1] > found.values[self.top] + sure
        return bool(good.all())

    def _stands(self, pairs: Pairs, top: int, bottom: int, size: float) -> bool:
        """Whether ends that are small beside `size` no longer move."""
        ends = [float(pairs.values[-1])] * bool(top) + [float(pairs.values[0])] * bool(bottom)
        count = self.past[-1][0]
        before = next(row for row in reversed(self.past) if row[0] <= max(count - STANDING, self.past[0][0]))
        for now, then in zip(ends, [before[2]] * bool(top) + [before[1]] * bool(bottom), strict=True):
            moved = abs(now - then) > float(self.allowed(torch.tensor(now), size))
            if abs(now) < SMALL * size and (count < PATIENCE or moved):
                return False
        return True

    def _sure(self, count: int) -> float:
        """How far inside the end of a spectrum a Ritz value may be after `count` steps, as a share of its
        width.

        Kuczyński and Woźniakowski 1992, Estimating the largest eigenvalue by the power and Lanczos algorithms
        with a random start, theorem 4.2: further with probability ``1.648 sqrt(n) exp(-sqrt(e) (2 count -
        1))`` at most.
        """
        doubt = math.log(1.648 * math.sqrt(self.given.operator.size) / DOUBT)
        return (doubt / (2 * count - 1)) ** 2

    def allowed(self, values: Tensor, size: float) -> Tensor:
        """Errors that are good enough, beside a largest magnitude of `size`."""
        floor = max(self.tol**2, 10 * torch.finfo(self.given.dtype).eps)
        return (self.tol * values.abs()).clamp(min=floor * size)


def _leant(start: Tensor, operator: Any, share: float) -> Tensor:
    """`start` leant towards where the upper end is likely to be, with so much of itself beside it."""
    likely: Tensor | None = operator.likely() if hasattr(operator, "likely") else None
    size = 0.0 if likely is None else length(likely)
    if likely is None or not 0 < size < math.inf:
        return start
    return likely.to(start) / size + share / length(start) * start


def errors_of(pairs: Pairs) -> Tensor:
    """Estimate of the error of each Ritz value, shape (k,): the residual, or its square over the gap."""
    values, residuals = pairs.values, pairs.residuals
    apart = (values[:, None] - values[None, :]).abs() - residuals[None, :]
    apart.fill_diagonal_(float("inf"))
    gaps = apart.min(1).values
    squared = torch.where(gaps > 0, residuals**2 / gaps.clamp(min=1e-300), residuals)
    return torch.minimum(residuals, squared)


def _ends(count: int, top: int, bottom: int) -> list[int]:
    """Indices of ascending values: the upper end, largest first, then the lower one down to the smallest."""
    upper = [count - 1 - i for i in range(min(top, count))]
    return upper + list(reversed(range(min(bottom, count - len(upper)))))


def _kept(count: int, top: int, bottom: int) -> list[int]:
    """What a restart carries over: the wanted ends, and a third of the rest beside them."""
    spare = max((count - top - bottom - 2) // 3, 0)
    above = spare if not bottom else 0 if not top else spare // 2
    return sorted(_ends(count, top + above, bottom + spare - above))


def _told(space: Krylov, pairs: Pairs, top: int, bottom: int, status: Status) -> Spectrum:
    chosen = _ends(len(pairs.values), top, bottom)
    vectors = space.vectors(pairs.coordinates[:, chosen])
    rounding = 10 * torch.finfo(space.basis.dtype).eps * float(pairs.values.abs().max())
    residuals, errors = pairs.residuals[chosen] + rounding, errors_of(pairs)[chosen] + rounding
    return Spectrum(
        pairs.values[chosen], residuals, errors, vectors, min(top, len(chosen)), space.products, status,
        True, True,
    )  # fmt: skip


def _nothing(count: int, given: Operand, status: Status) -> Spectrum:
    none = torch.full((count,), float("nan"), dtype=torch.float64)
    vectors = torch.full((count, given.operator.size), float("nan"), dtype=given.dtype, device=given.device)
    return Spectrum(none, none + torch.inf, none + torch.inf, vectors, 0, 0, status, False, True)


def _merged(found: Spectrum, more: Spectrum, search: _Search) -> Spectrum | None:
    """Both together, cut to what was asked for; None where `more` adds nothing."""
    if not len(more.values) or not bool(more.values.isfinite().all()):
        return None
    allowed = search.allowed(found.values, float(found.values.abs().max()))
    rows: set[int] = set()
    last = search.top - 1
    if search.top > 1 and float(more.values[0] - found.values[last]) > float(allowed[last]):
        rows.add(0)
    if search.bottom > 1 and float(found.values[search.top] - more.values[-1]) > float(allowed[search.top]):
        rows.add(len(more.values) - 1)
    if not rows:
        return None
    joined = [torch.cat([a, b[sorted(rows)]]) for a, b in zip(found[:4], more[:4], strict=True)]
    order = joined[0].argsort(descending=True)
    kept = torch.cat([order[: search.top], order[len(order) - search.bottom :]])
    values, residuals, errors, vectors = (each[kept.to(each.device)] for each in joined)
    return found._replace(values=values, residuals=residuals, errors=errors, vectors=vectors)


def _check(top: int, bottom: int, tol: float, steps: int, room: int | None) -> None:
    if top < 0 or bottom < 0 or top + bottom < 1:
        raise InputError(f"top={top}, bottom={bottom}: numbers of eigenvalues, at least 1 together")
    if not 0 < tol < 1 or steps < 1:
        raise InputError(f"tol={tol}, steps={steps}: tol must lie in (0, 1) and steps be at least 1")
    if room is not None and room < 1:
        raise InputError(f"room={room}: vectors that may be held, at least 1")
