"""``downslope repair TASK``: diagnose, try the remedies on paired seeds, keep what wins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import guarded
from downslope.cli.voice import Voice


def repair(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    weights: ask.WeightsFile = None,
    seed: ask.Seed = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Paired seeds of each trial.")] = 3,
    budget: ask.Budget = "2m",
    folder: ask.Folder = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Recipe and edits that were kept.")
    ] = Path("fixed.toml"),
    report: ask.ReportPath = Path("report.html"),
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Diagnose a task, prove the remedies beside their control, and write what wins to fixed.toml.

    Exit status 1 says that the task as given is sick, whether or not a remedy was proved.
    """
    given = Given(
        task=task, target=target, recipe=recipe, settings=ask.with_weights(settings, weights), seed=seed
    )
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import (
            attempted,
            changes_path,
            check_writable,
            repair_document,
            save_changes,
            save_fixed,
            save_report,
            status_of,
        )
        from downslope.diagnosis.repair import repair as mend
        from downslope.reporting import console
        from downslope.training.stopping import interruptions

        with voice.alone():
            problem, how = given.load(voice)
        earlier = given.edits()
        check_writable(report, output, changes_path(output))
        voice.begin()
        before = interruptions()
        with voice.alone():
            found = mend(problem, how, seeds=seeds, budget=budget, progress=voice.progress, folder=folder)
        fixed, unsaved = attempted(lambda: save_fixed(found, output, voice, earlier))
        changes, unchanged = attempted(lambda: save_changes(found, output))
        written, unwritten = attempted(lambda: save_report(report, found) if report else None)
        voice.show(
            [
                *console.whole_repair(found),
                *console.next_of_repair(found, given.beside(found.edits), fixed, written, changes),
            ]
        )
        voice.document({"verb": "repair"} | repair_document(found, fixed, written, changes))
        if failure := unsaved or unchanged or unwritten:
            raise failure
        return status_of(found.diagnosis, interrupted=found.interrupted or interruptions() > before)

    return guarded(act, debug=debug)
