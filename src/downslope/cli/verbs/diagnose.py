"""``downslope diagnose TASK``: train within a budget, and say why training does not work."""

from __future__ import annotations

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import guarded
from downslope.cli.voice import Voice


def diagnose(
    task: ask.TaskOrRun,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    weights: ask.WeightsFile = None,
    seed: ask.Seed = None,
    budget: ask.Budget = "2m",
    folder: ask.Folder = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Train a task, or look at a run, and say what is wrong, root cause first (exit 1; healthy: exit 0)."""
    given = Given(
        task=task, target=target, recipe=recipe, settings=ask.with_weights(settings, weights), seed=seed
    )
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import (
            attempted,
            check_writable,
            diagnosis_document,
            save_report,
            status_of,
        )
        from downslope.core.run import load_run
        from downslope.diagnosis.diagnose import diagnose as examine
        from downslope.reporting import console
        from downslope.training.stopping import interruptions

        check_writable(report)
        before = interruptions()
        if given.is_run:
            given.refuse_with_run(folder)
            found = examine(load_run(task))
        else:
            with voice.alone():
                problem, how = given.load(voice)
                voice.begin()
                found = examine(problem, how, budget=budget, progress=voice.progress, folder=folder)
        written, failure = attempted(lambda: save_report(report, found.run, found) if report else None)
        voice.show(
            [
                *console.header(found.run),
                *console.of_run(found.run),
                *console.of_diagnosis(found),
                *console.next_of_diagnosis(found, None if given.is_run else given.said, written),
            ]
        )
        voice.document({"verb": "diagnose"} | diagnosis_document(found, written))
        if failure is not None:
            raise failure
        broken = bool(found.interrupted) and not given.is_run  # of a kept run that was an earlier diagnosis
        return status_of(found, interrupted=broken or interruptions() > before)

    return guarded(act, debug=debug)
