"""Which hyper-parameters mattered: how much for being among the best, and whether at all.

How much: PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255; of conditional ones as in arXiv
2601.20800), how far the density of a key among the best trials is from that among all; or fANOVA (Hutter and
others 2014), the share of the variance of a random forest through all values. Both are Optuna's.

Whether at all: Kruskal and Wallis's statistic (1952) of the values over fifths of the key, or its options,
against shuffles of the values over the trials: over all trials, and over the better half of them, where what
ruins a trial hides nothing. It asks for a dependence of any form, of this key alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError
from downslope.core.space import Choice, Dimension, Space
from downslope.tuning.distributions import distributions_of, parameter, params_of
from downslope.tuning.samplers.modelled import quietly
from downslope.tuning.trial import Trial

if TYPE_CHECKING:
    from optuna.study import Study

Floats = npt.NDArray[np.float64]

LEAST = 10
"""Trials with a value, from which importances are told."""

ENOUGH = 24
"""Trials that have a key from which it can be said to have done nothing: one behind half of the variance is
found in 8 of 10 searches of so many (86 of 100 if the loss rises along it, 72 of 100 if it is a valley), in
2 of 10 of half as many (25 and 15; simulated, 100 each)."""

SHUFFLES = 499
"""Times that the values are shuffled."""

LEVEL = 0.05
"""Probability with which a key that does nothing is said to matter."""

FIFTHS = 5


@dataclass(frozen=True)
class Importance:
    """What a key had to do with being good."""

    key: str
    share: float
    """Of all keys together, in [0, 1]."""
    p: float
    """Probability of values that hang on it as much as these, or more, if they did not at all."""
    trials: int
    """Trials that have it."""

    @property
    def mattered(self) -> bool:
        """Whether that is less than `LEVEL`."""
        return self.p <= LEVEL

    @property
    def open(self) -> bool:
        """Whether there are too few trials to say that it did nothing."""
        return not self.mattered and self.trials < ENOUGH

    def __str__(self) -> str:
        doubt = "too few trials to tell" if self.open else "no more than chance"
        return f"{self.key} {100 * self.share:.0f} %" + ("" if self.mattered else f" ({doubt})")


def importances(
    trials: Sequence[Trial],
    space: Space,
    direction: Literal["min", "max"],
    *,
    by: Literal["ped-anova", "fanova"] = "ped-anova",
    seed: int = 0,
) -> tuple[Importance, ...]:
    """The keys of `space`, those that mattered first, by their share; none with fewer than `LEAST` trials.

    A trial that diverged counts as bad as the worst that did not.

    Args:
        trials: Of the search.
        space: Their keys.
        direction: Which way values are better.
        by: Whose measure.
        seed: Of the shuffles, and of the forest.

    Raises:
        InputError: no such measure.
    """
    if by not in ("ped-anova", "fanova"):
        raise InputError(f"by={by!r}: must be 'ped-anova' or 'fanova'")
    rows = [each for each in trials if each.state == "done" or each.attrs.get("diverged")]
    known = [each.value for each in rows if each.value is not None]
    if len(rows) < LEAST or len(set(known)) < 2 or len(space) < 1:
        return ()
    worst = min(known) if direction == "max" else max(known)
    values: list[float] = [worst if each.value is None else each.value for each in rows]
    losses = [-each if direction == "max" else each for each in values]
    with quietly():
        found = _measured(_study(rows, losses, space), _judge(by, len(rows), seed), losses, space)
    whole = math.fsum(found.values()) or 1.0
    better = sorted(range(len(rows)), key=losses.__getitem__)[: (len(rows) + 1) // 2]
    told: list[Importance] = []
    for key, each in space.items():
        among = chance([rows[i] for i in better], [losses[i] for i in better], key, each, seed)
        p = min(1.0, 2 * min(chance(rows, losses, key, each, seed), among))  # Bonferroni
        count = sum(key in row.values for row in rows)
        told.append(Importance(key, found[key] / whole, p, count))
    return tuple(sorted(told, key=lambda each: (each.mattered, each.share), reverse=True))


def chance(
    rows: Sequence[Trial], losses: Sequence[float], key: str, dimension: Dimension, seed: int = 0
) -> float:
    """The probability of losses that hang on `key` as these do, if they did not hang on it.

    ``H = sum_j n_j (mean rank of group j - mean rank)^2`` over fifths of the key, or its options, among
    `SHUFFLES` shuffles and itself; 1 where there is nothing to compare.

    Args:
        rows: Trials.
        losses: Of each.
        key: Of those that have it.
        dimension: Of the key.
        seed: Of the shuffles.

    Source: Kruskal and Wallis 1952, "Use of ranks in one-criterion variance analysis", by permutation.
    """
    own = [i for i, row in enumerate(rows) if key in row.values]
    if len(own) < LEAST:
        return 1.0
    places = np.asarray([dimension.place(rows[i].values[key]) for i in own])
    groups = places if isinstance(dimension.inner, Choice) else _fifths(places)
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    if len(sizes) < 2:
        return 1.0
    ranks = _ranks(np.asarray([losses[i] for i in own]))
    ranks -= ranks.mean()
    inside = np.eye(len(sizes))[member]
    draws = np.random.default_rng(seed)
    shuffled = np.stack([ranks, *(draws.permutation(ranks) for _ in range(SHUFFLES))])
    height = ((shuffled @ inside) ** 2 / sizes).sum(1)
    return float((height >= height[0] * (1 - 1e-12)).mean())


def _fifths(places: Floats) -> Floats:
    """The group of each, of about equal sizes; equal places are in one group."""
    ranks = _ranks(places)
    return np.floor(ranks / (len(places) / min(FIFTHS, len(places) // 3)))


def _ranks(values: Floats) -> Floats:
    """From 0; of equal values the mean."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[at]


def _judge(by: str, count: int, seed: int) -> Any:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    quantile = min(max(0.1, 12 / count), 0.5)  # more than the five trials that its authors ask for at least
    if by == "fanova":
        return FanovaImportanceEvaluator(seed=seed)
    return PedAnovaImportanceEvaluator(target_quantile=quantile)


def _measured(study: Study, judge: Any, losses: Sequence[float], space: Space) -> dict[str, float]:
    """Key to importance, not normalised; 0 where it is not known."""
    from optuna.importance import get_param_importances

    found = get_param_importances(
        study, evaluator=judge, target=lambda each: losses[each.number], normalize=False
    )
    named = {parameter(key, each): key for key, each in space.items()}
    told = {named[name]: float(value) for name, value in found.items() if name in named}
    return {key: told.get(key, 0.0) for key in space}


def _study(rows: Sequence[Trial], losses: Sequence[float], space: Space) -> Study:
    import optuna
    from optuna.trial import create_trial

    every = distributions_of(space)
    study = optuna.create_study(direction="minimize")
    for row, loss in zip(rows, losses, strict=True):
        params = params_of(space, {key: row.values[key] for key in row.values if key in space})
        study.add_trial(
            create_trial(value=loss, params=params, distributions={name: every[name] for name in params})
        )
    return study
