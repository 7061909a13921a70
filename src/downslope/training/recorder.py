"""Writes a Run to its folder while it happens: a head, a recipe, an environment, and lines that only grow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, KeysView, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from downslope.core import starts
from downslope.core.errors import RunFolderError
from downslope.core.history import encode, replay, retold
from downslope.core.lock import hold
from downslope.core.plain import plain, to_toml
from downslope.core.recipe import Recipe
from downslope.core.run import FORMAT, Run, read_lines

_log = logging.getLogger("downslope")

FLUSH_SECONDS = 1.0
"""How much of the history a killed process may lose."""


def new_folder(name: str, root: Path | None = None) -> Path:
    """A folder for a new run: ``runs/20260131-142500-name``, below ``$DOWNSLOPE_RUNS`` if that is set."""
    base = root or Path(os.environ.get("DOWNSLOPE_RUNS", "runs"))
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "run"
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-{word}-{secrets.token_hex(2)}"


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write the environment of several runs once, above their folders; what stands there stays.

    Args:
        folder: In which the runs have theirs.
        environment: Of all of them.
    """
    place = folder / "environment.json"
    with contextlib.suppress(OSError):  # the runs themselves say what is wrong with the folder
        if not place.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write(place, environment)


class Recorder:
    """Keeps a Run's history, and its folder where it has one.

    Args:
        run: The run; with ``folder=None`` nothing is written.

    Raises:
        RunFolderError: the folder cannot be made.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder
        self._file: TextIO | None = None
        self._steps: list[int] = []
        self._names: KeysView[str] = {}.keys()
        self._columns: dict[str, list[float]] = {}
        self._lazy: dict[str, list[Tensor]] = {}
        self._flushed = time.monotonic()
        self._broken = False
        self._made = False
        if self.folder is not None:
            self._open(self.folder)

    def _open(self, folder: Path) -> None:
        self._made = not folder.exists()
        if (folder / "recipe.toml").exists() and not (folder / "run.json").exists():
            raise RunFolderError(f"{folder} holds a recipe.toml and is no run: give another folder")
        try:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            lines = folder / "history.jsonl"
            if lines.exists():
                _cut_broken_end(lines)
            self._append(lines)
            if self.run.recipe is not None:
                _write_text(folder / "recipe.toml", _recipe_text(self.run.recipe))
            self._surroundings(folder)
            self.head()
        except OSError as error:
            raise RunFolderError(
                f"{folder} cannot be written: {error.strerror}; give another folder"
            ) from error

    def _surroundings(self, folder: Path) -> None:
        """Write the environment, unless a population has written the same for all its members."""
        text = _text(self.run.environment)
        try:
            above = (folder.parent / "environment.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            above = ""
        if above != text:
            _write_text(folder / "environment.json", text)

    def _append(self, lines: Path) -> None:
        self._file = lines.open("a", encoding="utf-8")
        hold(self._file)

    def head(self) -> None:
        """Write what the run is and how it stands."""
        if self.folder is not None:
            run = self.run
            content = {
                "format": FORMAT, "kind": "fit", "status": run.status, "summary": run.summary,
                "choices": run.choices, "problem": run.described,
            }  # fmt: skip
            place = self.folder / "run.json"
            self.guarded(lambda: _write(place, content))

    def step(self, step: int, **values: Tensor | float) -> None:
        """Record one row of columns; tensors are read off the device only when the rows are flushed."""
        if self._steps and values.keys() != self._names:
            self.flush()
        self._names = values.keys()
        self._steps.append(step)
        for name, value in values.items():
            if isinstance(value, Tensor):
                self._lazy.setdefault(name, []).append(value)
            else:
                self._columns.setdefault(name, []).append(value)

    def rows(self, steps: Sequence[int], columns: Mapping[str, Sequence[float]]) -> None:
        """Record the rows of many steps at once: one value for each of `steps` in every column."""
        if self._steps:
            self.flush()
        for name, values in columns.items():
            self.run.history.extend(name, steps, values)
        if self._file is not None and steps:
            self._line(encode("columns", steps=list(steps), values={k: list(v) for k, v in columns.items()}))

    def now(self, step: int, **values: float) -> None:
        """Record values that belong to one step, at once."""
        self.flush()
        self.run.history.log(step, **values)
        if self._file is not None:
            self._line(encode("columns", steps=[step], values={k: [float(v)] for k, v in values.items()}))

    def probe(self, step: int, statistics: Mapping[str, Mapping[str, float]]) -> None:
        """Record statistics by module."""
        for statistic, values in statistics.items():
            self.run.probes.log(step, statistic, values)
            self._line(encode("probe", step=step, statistic=statistic, values=values))

    def fact(self, name: str, value: Any) -> None:
        """Record a measurement that is made once."""
        self.run.facts[name] = value
        if self._file is not None:
            self._line(encode("fact", name=name, value=plain(value)))

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: a resumed run records it again."""
        if self.folder is not None:
            replay(
                read_lines(self.folder / "history.jsonl"), self.run.history, self.run.probes, self.run.facts
            )
        self.run.history.truncate(step)
        self.run.probes.truncate(step)
        self._line(encode("rewind", step=step))

    def flush(self, *, force: bool = True) -> None:
        """Move buffered rows to the history and the file; without `force` only once a second."""
        now = time.monotonic()
        if not force and now - self._flushed < FLUSH_SECONDS:
            return
        self._flushed = now
        if self._steps:
            columns = dict(self._columns)
            for name, tensors in self._lazy.items():
                columns[name] = torch.stack(tensors).double().tolist()
            for name, values in columns.items():
                self.run.history.extend(name, self._steps, values)
            self._line(encode("columns", steps=self._steps, values=columns))
            self._steps, self._columns, self._lazy = [], {}, {}
        if self._file is not None:
            self.guarded(self._file.flush)

    def close(self) -> None:
        """Flush everything and write the head for the last time."""
        self.flush()
        self.head()
        self._close()

    def discard(self) -> None:
        """Take back what was written for a run that turned out not to be one."""
        if self.folder is None:
            return
        self._close()
        with contextlib.suppress(OSError):
            for name in ("run.json", "recipe.toml", "environment.json", "history.jsonl"):
                (self.folder / name).unlink(missing_ok=True)
            (self.folder / "checkpoints").rmdir()
            if self._made:
                self.folder.rmdir()

    def _line(self, content: Mapping[str, Any]) -> None:
        if self._file is not None:
            file, text = self._file, json.dumps(content, separators=(",", ":"))
            self.guarded(lambda: file.write(text + "\n"))

    def guarded(self, write: Callable[[], object], *, again: bool = False) -> None:
        """Do a write. After a failure (a full disk) the run goes on in memory and nothing more is written, so
        that what is in the folder stays one consistent state; it is told at once.

        Args:
            write: What writes.
            again: Whether to try it after a failure too, once the whole history is written anew from memory.
        """
        if self._broken and not again:
            return
        try:
            if self._broken:
                self._rewrite()
            write()
        except (OSError, RunFolderError) as error:
            self._close()
            if not self._broken:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                self.run.facts["unwritten"] = said = f"{self.folder}: {reason}"
                _log.warning("%s; the run goes on in memory, and is written once there is room", said)
            self._broken = True
            return
        if self._broken:
            self._broken = False
            del self.run.facts["unwritten"]
            _log.warning("%s: can be written again, nothing is missing", self.folder)

    def _rewrite(self) -> None:
        if self.folder is None:
            return
        facts = {name: plain(value) for name, value in self.run.facts.items() if name != "unwritten"}
        rows = retold(self.run.history, self.run.probes, facts)
        lines = self.folder / "history.jsonl"
        _write_text(lines, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
        self._append(lines)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, _text(content))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(plain(content), indent=1) + "\n"


def _write_text(path: Path, text: str) -> None:
    """Replace a file only when the new one is whole: a kill leaves the former."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _cut_broken_end(path: Path) -> None:
    """Drop a last line that a kill cut off, so that what is appended starts on a line of its own."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        with path.open("r+b") as opened:
            opened.truncate(end)


def _recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML; of an optimizer or init that is code the name, by which a re-fit is refused."""
    if not recipe.coded:
        return recipe.to_toml()
    fields = recipe.plain_fields()
    for key in recipe.coded:
        code = fields.pop(key)
        name = starts.said(code) if key == "init" else getattr(code, "__name__", type(code).__name__)
        fields[f"{key}_code"] = name
    return to_toml(fields if recipe.opaque else fields | recipe.settings)
