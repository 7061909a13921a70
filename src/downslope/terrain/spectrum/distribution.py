"""A spectral density with its error, and what can be read off it: masses, moments, ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from downslope.core.numerals import numeral
from downslope.terrain.spectrum.estimate import BAND, Estimate, Floats, ends, estimated, exactly, from_parts
from downslope.terrain.spectrum.quadrature import Rule, smooth_error


@dataclass(frozen=True, kw_only=True)
class Density:
    """Eigenvalues as a density of mass 1, each blurred to a normal curve.

    Attributes:
        size: Rows of the operator.
        grid: Where it is told, ascending, shape (k,).
        values: The density there, shape (k,), in 1 / eigenvalue.
        stderr: Its standard error over the probes, shape (k,).
        error: How far the truth, blurred by the same `width`, may be from `values`, at 95 %: Student's factor
            (and skewness) times `stderr`, and the bound for the quadrature; shape (k,).
        cumulative: Share of the eigenvalues below each point of the grid, blurred, shape (k,).
        cumulative_error: How far the truth may be from it, at 95 %, shape (k,).
        width: Standard deviation of the blur: eigenvalues closer than this are not told apart.
        outliers: Eigenvalues that are known one by one, ascending; all of them where nothing is estimated.
        probes: Random vectors; 0 where nothing is estimated.
        products: With the operator.
        zero: Magnitude below which an eigenvalue is not told from zero.
    """

    size: int
    grid: Floats
    values: Floats
    stderr: Floats
    error: Floats
    cumulative: Floats
    cumulative_error: Floats
    width: float
    outliers: Floats
    rules: tuple[Rule, ...]
    products: int
    zero: float

    @classmethod
    def unknown(cls, size: int, products: int) -> Density:
        """Of an operator that gave something non-finite: an empty grid and NaN for every number."""
        none = np.empty(0)
        return cls(
            size=size, grid=none, values=none, stderr=none, error=none, cumulative=none,
            cumulative_error=none, width=math.nan, outliers=none, rules=(), products=products, zero=math.nan,
        )  # fmt: skip

    @property
    def probes(self) -> int:
        """Random vectors; 0 where nothing is estimated."""
        return len(self.rules)

    def __repr__(self) -> str:
        if not len(self.grid):
            return f"Density of {self.size:,} eigenvalues: unknown, a product was not finite"
        blur = f"blurred to {numeral(self.width, 2)}, {self.probes} probes"
        how = blur if self.rules else "each of them known"
        known = f", {len(self.outliers)} known one by one" if self.rules and len(self.outliers) else ""
        return (
            f"Density of {self.size:,} eigenvalues from {numeral(float(self.grid[0]))} to "
            f"{numeral(float(self.grid[-1]))}: {how}{known}, {self.products} products; "
            f"negative {self.negative}"
        )

    def mass_below(self, x: float) -> Estimate:
        """The share of the eigenvalues below x, not blurred.

        Each probe's share is bracketed without any assumption (`Rule.below`); the interval holds the brackets
        and the chance of the draw. The value is the middle.
        """
        known, rest = self._share(lambda v: (v < x).astype(np.float64))
        if not self.rules:
            return exactly(known, self.products)
        low, high = (rest * np.asarray(side) for side in zip(*(r.below(x) for r in self.rules), strict=True))
        middle = estimated((low + high) / 2, known, self.products)
        lowest = estimated(low, known, self.products).low
        highest = estimated(high, known, self.products).high
        return middle._replace(low=max(lowest, known), high=min(highest, known + rest))

    @property
    def negative(self) -> Estimate:
        """The share of eigenvalues that are negative, by more than `zero`.

        Zeros and a crowd of both signs around zero cannot be told apart at `zero` itself. Then signs are told
        from a threshold on that is as far from zero as it must be, ``width`` at most, and the value takes
        those of what lies nearer to be divided as those beyond it; the interval takes nothing for granted.
        """
        whole = self.mass_below(-self.zero)
        if not self.rules or not self.width > self.zero > 0:
            return whole
        tried = [(t, self.mass_below(-t)) for t in np.geomspace(self.zero, self.width, 12).tolist()]
        least = min(each.high - each.low for _, each in tried)
        edge, chosen = next((t, each) for t, each in tried if each.high - each.low <= 1.5 * least)
        below, above = chosen.value, 1.0 - self.mass_below(edge).value
        high = max(whole.high, chosen.high)
        value = below / (below + above) if below + above > 0 else below
        return chosen._replace(value=min(max(value, below), high), high=high)

    def trace_of(self, f: Callable[[Floats], Floats]) -> Estimate:
        """``tr f(A)``, the sum of f over the eigenvalues.

        The interval holds the chance of the draw and what the last quarter of the products changed.

        Args:
            f: Of an array of eigenvalues, element by element.
        """
        known, rest = self._share(f)
        if not self.rules:
            return exactly(self.size * known, self.products)
        scale = self.size * rest
        found = estimated(scale * self._integrals(f), self.size * known, self.products)
        moved = scale * abs(float(np.mean([r.integral(f) - r.shorter().integral(f) for r in self.rules])))
        return found._replace(low=found.low - moved, high=found.high + moved)

    def moment(self, power: int) -> Estimate:
        """The mean of ``eigenvalue^power``; its interval holds the chance of the draw only, the rest is
        exact.
        """
        known, rest = self._share(lambda v: v**power)
        if not self.rules:
            return exactly(known, self.products)
        return estimated(rest * self._integrals(lambda v: v**power), known, self.products)

    def logdet(self) -> Estimate | None:
        """The logarithm of the determinant; None unless all eigenvalues are positive beyond `zero`."""
        lowest = [float(self.outliers.min())] if len(self.outliers) else []
        lowest += [float(r.nodes[0] - r.residuals[0]) for r in self.rules]
        return self.trace_of(np.log) if lowest and min(lowest) > self.zero else None

    def effective_rank(self) -> Estimate:
        """``tr(A)^2 / tr(A^2)``, the number of equal eigenvalues that would have the same first two moments.

        Also called participation ratio; meant for operators without negative eigenvalues.
        """
        return self._ratio(
            [lambda v: v, lambda v: v * v], lambda m: m[0] ** 2 / m[1] * self.size if m[1] else 0.0,
            low=0.0 if self._below_zero() else 1.0,
        )  # fmt: skip

    def entropy_rank(self) -> Estimate:
        """``exp(-sum p log p)`` with ``p = |eigenvalue| / sum |eigenvalue|`` (Roy and Vetterli 2007)."""

        def times_log(v: Floats) -> Floats:
            v = np.abs(v)
            return v * np.log(np.where(v > 0, v, 1.0))

        def rank(m: Floats) -> float:
            return self.size * m[0] * math.exp(-m[1] / m[0]) if m[0] > 0 else 0.0

        return self._ratio([np.abs, times_log], rank, low=1.0)

    def _below_zero(self) -> bool:
        """Whether something negative was seen."""
        nodes = [self.outliers, *(r.nodes for r in self.rules)]
        return any(bool((each < -self.zero).any()) for each in nodes)

    def _ratio(
        self, parts: Sequence[Callable[[Floats], Floats]], combine: Callable[[Floats], float], low: float
    ) -> Estimate:
        """A function of means, in [low, size]; its interval holds the chance of the draw and what the last
        quarter of the products changed.
        """
        known, rest = zip(*(self._share(f) for f in parts), strict=True)
        if not self.rules:
            return exactly(combine(np.asarray(known)), self.products)

        def seen(rules: Sequence[Rule]) -> Floats:
            rows = [[r.integral(f) for r in rules] for f in parts]
            return np.asarray(known) + np.asarray(rest) * np.asarray(rows).T

        found = from_parts(seen(self.rules), combine, self.products, low, float(self.size))
        moved = abs(found.value - combine(seen([r.shorter() for r in self.rules]).mean(axis=0)))
        return found._replace(
            low=min(max(found.low - moved, low), found.value), high=min(found.high + moved, float(self.size))
        )

    def _integrals(self, f: Callable[[Floats], Floats]) -> Floats:
        """Of every probe, shape (probes,)."""
        return np.asarray([r.integral(f) for r in self.rules])

    def _share(self, f: Callable[[Floats], Floats]) -> tuple[float, float]:
        """What the known eigenvalues add to the mean of f, and the share of the others."""
        if not len(self.outliers) and not self.rules:
            return math.nan, 0.0
        return float(f(self.outliers).sum()) / self.size, 1.0 - len(self.outliers) / self.size


def drawn_on(
    rules: Sequence[Rule], known: Floats, size: int, products: int, width: float | None, points: int,
    zero: float,
) -> Density:  # fmt: skip
    """The density of rules and of eigenvalues known one by one, on a grid that holds both.

    Args:
        rules: Of the probes; none where all eigenvalues are known.
        known: Eigenvalues.
        size: Rows of the operator.
        products: Taken.
        width: Of the blur; None for as narrow as the rules allow.
        points: Of the grid.
        zero: Magnitude that is not told from zero.
    """
    from scipy.special import ndtr

    low, high = _bulk(rules)
    steps = min((len(r.nodes) for r in rules), default=1)
    width = width or max(2 * (high - low) / steps / 2, 1e-3 * zero, 1e-300)
    edges = [low, high] if rules else []
    nodes = [node for r in rules for node in r.nodes.tolist()]
    grid = _grid(np.asarray([*known, *edges, *nodes]), known if rules else known[:0], width, points)
    rest = 1.0 - len(known) / size

    def bell(v: Floats) -> Floats:
        return _bell((grid[:, None] - v) / width) / width

    def step(v: Floats) -> Floats:
        return ndtr((grid[:, None] - v) / width)

    values, stderr, error = _of(bell, rules, known, size, rest, low, high)
    cumulative, _, cumulative_error = _of(step, rules, known, size, rest, low, high)
    return Density(
        size=size, grid=grid, values=values, stderr=stderr, error=error, cumulative=cumulative,
        cumulative_error=cumulative_error, width=width, outliers=np.sort(known), rules=tuple(rules),
        products=products, zero=zero,
    )  # fmt: skip


def _of(
    kernel: Callable[[Floats], Floats], rules: Sequence[Rule], known: Floats, size: int, rest: float, low:
        float,
    high: float,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Value, standard error and error of the kernels' mean over the spectrum."""
    fixed = kernel(known).sum(axis=1) / size if len(known) else 0.0
    if not rules:
        none = np.zeros_like(np.asarray(fixed))
        return np.asarray(fixed), none, none
    samples = rest * np.stack([kernel(r.nodes) @ r.weights for r in rules])
    stderr = samples.std(axis=0, ddof=1) / math.sqrt(len(rules))
    below, above = ends(samples, BAND)
    exact = 2 * min(len(r.nodes) for r in rules)
    bound = 0.0 if all(r.closed for r in rules) else rest * smooth_error(kernel, low, high, exact)
    return fixed + samples.mean(axis=0), stderr, stderr * np.maximum(-below, above) + bound


def _bell(z: Floats) -> Floats:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _bulk(rules: Sequence[Rule]) -> tuple[float, float]:
    """An interval that holds what the rules measure."""
    if not rules:
        return 0.0, 0.0
    low = min(float(r.nodes[0] - r.residuals[0]) for r in rules)
    return low, max(float(r.nodes[-1] + r.residuals[-1]) for r in rules)


def _grid(marks: Floats, known: Floats, width: float, points: int) -> Floats:
    """Points over all marks and 4 widths beyond: half even, half packed where marks are, and the peaks."""
    low, high = float(marks.min()) - 4 * width, float(marks.max()) + 4 * width
    even = np.linspace(low, high, points - points // 2)
    ranks = np.linspace(0, len(marks) - 1, points // 2)
    packed = np.interp(ranks, np.arange(len(marks)), np.sort(marks))
    around = width * np.resize([-2.0, -0.7, 0.0, 0.7, 2.0], len(packed))
    peaks = known[:64, None] + width * np.asarray([-3.0, -2, -1.3, -0.7, 0, 0.7, 1.3, 2, 3])
    return np.sort(np.concatenate([even, packed + around, peaks.ravel()]))
