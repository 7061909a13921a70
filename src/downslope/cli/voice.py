"""What the command line says, and where: results on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from downslope.reporting.rows import Row


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How one verb speaks.

    Attributes:
        json: Standard output carries one JSON document and nothing else.
        quiet: No progress and no remarks.
        aside: Results go to standard error, because standard output belongs to a watched script.
    """

    json: bool = False
    quiet: bool = False
    aside: bool = False
    _held: list[str] = field(default_factory=list[str])

    @contextmanager
    def alone(self) -> Generator[None]:
        """While a task's own code runs: what it prints goes to standard error under ``--json``."""
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            yield

    @property
    def progress(self) -> bool:
        """Whether progress is wanted; it goes to standard error."""
        return not self.quiet

    def note(self, text: str) -> None:
        """A remark, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def hold(self, text: str) -> None:
        """A remark for when the work begins; unusable input is told in one line, without it."""
        self._held.append(text)

    def begin(self, *_: object) -> None:
        """The work begins: what was held is said, once."""
        for text in self._held:
            self.note(text)
        self._held.clear()

    def show(self, rows: Sequence[Row]) -> None:
        """Rows of a result, where results go; nothing under ``--json``."""
        if not self.json:
            from downslope.reporting.rows import write

            write(rows, sys.stderr if self.aside else sys.stdout)

    def document(self, content: Mapping[str, Any]) -> None:
        """The JSON document, on standard output, under ``--json``; what is not finite becomes null."""
        if self.json:
            from downslope.core.plain import plain

            print(json.dumps(plain(content), ensure_ascii=False, allow_nan=False), flush=True)
