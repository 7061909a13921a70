"""A leaderboard: a TOML file of races of one protocol, to which others can add.

An entry holds what its own race measured, seed by seed, and what its tuning cost; places and scores are
computed from all entries when the board is read, never stored. What was measured under another protocol does
not belong beside it and is refused: other seeds, trials, length, target or measure.

Steps can be compared between machines, seconds cannot: scores by seconds are of entries of one machine.
"""

from __future__ import annotations

import itertools
import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from downslope.core.errors import InputError
from downslope.core.plain import to_toml
from downslope.core.problem import Problem
from downslope.racing.entry import Entry
from downslope.racing.levels import level_of
from downslope.racing.measure import measure_of
from downslope.racing.profile import Profile, profile
from downslope.racing.result import Race
from downslope.racing.times import median_time
from downslope.training.environment import environment

FORMAT = 1
AGREED = ("seeds", "trials", "seed", "by", "retune", "early", "widen")
"""Of the protocol: what entries of one board share."""
LATER: dict[str, Any] = {"widen": False}
"""What a board that was written before a rule was made agreed on."""
OF_PROBLEM = ("measure", "name", "up", "target")
"""Of a problem: what entries of one board share."""
_ROW = (
    "problem", "contestant", "recipe", "values", "levels", "steps_to_target", "step_seconds", "tuning_runs",
    "tuning_steps", "machine", "by", "date",
)  # fmt: skip

Row = dict[str, Any]


@dataclass
class Board:
    """A leaderboard.

    Attributes:
        protocol: What all entries share.
        problems: Problem to its measure and target.
        rows: One for each contestant and problem.
        kept: Contestants that were added with other levels than are there: what is there stays.
        again: Contestants of an addition of which nothing is new: all are there, with the same levels.
    """

    protocol: dict[str, Any] = field(default_factory=dict[str, Any])
    problems: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    rows: list[Row] = field(default_factory=list[Row])
    kept: list[str] = field(default_factory=list[str])
    again: list[str] = field(default_factory=list[str])

    # -- making -------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, race: Race, by: str = "") -> Board:
        """The board that one race makes; contestants that could not be trained are not on it.

        Args:
            race: With every seed of its protocol: one that stopped early has fewer.
            by: Who raced.

        Raises:
            InputError: seeds are missing.
        """
        if race.seeds < race.protocol.seeds:
            raise InputError(
                f"the race has {race.seeds} of {race.protocol.seeds} seeds: for a board give early=False"
            )
        protocol = {key: race.protocol.to_dict()[key] for key in AGREED} | {"trials": race.trials}
        machine = _machine()
        problems: dict[str, dict[str, Any]] = {}
        rows: list[Row] = []
        for each in race.entries:
            problems[each.problem] = {
                "measure": each.measure.column, "name": each.measure.name, "up": each.measure.up,
                "target": each.target.level,
            }  # fmt: skip
            if not each.error:
                rows.append(_row(each, machine, by))
        return cls(protocol, problems, rows)

    @classmethod
    def load(cls, path: str | Path) -> Board:
        """The board in a file.

        Raises:
            InputError: no such file, no TOML, no board, or one of a later version.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no board there; the first race makes one") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path} is no board: {error}") from None
        if table.get("format") != FORMAT:
            raise InputError(f"{path}: a board of format {table.get('format')}, this version reads {FORMAT}")
        rows = [dict(each) for each in table.get("entry", ())]
        for number, row in enumerate(rows, 1):
            lacking = [key for key in (*_ROW[:2], "levels") if key not in row]
            if lacking:
                raise InputError(f"{path}: entry {number} has no {lacking[0]}")
            if row["problem"] not in table.get("problem", {}):
                raise InputError(
                    f"{path}: entry {number} is of {row['problem']!r}, which the board does not describe"
                )
        return cls(dict(table.get("protocol", {})), dict(table.get("problem", {})), rows)

    def save(self, path: str | Path) -> Path:
        """Write the board; folders on the way are made.

        Raises:
            InputError: the file cannot be written.
        """
        target = Path(path)
        table = {"format": FORMAT, "protocol": self.protocol, "problem": self.problems, "entry": self.rows}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(to_toml(table), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror or error}") from error
        return target

    def merged(self, other: Board) -> Board:
        """This board and another one together.

        Raises:
            InputError: another protocol, or nothing new: all of it is there already, with other figures.
        """
        if not self.rows:
            return other
        self.check(other.protocol)
        problems = dict(self.problems)
        for name, theirs in other.problems.items():
            _check_problem(name, problems.setdefault(name, theirs), theirs)
        held = {_key(row): row for row in self.rows}
        new = [row for row in other.rows if _key(row) not in held]
        others = [
            row
            for row in other.rows
            if row not in new and not _same(held[_key(row)]["levels"], row["levels"])
        ]
        if others and not new:
            raise InputError(
                f"{others[0]['contestant']!r} is on the board of {others[0]['problem']} already, with other "
                "levels: give the new one another name"
            )
        kept = list(dict.fromkeys(row["contestant"] for row in others))
        again = [] if new else list(dict.fromkeys(row["contestant"] for row in other.rows))
        return Board(dict(self.protocol), problems, [*self.rows, *new], kept, again)

    def check(self, protocol: Mapping[str, Any]) -> None:
        """Refuse another protocol than that of this board.

        Raises:
            InputError: the first rule that differs.
        """
        for key in {*self.protocol, *protocol} if self.rows else ():
            mine, theirs = (table.get(key, LATER.get(key)) for table in (self.protocol, protocol))
            if mine != theirs:
                raise InputError(
                    f"the boards have other protocols: {key} is {mine} here and {theirs} there; race again "
                    f"with {key}={mine}"
                )

    def targets_for(self, problems: Mapping[str, Problem], given: Any = None) -> dict[str, float]:
        """The target on each problem that a race has to be given, so that it fits onto this board.

        Args:
            problems: On which it will be raced.
            given: A level, or problem to level: what was asked for.

        Raises:
            InputError: another measure or another target than those of the board.
        """
        each = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else None
        found: dict[str, float] = {}
        for name, problem in problems.items():
            asked: Any = given if each is None else each.get(name)
            mine = self.problems.get(name)
            if mine is not None:
                held = measure_of(problem)
                aim = mine.get("target") if asked is None else asked
                theirs = {"measure": held.column, "name": held.name, "up": held.up, "target": aim}
                _check_problem(name, mine, theirs)
                asked = aim
            if asked is not None and math.isfinite(asked):
                found[name] = float(asked)
        return found

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def contestants(self) -> list[str]:
        """All of them, best score first."""
        scores = self.score()
        return sorted(scores, key=lambda name: (-scores[name], name))

    @property
    def targets(self) -> dict[str, float]:
        """Problem to the level that has to be reached: what a new race has to be given."""
        return {name: each["target"] for name, each in self.problems.items() if math.isfinite(each["target"])}

    def profile(self, clock: str = "steps") -> Profile:
        """The profile over the median times of problems, or of one problem the seeds, as `Race.profile`.

        Who did not race on a problem did not reach its target.
        """
        names = list(dict.fromkeys(row["contestant"] for row in self.rows))
        held = {(row["problem"], row["contestant"]): row for row in self.rows}
        if not self.problems or not names:
            raise InputError("the board is empty: a race adds to it")
        times = {
            problem: [_times(held.get((problem, name)), clock) for name in names] for problem in self.problems
        }
        if len(times) > 1:
            medians = [[median_time(own) for own in each] for each in times.values()]
            return profile(names, np.asarray(medians), list(times))
        (each,) = times.values()  # its seeds are the same for all: the protocol says them
        seeds = list(itertools.zip_longest(*each, fillvalue=math.inf))
        return profile(names, np.asarray(seeds), [f"seed {i + 1}" for i in range(len(seeds))])

    def score(self, clock: str = "steps") -> dict[str, float]:
        """AlgoPerf's score of each contestant."""
        return self.profile(clock).score()

    @property
    def machines(self) -> list[str]:
        """On which entries were timed."""
        return list(dict.fromkeys(str(row.get("machine", "")) for row in self.rows))

    def table(self) -> str:
        """The board as text, best score first."""
        steps = self.score()
        timed = len(self.machines) == 1
        seconds = self.score("seconds") if timed else {}
        wide = max(10, *(len(name) for name in steps))
        head = f"{'':{wide}}  {'score in steps':>14}  {'in seconds':>10}  {'on':>4}  {'lost':>4}  tuning"
        made = [head]
        for name in self.contestants:
            own = [row for row in self.rows if row["contestant"] == name]
            lost = sum(_missing(level) for row in own for level in row["levels"])
            spent = sum(int(row.get("tuning_steps", 0)) for row in own)
            told = f"{seconds[name]:.3f}" if timed else "-"
            made.append(
                f"{name:{wide}}  {steps[name]:>14.3f}  {told:>10}  {len(own):>4}  {lost:>4}  {spent} steps"
            )
        count = len(self.problems)
        seeds = f"the seeds of {next(iter(self.problems))}, the one problem"
        made.append(
            f"scores are over {f'the median times on {count} problems' if count > 1 else seeds}, 1 is best"
        )
        if self.kept:
            made.append(f"on it already, with other levels, which stay: {', '.join(self.kept)}")
        if self.again:
            made.append(f"nothing is added: on it already, with the same levels: {', '.join(self.again)}")
        if not timed:
            made.append(f"seconds are of {len(self.machines)} machines and cannot be compared")
        return "\n".join(made)

    def levels(self, problem: str) -> dict[str, Any]:
        """Contestant to `downslope.racing.levels.Level` on one problem."""
        up = bool(self.problems[problem]["up"])
        return {
            row["contestant"]: level_of(row["levels"], up=up)
            for row in self.rows
            if row["problem"] == problem
        }

    def __str__(self) -> str:
        return self.table()


def add(path: str | Path, race: Race, by: str = "") -> Board:
    """Add a race to the board at `path`, which is made if it is not there.

    Raises:
        InputError: a mixed protocol, or what `Board.of`, `Board.load` and `Board.save` raise; the file stays
            as it is.
    """
    new = Board.of(race, by)
    board = Board.load(path).merged(new) if Path(path).exists() else new
    board.save(path)
    return board


def _check_problem(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse a problem that is judged otherwise, or that has another target."""
    for key in OF_PROBLEM:
        if not _same(mine.get(key), theirs.get(key)):
            race = f"; race with target={mine.get(key)}" if key == "target" else ""
            raise InputError(
                f"the boards have other protocols: {key} of {name} is {mine.get(key)} here and "
                f"{theirs.get(key)} there{race}"
            )


def _row(of: Entry, machine: str, by: str) -> Row:
    cost = of.tuning_cost
    recipe = {"code": of.code} if of.code else of.recipe.edit(seed=None).to_dict()
    return {
        "problem": of.problem, "contestant": of.contestant, "recipe": recipe, "levels": of.levels,
        "steps_to_target": of.steps_to_target, "step_seconds": of.step_seconds,
        "tuning_runs": int(cost["runs"]), "tuning_steps": int(cost["steps"]), "machine": machine,
        "by": by, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def _times(row: Row | None, clock: str) -> list[float]:
    """Of each seed the time to target, infinite where it was not reached; once infinite without a row."""
    if row is None:
        return [math.inf]
    pace = 1.0 if clock == "steps" else float(row["step_seconds"])
    return [math.inf if _missing(step) else step * pace for step in row["steps_to_target"]]


def _key(row: Row) -> tuple[Any, Any]:
    return row["problem"], row["contestant"]


def _machine() -> str:
    found = environment()
    words = [
        str(found["processor"]),
        f"{found['cores']} cores",
        f"{found['threads']} threads",
        *found["gpus"],
    ]
    return ", ".join(words)


def _missing(value: Any) -> bool:
    return not isinstance(value, (int, float)) or not math.isfinite(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        first, second = cast("Sequence[Any]", a), cast("Sequence[Any]", b)
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return dict(cast("Mapping[Any, Any]", a)) == dict(cast("Mapping[Any, Any]", b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)
