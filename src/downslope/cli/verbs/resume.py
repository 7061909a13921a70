"""``downslope resume FOLDER``: go on with a run that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, INTERRUPTED, guarded
from downslope.cli.voice import Voice


def resume(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Folder of a run.")],
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Go on with an interrupted run where its last checkpoint left it."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.kept import check_kept
        from downslope.cli.outcome import run_document
        from downslope.core.errors import RunFolderError
        from downslope.reporting import console
        from downslope.training.fit import resume as go_on

        check_kept(folder, "resume")
        run = go_on(folder, progress=voice.progress)
        voice.show([*console.header(run), *console.of_run(run), *console.next_of_run(run, None)])
        voice.document({"verb": "resume"} | run_document(run))
        if "unwritten" in run.facts:
            raise RunFolderError(f"not kept: {run.facts['unwritten']}")
        return INTERRUPTED if run.status == "interrupted" else DONE

    return guarded(act, debug=debug)
