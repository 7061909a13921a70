"""What a race has measured so far, line by line in its folder, so that it can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from downslope.core.errors import RunFolderError
from downslope.core.plain import plain
from downslope.core.run import read_lines
from downslope.racing.outcome import Outcome

FILE = "race.jsonl"
FORMAT = 1


def target_in(folder: Path) -> Any:
    """The target of the race that is kept in `folder`; None where there is no race, or none was given.

    Raises:
        RunFolderError: a broken file.
    """
    lines = read_lines(folder / FILE)
    return lines[0].get("protocol", {}).get("target") if lines else None


def command_in(folder: Path) -> list[str] | None:
    """The words of the command that began the race in `folder`; None where it was begun otherwise.

    Raises:
        RunFolderError: a broken file.
    """
    said = [line["value"] for line in read_lines(folder / FILE) if line.get("name") == "command"]
    return said[-1] if said else None


class Ledger:
    """Outcomes by their key, in memory and, with a folder, in ``race.jsonl``.

    Every line is written when its run has ended. A race of the same protocol goes on with what is there.

    Args:
        folder: Made if it is not there; None keeps nothing.
        protocol: What the race is, in plain values.

    Raises:
        RunFolderError: a race of another protocol is in there, or the folder cannot be written.
    """

    def __init__(self, folder: Path | None, protocol: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / FILE
        self.outcomes: dict[tuple[str, str, str, int, int], Outcome] = {}
        self.facts: dict[str, Any] = {}
        self.found = 0
        if self.path is None:
            return
        head = {"kind": "race", "format": FORMAT, "protocol": plain(protocol)}
        if self.path.exists():
            self._read(head["protocol"])
            self._mend()
        else:
            self._write(head)

    def get(self, problem: str, contestant: str, phase: str, lap: int, number: int) -> Outcome | None:
        """What is known of one run."""
        return self.outcomes.get((problem, contestant, phase, lap, number))

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.outcomes[outcome.key] = outcome
        self._write({"kind": "outcome", **outcome.to_dict()})

    def fact(self, name: str, value: Any) -> None:
        """Keep a measurement, such as the seconds of a step."""
        if name in self.facts and self.facts[name] == plain(value):
            return
        self.facts[name] = plain(value)
        self._write({"kind": "fact", "name": name, "value": self.facts[name]})

    def _read(self, protocol: Any) -> None:
        lines = read_lines(self.path) if self.path else []
        if not lines or lines[0].get("kind") != "race" or lines[0].get("format") != FORMAT:
            raise RunFolderError(f"{self.path} is no race that this version can go on with")
        there: Mapping[str, Any] = lines[0]["protocol"]
        if (differs := _differs(there, protocol)) is not None:
            raise RunFolderError(f"{self.path} is another race: {differs}; give another folder")
        for line in lines[1:]:
            if line["kind"] == "outcome":
                outcome = Outcome.from_dict({key: value for key, value in line.items() if key != "kind"})
                self.outcomes[outcome.key] = outcome
            else:
                self.facts[line["name"]] = line["value"]
        self.found = len(self.outcomes)

    def _mend(self) -> None:
        """Cut a last line that a kill left unfinished: the next one must not join it."""
        if self.path is None:
            return
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n"):
            self.path.write_bytes(text[: text.rfind(b"\n") + 1])

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _differs(there: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> str | None:
    """The first key whose values differ, as deep as tables go, with what it was and is; None without one."""
    for key in sorted({*there, *now}):
        was, given = there.get(key), now.get(key)
        if isinstance(was, Mapping) and isinstance(given, Mapping):
            inside = _differs(
                cast("Mapping[str, Any]", was), cast("Mapping[str, Any]", given), f"{where}{key} "
            )
            if inside is not None:
                return inside
        elif was != given:
            return f"{where}{key} was {_short(was)}, now {_short(given)}"
    return None


def _short(value: Any) -> str:
    """A value in a few words."""
    words = " ".join(str(value).split())
    return words if len(words) <= 60 else f"{words[:57]}..."
