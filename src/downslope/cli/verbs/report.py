"""``downslope report FOLDER``: the HTML report of a run that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Folder of a run.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", "--report", metavar="PATH", help="Default: report.html in FOLDER."),
    ] = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Draw a kept run, with its diagnosis, as one HTML file that opens anywhere."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.kept import check_kept
        from downslope.cli.outcome import save_report
        from downslope.core.run import load_run
        from downslope.diagnosis.judge import judge
        from downslope.reporting.console import shown
        from downslope.reporting.rows import Row

        check_kept(folder, "report")
        run = load_run(folder)
        found = [] if "cut_short" in run.facts else [judge(run)]  # half a history is no run to judge
        written = save_report(output or folder / "report.html", run, *found)
        voice.show([Row(shown(written), label="report")])
        voice.document({"verb": "report", "report": written})
        return DONE

    return guarded(act, debug=debug)
