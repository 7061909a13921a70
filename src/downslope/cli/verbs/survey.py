"""``downslope survey TASK``: what kind of ground a model stands on, and how steep it is in each direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, INTERRUPTED, complain, guarded
from downslope.cli.verbs import functions as ways
from downslope.cli.voice import Voice
from downslope.core import names
from downslope.core.errors import InputError

if TYPE_CHECKING:
    from downslope.core.problem import Problem

At = Literal["last", "best", "start"]

Task = Annotated[
    str | None,
    typer.Argument(
        metavar="TASK",
        show_default=False,
        help="The folder of a run, of which the last model is surveyed; or a task (file.py, "
        "package.module:problem, a data file, a bundled set), of which the start is.",
    ),
]
Where = Annotated[
    str, typer.Option("--at", metavar="WHERE", help="Of a run: its last or best model, or its start.")
]
Examples = Annotated[
    str, typer.Option("--examples", metavar="N", help="Training examples that count, or all.")
]
Count = Annotated[int, typer.Option("--eigenvalues", metavar="K", help="How many of the largest.")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="float32 or float64; the model's own if left out.")
]
Density = Annotated[
    bool, typer.Option("--density", help="Estimate how all eigenvalues are distributed; about 800 products.")
]
Function = Annotated[
    str | None,
    typer.Option("--function", metavar="NAME", help="A test function in place of a task: rosenbrock, beale."),
]
Optimizers = Annotated[
    str | None,
    typer.Option("--optimizers", metavar="A,B", help="Whose paths to draw over the function: gd,adam."),
]


def survey(
    task: Task = None,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    weights: ask.WeightsFile = None,
    seed: ask.Seed = None,
    at: Where = "last",
    examples: Examples = "1024",
    eigenvalues: Count = 3,
    dtype: Dtype = None,
    budget: ask.Time = None,
    density: Density = False,
    function: Function = None,
    optimizers: Optimizers = None,
    steps: ways.Steps = None,
    lr: ways.Rates = None,
    start: ways.Start = None,
    points: ways.SliceOf = None,
    directions: ways.Directions = None,
    output: ways.Output = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Say what a model stands at: a minimum, a saddle, a plateau or a slope; and which rates are stable."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.outcome import check_writable

        check_writable(report)
        if points is None and directions is not None:
            raise InputError(f"--directions {directions} goes with --slice N: say how many points a side")
        if optimizers is not None and not ask.listed(optimizers):
            raise InputError(f"--optimizers {optimizers!r}: name one or more, such as gd,momentum,adam")
        if function is not None:
            if task is not None:
                raise InputError(f"--function {function} goes without a task: leave {task} out")
            if points is not None or density:
                option = "--density" if points is None else "--slice"
                raise InputError(f"{option} goes with a task: --function {function} draws a test function")
            return ways.survey_function(
                function, ask.listed(optimizers), voice=voice, report=report, budget=budget, steps=steps,
                rates=lr or (), start=start, output=output,
            )  # fmt: skip
        if task is None:
            raise InputError("survey needs a TASK (a run's folder, or what fit takes), or --function NAME")
        if (optimizers, steps, lr, start) != (None, None, None, None):
            raise InputError("--optimizers, --steps, --lr and --start go with --function NAME")
        if output is not None and points is None:
            raise InputError(
                "--output writes the picture of --slice N or of --function NAME; or say --report"
            )
        ways.check_ending(output)
        check_writable(output)
        if points is not None:
            ways.check_slice(points, directions or "random")
        _refuse_folder(Path(task))
        given = Given(
            task=task, target=target, recipe=recipe, settings=ask.with_weights(settings, weights), seed=seed
        )
        picture = output or (None if report else ways.page_of(Path(task).name.removesuffix(".py")))
        sliced = None if points is None else (points, directions or "random", picture)
        options = _options(examples, eigenvalues, dtype, budget) | {"density": density}
        return _survey(given, voice, at, options, report, sliced)

    return guarded(act, debug=debug)


def _refuse_folder(path: Path) -> None:
    """A folder of runs is none of them.

    Raises:
        InputError: naming the runs in it.
    """
    if not path.is_dir() or (path / "run.json").is_file():
        return
    runs = sorted(str(each.parent) for each in path.glob("*/run.json"))
    if runs:
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        raise InputError(f"{path} holds {len(runs)} runs; name one of them: {', '.join(runs[-4:])}{more}")


def _options(examples: str, eigenvalues: int, dtype: str | None, budget: str | None) -> dict[str, Any]:
    """The arguments of `ds.survey` that the words of the command stand for."""
    import torch

    if examples != "all" and not examples.isdecimal():
        raise InputError(f"--examples {examples}: must be a number of examples, or all")
    if dtype not in (None, "float32", "float64"):
        raise InputError(f"--dtype {dtype}: must be float32 or float64")
    return {
        "examples": "all" if examples == "all" else int(examples),
        "eigenvalues": eigenvalues,
        "dtype": None if dtype is None else getattr(torch, dtype),
        "seconds": ask.seconds(budget),
    }


def _survey(
    given: Given,
    voice: Voice,
    at: str,
    options: dict[str, Any],
    report: Path | None,
    sliced: tuple[int, str, Path | None] | None = None,
) -> int:
    from downslope.cli.outcome import attempted, save_report
    from downslope.core.run import load_run
    from downslope.reporting import terrain as drawn
    from downslope.terrain.surveys.survey import survey as look

    if at not in ("last", "best", "start"):
        raise InputError(f"--at {at}: must be last, best or start")
    with voice.alone():
        run = None
        if given.is_run:
            given.refuse_with_run(None)
            run = load_run(Path(given.task))
            problem, how = run.the_problem(), run.recipe
            model = _start(problem, how) if at == "start" else run.model(cast("Any", at))
        else:
            problem, how = given.load(voice)
            model = _start(problem, how)
        voice.begin()
        seed = 0 if how is None else how.seed
        try:
            found = look(problem, model, seed=seed, progress=voice.progress, **options)
        except KeyboardInterrupt as stop:
            for known in reversed(getattr(stop, "__notes__", [])):
                complain(known)
            raise
        picture = None
        if sliced is not None and not found.interrupted:
            picture = ways.sliced(
                problem, model, how, *sliced[:2], voice=voice, run=run is not None,
                examples=options["examples"], dtype=options["dtype"],
            )  # fmt: skip
    things = [each for each in (run, found, picture) if each is not None]
    written, failure = attempted(lambda: save_report(report, *things) if report else None)
    if picture is not None and sliced is not None and (target := sliced[2]) is not None and failure is None:
        written, failure = attempted(lambda: picture.save(target))
    rows = drawn.rows(found, given.said, problem.name, at if run is not None else "start", written)
    if picture is not None:
        rows += names.load("downslope.reporting.ways:slice_rows")(picture)
    voice.show(rows)
    voice.document({"verb": "survey", "at": at if run is not None else "start"} | found.to_dict()
                   | ({} if picture is None else {"slice": picture.to_dict()})
                   | {"report": written})  # fmt: skip
    if failure is not None:
        raise failure
    cut = found.interrupted or (picture is not None and picture.interrupted)
    return INTERRUPTED if cut else DONE


def _start(problem: Problem, recipe: Any) -> Any:
    """The model that training begins with."""
    from downslope.core.recipe import Lost, Recipe

    how = recipe or Recipe()
    return problem.build(how.seed, None if isinstance(how.init, Lost) else how.init)
