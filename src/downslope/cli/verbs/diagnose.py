"""``downslope diagnose TASK``: train within a budget, and say why training does not work."""

from __future__ import annotations

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import guarded
from downslope.cli.voice import Voice


def diagnose(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    seed: ask.Seed = None,
    budget: ask.Budget = "2m",
    folder: ask.Folder = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Train a task and say what is wrong, root cause first (exit 1), or that it is healthy (exit 0)."""
    given = Given(task=task, target=target, recipe=recipe, settings=settings or (), seed=seed)
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable, diagnosis_document, save_report, status_of
        from downslope.diagnosis.diagnose import diagnose as examine
        from downslope.reporting import console
        from downslope.training.stopping import interruptions

        problem, how = given.load(voice)
        check_writable(report)
        voice.begin()
        before = interruptions()
        found = examine(problem, how, budget=budget, progress=voice.progress, folder=folder)
        written = save_report(report, found.run, found) if report else None
        voice.show(
            [
                *console.header(found.run),
                *console.of_run(found.run),
                *console.of_diagnosis(found),
                *console.next_of_diagnosis(found, given.said, written),
            ]
        )
        voice.document({"verb": "diagnose"} | diagnosis_document(found, written))
        return status_of(found, interrupted=interruptions() > before)

    return guarded(act, debug=debug)
