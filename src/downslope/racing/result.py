"""The result of a race: who won, or that it is undecided, and all that this rests on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from downslope.core import names
from downslope.core.errors import InputError
from downslope.racing.entry import Entry
from downslope.racing.levels import differences
from downslope.racing.profile import LIMIT, Profile, profile
from downslope.racing.protocol import Protocol
from downslope.racing.ranking import Ranking, ranked
from downslope.racing.sequential import Evidence, Verdict, against, evidence
from downslope.racing.times import step_ratio
from downslope.racing.written import written

Status = Literal["done", "decided", "time", "interrupted"]
Clock = Literal["steps", "seconds"]


class Paired(NamedTuple):
    """Two contestants, seed by seed."""

    first: str
    second: str
    mean: float
    """Of how much better the first is, over the pairs in which both ended (or got to the target)."""
    low: float
    """How much better it is at the least, by the very test that decides; infinite where nothing is known."""
    high: float
    """The same at the most: zero lies between the two just where it is undecided."""
    sure: float
    """Confidence of the interval: one less the test's chance of error."""
    pairs: int
    lost: tuple[int, int]
    """Seeds that the first lost, and the second; by steps or seconds those on which it never got there."""
    evidence: Evidence
    verdict: Verdict


@dataclass(eq=False, kw_only=True)
class Race:
    """What `race` found.

    Attributes:
        protocol: The rules.
        trials: Runs by which each contestant was tuned on each problem.
        entries: One for each problem and contestant.
        status: "done"; "decided" before the last seed; "time" or "interrupted" where it was cut.
        notes: What has to be known beside the figures.
        undertuned: Contestants whose best trials lie at the end of their space.
        folder: Where it is kept.
        elapsed: Seconds on the clock, of this call.
    """

    protocol: Protocol
    trials: int
    entries: Sequence[Entry]
    status: Status | str = "done"
    notes: list[str] = field(default_factory=list[str])
    undertuned: list[str] = field(default_factory=list[str])
    folder: Path | None = None
    elapsed: float = math.nan

    # -- who and where ------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """Names of the problems."""
        return list(dict.fromkeys(each.problem for each in self.entries))

    @property
    def contestants(self) -> list[str]:
        """Names of the contestants."""
        return list(dict.fromkeys(each.contestant for each in self.entries))

    def entry(self, contestant: str, problem: str | None = None) -> Entry:
        """One contestant on one problem; where there is one problem its name may be left out.

        Raises:
            InputError: no such contestant or problem.
        """
        problem = problem if problem is not None else self.problems[0]
        for each in self.entries:
            if (each.contestant, each.problem) == (contestant, problem):
                return each
        known = [*self.contestants, *self.problems]
        raise InputError(
            f"no {contestant!r} on {problem!r} in this race{names.did_you_mean(contestant, known)}"
        )

    @property
    def racing(self) -> list[str]:
        """Contestants that could be trained on every problem."""
        out = {each.contestant for each in self.entries if each.error}
        return [name for name in self.contestants if name not in out]

    @property
    def seeds(self) -> int:
        """Seeds that every contestant has on every problem."""
        counts = [len(each.raced) for each in self.entries if each.contestant in self.racing]
        return min(counts, default=0)

    # -- what decides -------------------------------------------------------------------------------------

    def _gaps(self, first: str, second: str, problem: str | None, *, lean: int = 0) -> list[float]:
        """Paired differences, positive where the first is better.

        On several problems a seed counts the problems that the first wins less those that it loses: levels of
        different problems have no common unit.

        Args:
            first: A contestant.
            second: Another.
            problem: One of the problems; None takes all.
            lean: Zero as measured. Else what counts as evidence: a problem on which no seed changes anything
                says what it says once, and steps cost the seconds that are the worst for the first (1) or for
                the second (-1) within what was measured.
        """
        each: list[list[float]] = []
        for name in self.problems if problem is None else [problem]:
            one, other = self.entry(first, name), self.entry(second, name)
            a, b = one.by(self.protocol.by), other.by(self.protocol.by)
            if lean and self.protocol.by == "seconds":
                low, high = step_ratio(one.rounds, other.rounds)
                step = other.step_seconds
                a = [steps * step * (high if lean > 0 else low) for steps in one.steps_to_target]
                b = [steps * step for steps in other.steps_to_target]
            gaps = differences(a[: self.seeds], b[: self.seeds])
            still = lean and one.repeated and other.repeated
            each.append([*gaps[:1], *(math.nan for _ in gaps[1:])] if still else gaps)
        if len(each) == 1:
            return each[0]
        return [float(np.nansum(np.sign(seed))) for seed in np.asarray(each).T]

    def paired(self, first: str, second: str, problem: str | None = None) -> Paired:
        """How much better the first is, and whether that is decided.

        Args:
            first: A contestant.
            second: Another.
            problem: One of the problems; None takes all of them together.

        Raises:
            InputError: no such contestant or problem.
        """
        gaps = self._gaps(first, second, problem)
        alone = problem or (self.problems[0] if len(self.problems) == 1 else None)
        lost = 0, 0
        if alone is not None:
            both = [self.entry(who, alone) for who in (first, second)]
            a, b = (each.by(self.protocol.by)[: self.seeds] for each in both)
            lost = sum(map(math.isinf, a)), sum(map(math.isinf, b))
            if all(each.repeated for each in both):
                gaps = gaps[:1]
        ended = [each for each in gaps if math.isfinite(each)]
        mean = float(np.mean(ended)) if ended else math.nan
        test = self.protocol.test(len(self.contestants))
        found, verdict = self._decided(first, second, problem)
        least = self._gaps(first, second, problem, lean=1)
        most = self._gaps(first, second, problem, lean=-1)
        low, high = test.within(least, most, self.seeds)
        if alone is None:
            low, high = max(low, -float(len(self.problems))), min(high, float(len(self.problems)))
        low = max(low, 0.0) if verdict == "first" else low if verdict == "second" else min(low, 0.0)
        high = min(high, 0.0) if verdict == "second" else high if verdict == "first" else max(high, 0.0)
        return Paired(first, second, mean, low, high, 1 - test.alpha, len(ended), lost, found, verdict)

    def _decided(self, first: str, second: str, problem: str | None) -> tuple[Evidence, Verdict]:
        found = against(
            evidence(self._gaps(first, second, problem, lean=1)),
            evidence(self._gaps(first, second, problem, lean=-1)),
        )
        return found, self.protocol.test(len(self.contestants)).decided(found, self.seeds)

    def beats(self, first: str, second: str, problem: str | None = None) -> bool:
        """Whether it is decided that the first is better."""
        return self._decided(first, second, problem)[1] == "first"

    @property
    def winner(self) -> str | None:
        """Who is decided to be better than every other on all problems together; None where undecided.

        A winner among equals has a chance of `Protocol.alpha` at most, however early the race stopped.
        """
        return self.winner_on(None)

    def winner_on(self, problem: str | None) -> str | None:
        """The winner on one problem by itself; None where undecided."""
        if not self.seeds:
            return None
        able = self.racing
        for name in able:
            others = [each for each in able if each != name]
            if others and all(self.beats(name, each, problem) for each in others):
                return name
        return None

    # -- how long, how stable -----------------------------------------------------------------------------

    def profile(self, clock: Clock = "steps") -> Profile:
        """Times to target over the fastest: median times of problems, or of one problem the seeds.

        Raises:
            InputError: no seeds, or a clock that is none.
        """
        if clock not in ("steps", "seconds"):
            raise InputError(f"clock={clock!r}: must be 'steps' or 'seconds'")
        able, n = self.racing, self.seeds
        if not n or not able:
            raise InputError("no profile: no seed was raced by every contestant")
        if len(self.problems) > 1:
            median = "median_steps" if clock == "steps" else "median_seconds"
            rows = [[getattr(self.entry(who, name), median) for who in able] for name in self.problems]
            return profile(able, rows, self.problems)
        columns = [self.entry(who).by(clock)[:n] for who in able]
        return profile(able, np.asarray(columns).T, [f"seed {i + 1}" for i in range(n)])

    def score_in(self, clock: Clock = "steps", r: float = LIMIT) -> dict[str, float]:
        """AlgoPerf's score of each contestant, in [0, 1]."""
        return self.profile(clock).score(r)

    @property
    def score(self) -> dict[str, float]:
        """AlgoPerf's score by seconds to target where they were measured, else by steps."""
        return self.score_in("seconds" if self._timed else "steps")

    @property
    def _timed(self) -> bool:
        return all(
            math.isfinite(each.step_seconds) for each in self.entries if each.contestant in self.racing
        )

    def ranking(self, problem: str | None = None) -> Ranking:
        """The order by what decides, and how it stands up to resampled seeds.

        By the mean level; by steps or seconds by the median time, as they are told; on several problems by
        the mean rank over them.
        """
        able, n = self.racing, self.seeds
        chosen = self.problems if problem is None else [problem]
        costs = np.asarray(
            [[self.entry(who, name).by(self.protocol.by)[:n] for who in able] for name in chosen]
        )
        costs = np.where(np.isnan(costs), np.inf, costs)
        if len(chosen) > 1:
            below = (costs[:, :, None] > costs[:, None, :]).sum(2)
            same = (costs[:, :, None] == costs[:, None, :]).sum(2)
            return ranked(able, (below + (same + 1) / 2).mean(0), by="mean", seed=self.protocol.seed)
        by = "mean" if self.protocol.by == "level" else "median"
        return ranked(able, costs[0], by=by, seed=self.protocol.seed)

    @property
    def tuning(self) -> dict[str, dict[str, float]]:
        """Contestant to runs, steps and seconds of its tuning, on all problems."""
        found: dict[str, dict[str, float]] = {}
        for each in self.entries:
            total = found.setdefault(each.contestant, {"runs": 0, "steps": 0, "seconds": 0.0})
            for key, value in each.tuning_cost.items():
                total[key] += value
        return found

    # -- telling ------------------------------------------------------------------------------------------

    def table(self) -> str:
        """The race as text."""
        return "\n".join(names.load("downslope.racing.told:lines")(self))

    def __str__(self) -> str:
        return self.table()

    def plot(self, kind: str = "profile") -> Any:
        """A plotly figure.

        Args:
            kind: As `downslope.reporting` draws a race: "profile", "seconds", "times", "levels", "curves",
                "rates".
        """
        return names.load("downslope.reporting.races:plot")(self, kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file or a machine."""
        n = self.seeds
        pairs = itertools.combinations(self.racing, 2) if n else ()
        return {
            "protocol": self.protocol.to_dict(), "trials": self.trials, "status": self.status,
            "seeds": n, "winner": self.winner, "problems": self.problems, "contestants": self.contestants,
            "entries": [each.to_dict() for each in self.entries],
            "pairs": [self.paired(a, b)._asdict() for a, b in pairs],
            "winners": {name: self.winner_on(name) for name in self.problems},
            "score": {} if not n else {"steps": self.score_in("steps"), "seconds": self.score},
            "ranking": None if not n else self.ranking().to_dict(),
            "tuning": self.tuning, "notes": self.notes, "undertuned": self.undertuned,
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the race as JSON; folders on the way are made.

        Raises:
            InputError: the file cannot be written.
        """
        return written(self.to_dict(), path)
