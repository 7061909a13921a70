"""A race that came to its end, or to where it was cut, read again from its folder: nothing is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from downslope.core.errors import RunFolderError
from downslope.core.recipe import Recipe
from downslope.core.run import read_lines
from downslope.racing.entry import Entry
from downslope.racing.ledger import FILE, FORMAT, Ledger
from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome
from downslope.racing.protocol import Protocol
from downslope.racing.result import Race
from downslope.racing.times import Target, paces_of

END = "end"
"""The fact that holds what a race is besides its runs."""


def keep(found: Race, ledger: Ledger) -> Race:
    """Write what the race is besides its runs into its folder, so that `load_race` finds it."""
    if ledger.path is not None:
        ledger.fact(END, {
            "status": found.status, "trials": found.trials, "notes": found.notes,
            "undertuned": found.undertuned, "entries": [_told(each) for each in found.entries],
        })  # fmt: skip
    return found


def load_race(folder: str | Path) -> Race:
    """The race that is kept in `folder`, whole or interrupted; nothing is trained or written.

    Args:
        folder: What `Race.folder` said.

    Raises:
        RunFolderError: no race there, one that another version wrote, or one that was killed on its way.
    """
    place = Path(folder)
    lines = read_lines(place / FILE)
    if not lines:
        raise RunFolderError(f"{place}: no race there ({FILE} is missing)")
    if lines[0].get("kind") != "race" or lines[0].get("format") != FORMAT:
        raise RunFolderError(f"{place / FILE} is no race that this version can read")
    facts = {line["name"]: line["value"] for line in lines[1:] if line["kind"] == "fact"}
    end = facts.get(END)
    if end is None:
        raise RunFolderError(f"{place}: the race there has no end yet; downslope resume {place} goes on")
    runs = [_outcome(line) for line in lines[1:] if line["kind"] == "outcome"]
    known = {each.name for each in dataclasses.fields(Protocol)}
    rules = {key: value for key, value in lines[0]["protocol"].items() if key in known}
    return Race(
        protocol=Protocol(**rules), trials=end["trials"], status=end["status"], notes=list(end["notes"]),
        undertuned=list(end["undertuned"]), folder=place,
        entries=[_entry(each, {one.key: one for one in runs}, facts) for each in end["entries"]],
    )  # fmt: skip


def _told(of: Entry) -> dict[str, Any]:
    coded = of.recipe.coded
    return {
        "problem": of.problem, "contestant": of.contestant, "values": of.values, "error": of.error,
        "measure": dataclasses.asdict(of.measure), "target": of.target._asdict(),
        "recipe": None if coded else of.recipe.to_toml(), "described": of.recipe.describe() if coded else "",
    }  # fmt: skip


def _outcome(line: Mapping[str, Any]) -> Outcome:
    return Outcome.from_dict({key: value for key, value in line.items() if key != "kind"})


def _entry(table: Mapping[str, Any], runs: Mapping[Any, Outcome], facts: Mapping[str, Any]) -> Entry:
    problem, contestant = str(table["problem"]), str(table["contestant"])
    own = [one for one in runs.values() if (one.problem, one.contestant) == (problem, contestant)]
    raced = [one for one in own if one.phase == "race"]
    rounds = cast("Mapping[str, list[float]]", facts.get(f"rounds/{problem}") or {})
    measure: dict[str, Any] = dict(table["measure"])
    low, high = measure["bounds"]
    measure["bounds"] = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    target: dict[str, Any] = dict(table["target"])
    target["level"] = math.nan if target["level"] is None else float(target["level"])
    return Entry(
        problem=problem, contestant=contestant, values=table["values"], error=table["error"],
        measure=Measure(**measure),
        target=Target(**target),
        recipe=Recipe() if table["recipe"] is None else Recipe.from_toml(table["recipe"]),
        described=table["described"], raced=sorted(raced, key=lambda one: one.number),
        tuning=[one for one in own if one.phase == "tune"],
        step_seconds=paces_of(rounds).get(contestant, math.nan), rounds=rounds.get(contestant, ()),
    )  # fmt: skip
