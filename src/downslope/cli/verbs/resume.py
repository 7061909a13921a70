"""``downslope resume [FOLDER]``: go on with a run, a search or a race that was interrupted."""

from __future__ import annotations

import json as reader
import os
from pathlib import Path
from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, INTERRUPTED, guarded
from downslope.cli.voice import Voice
from downslope.core.errors import InputError, RunFolderError


def resume(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            show_default=False,
            help="Folder of a run, a search or a race; left out, the newest in runs/ that was interrupted.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Another Ray cluster than the search or race had; none for none."
        ),
    ] = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Go on with an interrupted run where its checkpoint left it, a search or race as it was asked for."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable

        with voice.alone():
            check_writable(report)
        found = folder or newest()
        if folder is None:
            voice.note(f"resume: {found}")
        if (found / "race.jsonl").is_file():
            from downslope.cli.verbs.race import again

            return again(found, voice, ray, report)
        if (found / "search.toml").is_file():
            return _search(voice, found, ray, report)
        if ray is not None:
            raise InputError(f"--ray {ray}: {found} is one run, which goes on here; leave --ray out")
        return _run(voice, found, report)

    return guarded(act, debug=debug)


def newest() -> Path:
    """The folder in ``runs/`` (``$DOWNSLOPE_RUNS``) of the newest run, search or race that was cut.

    Raises:
        RunFolderError: there is none.
    """
    root = Path(os.environ.get("DOWNSLOPE_RUNS", "runs"))
    kinds = ("run.json", "search.toml", "race.jsonl")
    heads = [each for kind in kinds for each in root.glob(f"*/{kind}")]
    for head in sorted(heads, key=lambda each: each.stat().st_mtime, reverse=True):
        if _unfinished(head):
            return head.parent
    raise RunFolderError(f"{root}: nothing there was interrupted; give the folder, downslope resume FOLDER")


def _unfinished(head: Path) -> bool:
    try:
        if head.name == "run.json":
            return reader.loads(head.read_text(encoding="utf-8")).get("status") in ("interrupted", "running")
        if head.name == "race.jsonl":
            return not head.with_name("race.json").exists()
        result = head.with_name("result.json")
        return not result.exists() or bool(
            reader.loads(result.read_text(encoding="utf-8")).get("interrupted")
        )
    except (OSError, ValueError, AttributeError):
        return False


def _search(voice: Voice, folder: Path, ray: str | None, report: Path | None) -> int:
    from downslope.cli.outcome import save_report
    from downslope.cli.verbs.tune import recalled, told, watching
    from downslope.tuning.kept import read_command
    from downslope.tuning.tune import resume as go_on

    given, output, former = recalled(read_command(folder))
    report = report or former
    with voice.alone(), watching(voice) as watch:
        found = go_on(folder, ray=ray, progress=False, watch=watch)
    return told(voice, found, given, output, lambda: save_report(report, found) if report else None)


def _run(voice: Voice, folder: Path, report: Path | None) -> int:
    from downslope.cli.kept import check_kept
    from downslope.cli.outcome import run_document, save_report
    from downslope.reporting import console
    from downslope.training.fit import resume as go_on

    check_kept(folder, "resume")
    run = go_on(folder, progress=voice.progress)
    voice.show([*console.header(run), *console.of_run(run), *console.next_of_run(run, None)])
    written = save_report(report, run) if report else None
    voice.document({"verb": "resume"} | run_document(run, written))
    if "unwritten" in run.facts:
        raise RunFolderError(f"not kept: {run.facts['unwritten']}")
    return INTERRUPTED if run.status == "interrupted" else DONE
