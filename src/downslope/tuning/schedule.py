"""A schedule of hyper-parameters that a search found: stairs that can be told, kept and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from downslope.core.errors import InputError
from downslope.core.recipe import Recipe
from downslope.core.spelling import spell

if TYPE_CHECKING:
    from downslope.tuning.population_based import Members
    from downslope.tuning.trial import Trial


@dataclass(frozen=True)
class Change:
    """A member that went on as a copy of another with other hyper-parameters."""

    units: int
    """Units of training after which."""
    member: int
    """Who was replaced."""
    source: int
    """Whose weights and optimizer's state it took."""
    values: Mapping[str, Any]
    """Hyper-parameters that it has from then on."""


@dataclass(frozen=True)
class Schedule:
    """Hyper-parameters in stairs.

    Raises:
        InputError: stairs that do not begin at 0 or do not rise.
    """

    pieces: tuple[tuple[int, Mapping[str, Any]], ...]
    """Units of training after which these values hold; the first at 0."""
    units: int
    """How long the run was."""

    def __post_init__(self) -> None:
        begins = [at for at, _ in self.pieces]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)) or begins[-1] >= self.units:
            raise InputError(f"stairs at {begins} of {self.units} units: they must begin at 0 and rise")

    def at(self, units: int) -> Mapping[str, Any]:
        """The values in force after so many units of training."""
        return next(values for begin, values in reversed(self.pieces) if begin <= units)

    def series(self, key: str) -> list[tuple[int, Any]]:
        """Where the value of one hyper-parameter begins, and the value; stairs that keep it are left out."""
        found: list[tuple[int, Any]] = []
        for begin, values in self.pieces:
            if not found or found[-1][1] != values.get(key):
                found.append((begin, values.get(key)))
        return found

    def told(self, number: Callable[[Any], str] = str) -> str:
        """``lr 0.1, 0.08 from epoch 4; momentum 0.9``."""
        parts: list[str] = []
        for key in self.pieces[0][1]:
            (_, first), *later = self.series(key)
            steps = "".join(f", {number(value)} from epoch {begin}" for begin, value in later)
            parts.append(f"{key} {number(first)}{steps}")
        return "; ".join(parts)

    def along(self, recipe: Recipe) -> Recipe | None:
        """The recipe that trains along it by itself; None where it cannot, or more than the rate changes.

        Args:
            recipe: That of the search with the values of the beginning; with a schedule of its own, or a
                length in steps, it cannot.
        """
        changing = {key for key in self.pieces[0][1] if len(self.series(key)) > 1}
        if not changing:
            return recipe
        if changing != {"lr"} or recipe.schedule is not None or recipe.warmup or recipe.steps is not None:
            return None
        (_, first), *later = self.series("lr")
        at = [begin / self.units for begin, _ in later]
        settings = {"at": at, "factors": [value / first for _, value in later]}
        return recipe.edit(schedule=spell("stairs", (), settings))

    def table(self) -> list[dict[str, Any]]:
        """A row for each stair: ``from``, ``to`` and the values."""
        ends = [begin for begin, _ in self.pieces[1:]] + [self.units]
        return [
            {"from": begin, "to": end} | dict(values)
            for (begin, values), end in zip(self.pieces, ends, strict=True)
        ]

    @classmethod
    def of_table(cls, rows: list[dict[str, Any]]) -> Schedule:
        """What `table` gave.

        Raises:
            InputError: no row, or stairs that do not rise.
        """
        pieces = [
            (int(row["from"]), {k: v for k, v in row.items() if k not in ("from", "to")}) for row in rows
        ]
        return cls(tuple(pieces), int(rows[-1]["to"]) if rows else 0)

    def replay(self, members: Members) -> float:
        """Train one member along the schedule, without any search.

        Args:
            members: Begins one member, whose own hyper-parameters are replaced before its first step.

        Returns:
            Its loss at the end: that of the member which the schedule made, bit for bit, if it begins from
            the same seed.
        """
        (member,) = members.ask(1)
        loss = float("nan")
        for row in self.table():
            values = {key: value for key, value in row.items() if key not in ("from", "to")}
            if dict(members.values(member)) != values:
                members.become(member, member, values)
            (loss,) = members.train([member], row["to"])
        return loss


def stairs(trial: Trial) -> list[dict[str, Any]]:
    """The schedule that made a trial, as a table; empty where its hyper-parameters did not change."""
    return cast("list[dict[str, Any]]", trial.attrs.get("schedule") or [])
