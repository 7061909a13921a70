"""``downslope escape WHERE``: who leaves a saddle or a local minimum, with which probability and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, INTERRUPTED, guarded
from downslope.cli.voice import Voice
from downslope.core.errors import InputError, UnknownNameError

Where = Annotated[
    str,
    typer.Argument(
        metavar="WHERE",
        show_default=False,
        help="A function (saddle, double_well, x_cos_pi_x, himmelblau), a network (deep_linear, "
        "symmetric_mlp), the folder of a run, or a task.",
    ),
]
Point = Annotated[
    str | None,
    typer.Option("--point", metavar="POINT", help="Of a function: saddle, minimum, or coordinates 0,0."),
]
Optimizers = Annotated[
    str, typer.Option("--optimizers", metavar="A,B", help="Methods to compare.", show_default=False)
]
Rates = Annotated[str, typer.Option("--lr", metavar="LR,LR", help="Learning rates, each of them tried.")]
Sizes = Annotated[str, typer.Option("--batch-size", metavar="B,B", help="Batch sizes, or full.")]
Noise = Annotated[float | None, typer.Option("--noise", help="Of a function: spread of one example's slope.")]
Steps = Annotated[
    int, typer.Option("--steps", metavar="N", help="After which one counts as not having left.")
]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", help="Starts and orders of the examples.")]
Spread = Annotated[float, typer.Option("--spread", help="Of the starts around the point; 0 for none.")]
Animate = Annotated[
    Path | None,
    typer.Option("--animate", metavar="FILE", help="Animate it: x.html to play, x.gif for slides."),
]


def escape(
    where: Where,
    point: Point = None,
    optimizers: Optimizers = "gd,sgd,momentum,nesterov,rmsprop,adam",
    lr: Rates = "0.05",
    batch_size: Sizes = "1",
    noise: Noise = None,
    steps: Steps = 1000,
    seeds: Seeds = 100,
    spread: Spread = 1e-3,
    budget: ask.Time = None,
    animate: Animate = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Start around a saddle or a minimum from many seeds, and see which methods leave it, and when."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable, save_report
        from downslope.reporting.animation import check_ending
        from downslope.reporting.rows import Row
        from downslope.terrain.escapes.escape import escape as leave

        check_writable(report)
        if animate is not None:
            check_ending(animate)
            check_writable(animate)
        options: dict[str, Any] = {
            "lr": ask.numbers("--lr", lr), "batch_size": _sizes(batch_size), "noise": noise, "steps": steps,
            "seeds": seeds, "spread": spread, "keep": 30 if report or animate else 0,
            "seconds": ask.seconds(budget),
        }  # fmt: skip
        with voice.alone():
            found = leave(
                _where(where, options, voice), ask.listed(optimizers),
                point=None if point is None else _point(point),
                progress=(lambda done, of: voice.note(f"{done} of {of} methods")) if voice.progress else None,
                **options,
            )  # fmt: skip
        written = save_report(report, found) if report else None
        if animate is not None:
            found.animate().save(animate)
        voice.show([Row(line, whole=True) for line in str(found).splitlines()])
        voice.document({"verb": "escape"} | found.to_dict() | {"report": written})
        return INTERRUPTED if found.interrupted else DONE

    return guarded(act, debug=debug)


def _where(where: str, options: dict[str, Any], voice: Voice) -> Any:
    """A name as it is; a run's problem at its last model, a task's at its start."""
    from downslope.terrain.escapes.sites.given import known

    try:
        known(where)
    except UnknownNameError as unknown:
        if not Path(where.partition("::")[0]).exists() and ":" not in where:
            raise unknown from None
        given = Given(task=where)
        if given.is_run:
            from downslope.core.run import load_run

            run = load_run(Path(where))
            options["model"] = run.model("last")
            return run.the_problem()
        problem, _ = given.load(voice)
        return problem
    return where


def _sizes(given: str) -> list[Any]:
    words = ask.listed(given)
    if not words or not all(each == "full" or each.isdecimal() for each in words):
        raise InputError(
            f"--batch-size {given}: must be a number of examples or full, or several with commas"
        )
    return ["full" if each == "full" else int(each) for each in words]


def _point(given: str) -> Any:
    return given if given in ("saddle", "minimum") else ask.numbers("--point", given)
