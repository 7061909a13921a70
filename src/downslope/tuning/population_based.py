"""Population-based training: who does badly goes on from who does well, with other hyper-parameters.

What comes out is a model and the schedule of hyper-parameters that made it, which can be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from downslope.core.errors import InputError
from downslope.core.space import Dimension, Integer, Log, OneMinus, Space, Uniform
from downslope.tuning.rungs import Ladder, Rung, Stopped, check_units, finite, ranked
from downslope.tuning.schedule import Change, Schedule


class Members(Protocol):
    """Members that train on, and that can become others."""

    def ask(self, n: int) -> Sequence[int]:
        """Begin up to n members with hyper-parameters of their own."""
        ...

    def train(self, members: Sequence[int], units: int) -> Sequence[float]:
        """Train these on to so many units since their beginning; their losses there, smaller is better."""
        ...

    def values(self, member: int) -> Mapping[str, Any]:
        """The hyper-parameters that a member has now."""
        ...

    def goes_on(self, member: int) -> bool:
        """Whether it can train on: it has not come to its end by itself."""
        ...

    def become(self, member: int, source: int, values: Mapping[str, Any]) -> None:
        """Take weights and optimizer state of `source`, which may be itself, and go on with `values`."""
        ...


@dataclass(frozen=True)
class Bred:
    """What population-based training did."""

    ladder: Ladder
    """Every look: who had which loss, and who went on as itself."""
    begun: Mapping[int, Mapping[str, Any]]
    """Hyper-parameters that each member began with."""
    changes: tuple[Change, ...]
    """Every member that became another, in order."""

    @property
    def best(self) -> int | None:
        """The member of the smallest loss at the end; None where no loss is finite."""
        return self.ladder.best

    def schedule(self, member: int | None = None) -> Schedule:
        """The hyper-parameters that made a member, through all that it descends from.

        Args:
            member: Any; the best if left out.

        Raises:
            InputError: every loss was not finite, so that there is no best.
        """
        at = self.best if member is None else member
        if at is None:
            raise InputError("no member ended with a finite loss: there is no schedule that made the best")
        pieces: list[tuple[int, Mapping[str, Any]]] = []
        for change in reversed(self.changes):
            if change.member == at:
                pieces.append((change.units, change.values))
                at = change.source
        pieces.append((0, self.begun[at]))
        return Schedule(tuple(reversed(pieces)), max(rung.units for rung in self.ladder.rungs))


@dataclass(frozen=True, kw_only=True)
class PopulationBased:
    """Every `every` units the worst `share` of the members become copies of the best `share`, and explore.

    Exploit is truncation selection: a member among the worst takes the weights, the optimizer's state and the
    hyper-parameters of one drawn from the best. Explore then draws each hyper-parameter anew with probability
    `resample`, and else moves it: by one of `factors` where the dimension is logarithmic (of ``1 - momentum``
    the complement), by `shift` of the range up or down where it is linear. Options are drawn anew only.
    Values stay inside of the space. A member whose loss is not finite is always replaced, if it
    can train on at all.

    Every draw has an address (seed, units, member): a run that is repeated, or goes on, makes the same ones.

    Args:
        space: Of the hyper-parameters that change while a member trains.
        most: Units of training (epochs of the recipe, or its steps) in all, from 1.
        every: Units between two looks, in [1, most].
        share: Of the members, in [0, 0.5]; 0 exploits nothing, and one at least is replaced otherwise.
        factors: Of which one is drawn, each above 0.
        shift: Share of a linear range, in [0, 1].
        resample: Probability, in [0, 1].
        seed: Of all draws.

    Raises:
        InputError: an argument outside its domain.

    Differs from: the paper, whose members look when they are ready; here all look after the same training.
    Source: Jaderberg et al. 2017, "Population based training of neural networks", algorithm 1; truncation
    selection with 20 % and factors 0.8 and 1.2 as in its experiments, resampling as Ray Tune has it.
    """

    space: Space
    most: int
    every: int = 1
    share: float = 0.2
    factors: tuple[float, ...] = (0.8, 1.2)
    shift: float = 0.1
    resample: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_units("most", self.most)
        check_units("every", self.every)
        if self.every > self.most:
            raise InputError(f"every={self.every} with most={self.most}: nobody would look before the end")
        for name, high in (("share", 0.5), ("shift", 1.0), ("resample", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise InputError(f"{name}={value!r}: must lie in [0, {high:g}]")
        if not self.factors or any(not (each > 0 and math.isfinite(each)) for each in self.factors):
            raise InputError(f"factors={self.factors!r}: each must be above 0, such as (0.8, 1.2)")

    def run(self, members: Members, size: int) -> Bred:
        """Begin `size` members, train them to the end, and look on the way.

        Raises:
            InputError: no two members, or training did not give one loss for each.
        """
        going = list(members.ask(check_units("size", size, 2)))
        begun = {member: dict(members.values(member)) for member in going}
        rungs, changes = list[Rung](), list[Change]()
        looks = [*range(self.every, self.most, self.every), self.most]
        for units in looks:
            if not going:
                break
            try:
                values = tuple(float(value) for value in members.train(going, units))
            except Stopped:
                break
            last = units == self.most
            made = [] if last else self._exploited(going, values, units, members)
            for change in made:
                members.become(change.member, change.source, change.values)
            replaced = {change.member for change in made}
            order, alive = ranked(going, values), finite(going, values)
            kept = [m for m in order if m in alive and m not in replaced]
            rungs.append(Rung(units, tuple(going), values, tuple(kept[:1] if last else kept)))
            changes += made
            if not alive:
                break
        return Bred(Ladder(tuple(rungs)), begun, tuple(changes))

    def _exploited(
        self, going: Sequence[int], values: Sequence[float], units: int, members: Members
    ) -> list[Change]:
        """Who becomes whom; sources are never replaced at the same look, so the order does not matter."""
        order, alive = ranked(going, values), finite(going, values)
        if not self.share or not alive:
            return []
        count = max(1, int(self.share * len(going)))
        best = [member for member in order[:count] if member in alive]
        worst = order[-count:] if len(going) > 1 else []
        made: list[Change] = []
        for member in order:
            bad = member in worst or member not in alive
            if member in best or not bad or not members.goes_on(member):
                continue
            draw = np.random.default_rng((self.seed, units, member))
            source = best[int(draw.integers(len(best)))]
            made.append(Change(units, member, source, self.explored(members.values(source), draw)))
        return made

    def explored(self, values: Mapping[str, Any], draw: np.random.Generator) -> dict[str, Any]:
        """`values` with every hyper-parameter of the space drawn anew or moved."""
        found = dict(values)
        for key, dimension in self.space.items():
            inner = dimension.inner
            if key not in found:
                continue
            if draw.random() < self.resample:
                found[key] = inner.draw(float(draw.random()))
            else:
                found[key] = self._moved(inner, found[key], draw)
        return found

    def _moved(self, dimension: Dimension, value: Any, draw: np.random.Generator) -> Any:
        if isinstance(dimension, OneMinus):
            return 1.0 - self._moved(dimension.of, 1.0 - value, draw)
        if not isinstance(dimension, (Uniform, Log, Integer)):
            return value
        low, high = dimension.low, dimension.high
        factor, up = float(draw.choice(self.factors)), bool(draw.integers(2))
        if isinstance(dimension, Log) or (isinstance(dimension, Integer) and dimension.log):
            moved, up = value * factor, factor > 1
        else:
            moved = value + (1 if up else -1) * self.shift * (high - low)
        if isinstance(dimension, Integer):
            nearest = round(moved)
            moved = value + (1 if up else -1) if nearest == value != moved else nearest
        return min(max(moved, low), high)
