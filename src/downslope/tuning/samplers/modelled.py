"""Samplers that learn from the values: Optuna's, asked and told in batches.

They work on a study in memory that follows the journal: what they draw is recorded like any other trial, and
a search that goes on teaches them what is there. They are seeded by the number of trials at which they begin,
so that a resumed one draws nothing twice; it is not the uninterrupted one bit for bit.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from downslope.core.randomness import address
from downslope.core.space import Dimension
from downslope.core.space.dimension import When
from downslope.tuning.distributions import distribution, parameter, params_of, values_of
from downslope.tuning.samplers.distinct import finite, mark, tried, untried
from downslope.tuning.samplers.random import Random
from downslope.tuning.samplers.sampler import Sampler, Seen

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.study import Study

TRIES = 4
"""How often a model is asked again where it asks for what has been tried."""

ENDED = ("done", "pruned", "failed")
"""States that say something of the values; what was lost or given back is trained again."""


class Modelled(Sampler):
    """What TPE, GP and CMA share."""

    models = True
    _study: Study | None = None

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """Optuna's sampler."""

    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """Teach it what has ended, then draw `n`; it counts on what is still running."""
        with quietly():
            study = self._learnt(seen)
            if not finite(self.space) or self.repeats:
                return [self._drawn(study.ask()) for _ in range(n)]
            return self._distinct(study, seen, n)

    def _distinct(self, study: Study, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """`n` that have not been tried; where the model asks for nothing else, drawn at random."""
        from optuna.trial import TrialState

        known, found = tried(seen), list[dict[str, Any]]()
        for _ in range(n):
            for _ in range(TRIES):
                values = self._drawn(trial := study.ask())
                if mark(values) not in known:
                    break
                self._open.pop()
                study.tell(trial, state=TrialState.FAIL)
            else:
                rest = Random(self.space, seed=self.seed)
                if not (drawn := untried(self.space, rest.at, known, 1)):
                    break
                values = drawn[0]
            known.add(mark(values))
            found.append(values)
        return found

    def _learnt(self, seen: Sequence[Seen]) -> Study:
        import optuna

        if self._study is None:
            seed = address(self.seed, "trial", len(seen)) % 2**32
            direction = "maximize" if self.direction == "max" else "minimize"
            self._study = optuna.create_study(sampler=self.make(seed), direction=direction)
            self._open: list[tuple[dict[str, Any], optuna.Trial]] = []
            self._known: set[int] = set()
        for each in seen:
            if each.state in ENDED and each.number not in self._known:
                self._known.add(each.number)
                self._tell(self._study, each)
        return self._study

    def _tell(self, study: Study, each: Seen) -> None:
        """Of one that it has drawn itself the end; of another one all of it."""
        from optuna.trial import TrialState, create_trial

        values = dict(each.values)
        state = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(each.state, TrialState.FAIL)
        value = each.value
        if state is TrialState.PRUNED and value is None:  # it diverged, which is as bad as it gets
            state, value = TrialState.COMPLETE, -math.inf if self.direction == "max" else math.inf
        rungs = {0: value} if state is TrialState.PRUNED and value is not None else {}
        own = next((i for i, (mine, _) in enumerate(self._open) if mine == values), None)
        if own is not None:
            _, trial = self._open.pop(own)
            for step, at in rungs.items():
                trial.report(at, step)
            study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
            return
        known = {key: self.space[key] for key in values if key in self.space}
        made = create_trial(
            state=state,
            value=None if state is TrialState.FAIL else value,
            params=params_of(self.space, {key: values[key] for key in known}),
            distributions={
                parameter(key, dimension): distribution(dimension) for key, dimension in known.items()
            },
            intermediate_values=rungs,
        )
        study.add_trial(made)

    def _drawn(self, trial: optuna.Trial) -> dict[str, Any]:
        """Its values, keys on which others hang first."""
        values: dict[str, Any] = {}
        left = dict(self.space)
        while left:
            ready = {key: each for key, each in left.items() if _decided(each, left)}
            for key, each in ready.items():
                if not isinstance(each, When) or each.holds(values):
                    name = parameter(key, each)
                    values |= values_of(self.space, {name: _suggested(trial, name, each)})
            left = {key: each for key, each in left.items() if key not in ready}
        values = {key: values[key] for key in self.space if key in values}
        self._open.append((values, trial))
        return values


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """A block in which Optuna neither logs nor warns of what is experimental in it."""
    import optuna

    former = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            optuna.logging.set_verbosity(former)


def _decided(dimension: Dimension, left: Mapping[str, Dimension]) -> bool:
    """Whether nothing that it hangs on is still open."""
    return not isinstance(dimension, When) or all(key not in left for key, _ in dimension.conditions)


def _suggested(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found = distribution(dimension)
    if isinstance(found, FloatDistribution):
        return trial.suggest_float(name, found.low, found.high, log=found.log)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(name, found.low, found.high, log=found.log)
    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(name, found.choices)
    raise TypeError(f"{found!r} cannot be suggested")
