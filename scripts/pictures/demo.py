"""Picture of the README: what `downslope demo` really prints, on a terminal of 100 columns."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from scripts.pictures.style import FOLDER

_WIDTH = 102


def demo() -> Path:
    """Run the demo, as a user would, and keep its standard output as ``docs/pictures/demo.svg``."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO())
    console.print(Text("$ make demo", style="bold"))
    console.print(Text.from_ansi(_printed()), soft_wrap=True)
    path = FOLDER / "demo.svg"
    drawn = console.export_svg(title="downslope demo", theme=MONOKAI, unique_id="demo")
    # The fonts that rich names come from the network; a picture in a page may load none.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", "Menlo, Consolas, DejaVu Sans Mono, monospace")
    path.write_text(drawn, encoding="utf-8")
    return path


def _printed() -> str:
    """Standard output of the demo, with its colours; progress is on standard error and left out."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "downslope", "demo"]
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen(
            command, stdout=theirs, stderr=subprocess.DEVNULL, cwd=place, env=environment
        )
        os.close(theirs)
        chunks: list[bytes] = []
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end was closed: the demo is over
                break
            if not chunk:
                break
            chunks.append(chunk)
        process.wait()
    os.close(ours)
    return b"".join(chunks).decode().replace("\r\n", "\n").rstrip()
