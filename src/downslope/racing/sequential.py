"""A test of paired differences that may be looked at after every seed, and stopped.

What is tested is that the difference of two contestants is symmetric about zero, as it is where both are the
same method: then its sign is a fair coin, whatever its size. Half of the error is spent on looks, half on the
planned end.

    look    E_n = mean over k of  prod_i 2 / (1 + exp(-2 k s_i w_i))     s_i the sign, w_i = rank of |d_i| / i
    end     exact p of Wilcoxon's signed-rank statistic, by counting all 2^n signs

Every factor of ``E_n`` is 1 on average over a fair ``s_i``, since ``w_i`` is known from the sizes up to i:
``E_n`` is a martingale from 1, and the chance that it ever reaches 1/a is at most a (Ville 1939), at any
stopping time. The factor is the likelihood ratio of a sign that is positive with probability
``1 / (1 + exp(-2 k w))`` against a fair coin. Ranks make no assumption on the sizes: a run that diverged is
the largest of all.

Sources: Ville 1939; Efron 1969 (signs given sizes); Ramdas, Ruf, Larsson and Koolen 2020, Admissible
anytime-valid sequential inference must rely on nonnegative martingales, section 5; Wilcoxon 1945;
Lehmann 1963, Nonparametric confidence intervals for a shift parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError

Floats = npt.NDArray[np.float64]
Verdict = Literal["first", "second", "undecided"]

TILTS = (1.0, 2.0, 4.0, 8.0)
"""The k over which `evidence` is averaged: from a sign that follows the largest differences to one that never
changes."""


class Evidence(NamedTuple):
    """What the differences say so far."""

    first: float
    """Largest e-value, over all looks, against "the first is not better"."""
    second: float
    """The same of the second."""
    p_first: float
    """Exact p-value of "the first is not better", of all differences together."""
    p_second: float
    """The same of the second."""
    pairs: int
    """Differences that are not zero."""


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The test of one pair.

    Args:
        alpha: Chance of any decision between a method and itself, in (0, 1).
        planned: Pairs at the planned end, at least 2.
        early: Whether it may stop before; else the whole error is left for the end.

    Raises:
        InputError: outside of these.
    """

    alpha: float = 0.05
    planned: int
    early: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha={self.alpha!r}: must lie in (0, 1), it is the chance of a false winner")
        if self.planned < 2:
            raise InputError(f"planned={self.planned!r}: a test needs two pairs or more")

    @property
    def threshold(self) -> float:
        """E-value of one side at which a look decides: half of the error, a half of that for each side."""
        return 4 / self.alpha if self.early else math.inf

    @property
    def level(self) -> float:
        """P-value of one side at which the planned end decides."""
        return self.alpha / (4 if self.early else 2)

    @property
    def fewest(self) -> int:
        """Pairs below which even differences of one sign decide nothing."""
        return math.ceil(-math.log2(self.level) - 1e-9)

    def verdict(self, differences: Sequence[float]) -> Verdict:
        """Who is better, from the differences so far, in the order in which they came.

        Args:
            differences: Of pairs, positive where the first is better; infinite where only one diverged.
        """
        return self.decided(evidence(differences), len(differences))

    def decided(self, found: Evidence, pairs: int) -> Verdict:
        """Who is better, from what `pairs` differences say."""
        if max(found.first, found.second) >= self.threshold:
            return "first" if found.first >= found.second else "second"
        if pairs >= self.planned:
            if found.p_first <= self.level:
                return "first"
            if found.p_second <= self.level:
                return "second"
        return "undecided"

    def within(
        self, low: Sequence[float], high: Sequence[float] | None = None, seen: int | None = None
    ) -> tuple[float, float]:
        """By how much the first is better: all m for which ``d - m`` decides nothing, at 1 - alpha.

        Signs and ranks of ``d - m`` change at means of two differences alone, and what speaks for the first
        only falls as m rises: the ends are found among those means by halving. An end is infinite where no
        difference, however large, would be decided from so few seeds. Source: Lehmann 1963, for the
        signed-rank test.

        Args:
            low: Differences that count for the lower end, in the order in which they came; NaN says nothing.
            high: Those of the upper end, where differences are known within bounds only; as `low` if left
                out.
            seen: Pairs that were raced; left out, as many as there are.
        """
        high = low if high is None else high
        pairs = len(low) if seen is None else seen
        negated = [-each for each in high]
        return self._end(np.asarray(low, dtype=np.float64), pairs), -self._end(
            np.asarray(negated, dtype=np.float64), pairs
        )

    def _end(self, d: Floats, pairs: int) -> float:
        """The largest m up to which "the first is better by more than m" is decided."""
        d = d[~np.isnan(d)]
        ended = d[np.isfinite(d)]
        i, j = np.triu_indices(len(ended))
        at = np.unique((ended[i] + ended[j]) / 2)
        inside = [*(at[:1] - 1), *((at[1:] + at[:-1]) / 2), *(at[-1:] + 1)] or [0.0]
        below, above = -1, len(inside)
        while above - below > 1:
            place = (below + above) // 2
            if self.decided(evidence((d - inside[place]).tolist()), pairs) == "first":
                below = place
            else:
                above = place
        return -math.inf if above == 0 else math.inf if above == len(inside) else float(at[above - 1])

    def first_look(self) -> int:
        """The first number of pairs at which looking can decide, `planned` where none before can."""
        for n in range(2, self.planned):
            if evidence([1.0] * n).first >= self.threshold:
                return n
        return self.planned


def evidence(differences: Sequence[float]) -> Evidence:
    """E-values and exact p-values of paired differences, in the order in which they came.

    Args:
        differences: Zero says nothing and is left out; NaN too.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[(d != 0) & ~np.isnan(d)]
    if not len(d):
        return Evidence(1.0, 1.0, 1.0, 1.0, 0)
    sizes, signs = np.abs(d), np.sign(d)
    weights = np.asarray([_rank(sizes[: i + 1]) / (i + 1) for i in range(len(d))])
    tilted = np.multiply.outer(2 * np.asarray(TILTS), signs * weights)
    first, second = (float(_running(side * tilted).max()) for side in (1, -1))
    p_first, p_second = signed_rank(d)
    return Evidence(first, second, p_first, p_second, len(d))


def against(first: Evidence, second: Evidence) -> Evidence:
    """What speaks for the first in `first` and for the second in `second`.

    Each may be of differences that lean towards the other, where they are known within bounds only: what is
    decided then holds wherever the truth lies within them.
    """
    pairs = max(first.pairs, second.pairs)
    return Evidence(first.first, second.second, first.p_first, second.p_second, pairs)


def _running(tilted: Floats) -> Floats:
    """The mean over the tilts of the running product of ``2 / (1 + exp(-x))``."""
    return np.exp(np.cumsum(math.log(2) - np.logaddexp(0.0, -tilted), axis=1)).mean(0)


def _rank(sizes: Floats) -> float:
    """Rank of the last among all, from 1; ties share the mean."""
    last = sizes[-1]
    return float((sizes < last).sum() + ((sizes == last).sum() + 1) / 2)


def ranks(sizes: Floats) -> Floats:
    """Ranks from 1; ties share the mean."""
    below = (sizes[:, None] > sizes[None, :]).sum(1)
    same = (sizes[:, None] == sizes[None, :]).sum(1)
    return below + (same + 1) / 2


def signed_rank(differences: Floats) -> tuple[float, float]:
    """Exact one-sided p-values, of positive and of negative differences, given their sizes.

    The sum of the ranks of the positive ones, against its distribution over all 2^n signs; ties share ranks.

    Args:
        differences: None of them zero.
    """
    doubled = np.rint(2 * ranks(np.abs(differences))).astype(np.int64)
    counts = np.zeros(int(doubled.sum()) + 1)
    counts[0] = 1.0
    for rank in doubled.tolist():
        moved = np.zeros_like(counts)
        moved[rank:] = counts[: len(counts) - rank]
        counts = (counts + moved) / 2
    positive, negative = int(doubled[differences > 0].sum()), int(doubled[differences < 0].sum())
    return float(counts[positive:].sum()), float(counts[negative:].sum())
