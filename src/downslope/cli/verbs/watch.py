"""``downslope watch train.py [args]``: anybody's training script, unedited, with a diagnosis at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.guard import complain, guarded
from downslope.cli.voice import Voice


def watch(
    script: Annotated[
        Path, typer.Argument(metavar="SCRIPT", show_default=False, help="A training script, as it is.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", show_default=False, help="Handed to the script, all of them."),
    ] = None,
    report: ask.ReportPath = None,
    json: Annotated[
        bool, typer.Option("--json", help="The diagnosis as JSON, the last line of standard output.")
    ] = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Run a training script as it is, watch it from outside, and diagnose it at its end.

    Options of downslope stand before SCRIPT; what follows it goes to the script. Standard output stays the
    script's own: the diagnosis goes to standard error, with --json to the last line of standard output.
    The exit status is the script's own where that is not 0; else 1 after a warning or worse, 2 where nothing
    was trained, 0 otherwise.
    """
    voice = Voice(json=json, quiet=quiet, aside=True)

    def act() -> int:
        from downslope.cli.outcome import check_writable, diagnosis_document, save_report
        from downslope.diagnosis.script import exit_status, watch_script
        from downslope.reporting import console

        check_writable(report)
        found, ended = watch_script(script, arguments or [])
        if found is None:
            voice.document({"verb": "watch", "script_exit": ended, "findings": None})
            complain(f"{script}: no step of a torch optimizer was seen, so there is nothing to diagnose")
            return exit_status(found, ended)
        written = save_report(report, found.run, found) if report else None
        voice.show(
            [
                *console.header(found.run),
                *console.of_run(found.run),
                *console.of_diagnosis(found),
                *console.opened(written),
            ]
        )
        voice.document({"verb": "watch", "script_exit": ended} | diagnosis_document(found, written))
        return exit_status(found, ended)

    return guarded(act, debug=debug)
