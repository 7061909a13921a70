"""``downslope fit TASK``: train, and say how it went."""

from __future__ import annotations

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, INTERRUPTED, guarded
from downslope.cli.voice import Voice


def fit(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    weights: ask.WeightsFile = None,
    seed: ask.Seed = None,
    folder: ask.Folder = None,
    terrain: ask.TerrainShare = 0.0,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Train a task by its recipe and keep the run."""
    given = Given(
        task=task, target=target, recipe=recipe, settings=ask.with_weights(settings, weights), seed=seed
    )
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable, run_document, save_report
        from downslope.core.errors import RunFolderError
        from downslope.reporting import console
        from downslope.training.fit import fit as train

        with voice.alone():
            problem, how = given.load(voice)
            check_writable(report)
            run = train(
                problem, how, folder=folder, progress=voice.progress, on_probe=voice.begin, terrain=terrain
            )
        written = save_report(report, run) if report else None
        voice.show(
            [*console.header(run), *console.of_run(run), *console.next_of_run(run, given.said, written)]
        )
        voice.document({"verb": "fit"} | run_document(run, written))
        if "unwritten" in run.facts:
            raise RunFolderError(f"not kept: {run.facts['unwritten']}")
        return INTERRUPTED if run.status == "interrupted" else DONE

    return guarded(act, debug=debug)
