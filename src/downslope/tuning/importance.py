"""Which hyper-parameters mattered for being among the best trials, and whether that is more than chance.

PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255; of conditional ones as in arXiv 2601.20800):
how much the density of a key among the best trials differs from that among all. fANOVA (Hutter, Hoos and
Leyton-Brown 2014): the share of the variance of a random forest through all values. Both are Optuna's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from downslope.core.errors import InputError
from downslope.core.space import Space
from downslope.tuning.distributions import distributions_of, parameter, params_of
from downslope.tuning.samplers.modelled import quietly
from downslope.tuning.trial import Trial

if TYPE_CHECKING:
    from optuna.study import Study

LEAST = 10
"""Trials with a value, from which importances are told."""

SHUFFLES = 19
"""Times that the values are shuffled over the trials: a key beats all of them by chance once in 20."""


@dataclass(frozen=True)
class Importance:
    """What a key had to do with being good."""

    key: str
    share: float
    """Of all keys together, in [0, 1]."""
    chance: float
    """The largest share that the same measure gave it with the values shuffled, of the same whole."""

    @property
    def mattered(self) -> bool:
        """Whether it is more than chance gives in one of twenty searches in which the key does nothing."""
        return self.share > self.chance

    def __str__(self) -> str:
        return f"{self.key} {self.share:.2f}" + ("" if self.mattered else " (no more than chance)")


def importances(
    trials: Sequence[Trial],
    space: Space,
    direction: Literal["min", "max"],
    *,
    by: Literal["ped-anova", "fanova"] = "ped-anova",
    seed: int = 0,
) -> tuple[Importance, ...]:
    """The keys of `space` by their importance, the largest first; none with fewer than `LEAST` trials.

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
    import numpy as np

    draw = np.random.default_rng(seed)
    shuffles = SHUFFLES if by == "ped-anova" else 0
    losses = [-each if direction == "max" else each for each in values]
    with quietly():
        study = _study(rows, losses, space)
        judge = _judge(by, len(rows), seed)
        found = _measured(study, judge, losses, space)
        chance = [
            _measured(study, judge, [losses[int(i)] for i in draw.permutation(len(losses))], space)
            for _ in range(shuffles)
        ]
    whole = math.fsum(found.values()) or 1.0
    told = [
        Importance(key, found[key] / whole, max((each[key] / whole for each in chance), default=0.0))
        for key in space
    ]
    return tuple(sorted(told, key=lambda each: each.share, reverse=True))


def _judge(by: str, count: int, seed: int) -> Any:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    quantile = min(max(0.1, 5 / count), 0.5)  # five trials above it at least, as its authors ask
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
