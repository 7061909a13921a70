"""``downslope learning-curve TASK``: train on parts of the data, and say whether more would help."""

from __future__ import annotations

from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, INTERRUPTED, guarded
from downslope.cli.voice import Voice

Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Draws of every part, and starts of the weights.")]
Fractions = Annotated[
    str, typer.Option("--fractions", metavar="SHARES", help="Shares of the training data, with commas.")
]


def learning_curve(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    fractions: Fractions = "0.125,0.25,0.5,1",
    seeds: Seeds = 3,
    folder: ask.Folder = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Train a task on parts of its data; tell the errors, their power law, and where they come from."""
    given = Given(task=task, target=target, recipe=recipe, settings=settings or ())
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable, save_report
        from downslope.reporting import learning
        from downslope.training.bias_variance import bias_variance
        from downslope.training.learning_curve import learning_curve as measure

        shares = ask.numbers("--fractions", fractions)
        with voice.alone():
            problem, how = given.load(voice)
            check_writable(report)
            voice.begin()
            curve = measure(
                problem, how, fractions=shares, seeds=seeds, folder=folder or False, progress=voice.progress
            )
            table = bias_variance(curve.runs[-1])
        written = save_report(report, curve, table) if report else None
        voice.show(learning.rows(curve, table, given.said, written))
        document = {"verb": "learning-curve", **curve.to_dict(), "bias_variance": table.to_dict()}
        voice.document(document | {"report": written})
        return INTERRUPTED if curve.runs[-1].status == "interrupted" else DONE

    return guarded(act, debug=debug)
