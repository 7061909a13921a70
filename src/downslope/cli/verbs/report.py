"""``downslope report FOLDER``: the HTML report of a run, a search or a race that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="Folder of a run, a search, a race.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", "--report", metavar="PATH", help="Default: report.html in FOLDER."),
    ] = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Draw a kept run with its diagnosis, a search or a race, as one HTML file that opens anywhere."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import save_report
        from downslope.reporting.console import shown
        from downslope.reporting.rows import Row

        written = save_report(output or folder / "report.html", *_kept(folder))
        voice.show([Row(shown(written), label="report")])
        voice.document({"verb": "report", "report": written})
        return DONE

    return guarded(act, debug=debug)


def _kept(folder: Path) -> list[Any]:
    """What is kept in `folder`: a race, a search, or a run with its diagnosis."""
    if (folder / "race.jsonl").is_file():
        from downslope.racing.kept import load_race

        return [load_race(folder)]
    if (folder / "search.toml").is_file():
        from downslope.tuning.tune import load_search

        return [load_search(folder)]
    from downslope.cli.kept import check_kept
    from downslope.core.run import load_run
    from downslope.diagnosis.judge import judge

    check_kept(folder, "report")
    run = load_run(folder)
    return [run] if "cut_short" in run.facts else [run, judge(run)]  # half a history is no run to judge
