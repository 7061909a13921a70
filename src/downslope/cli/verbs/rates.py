"""``downslope range TASK``: which learning rates work, by short runs at fixed rates from several seeds."""

from __future__ import annotations

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, SICK, guarded
from downslope.cli.voice import Voice


def rates(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    seed: ask.Seed = None,
    steps: ask.RangeSteps = 60,
    seeds: ask.RangeSeeds = 3,
    budget: ask.Time = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Find the range of learning rates that work, or say why there is none (exit 1)."""
    given = Given(task=task, target=target, recipe=recipe, settings=settings or (), seed=seed)
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable, save_report
        from downslope.reporting.rows import Row
        from downslope.training.lr_range import lr_range

        check_writable(report)
        seconds = ask.seconds(budget)
        with voice.alone():
            problem, how = given.load(voice)
            voice.begin()
            found = lr_range(problem, how, steps=steps, seeds=seeds, seconds=seconds, progress=voice.progress)
        written = save_report(report, found) if report else None
        rows = [Row(line, whole=True) for line in found.lines()]
        if found.suggested is not None:
            rows.append(
                Row(f"downslope fit {given.said} --set lr={found.suggested:g}", label="next", whole=True)
            )
        voice.show(rows)
        voice.document({"verb": "range"} | found.to_dict() | {"report": written})
        return SICK if found.refused else DONE

    return guarded(act, debug=debug)
