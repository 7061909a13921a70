"""``downslope survey --function NAME`` and ``--slice N``: ways over functions, slices of a task's loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from downslope.cli.guard import DONE, INTERRUPTED
from downslope.core.errors import InputError
from downslope.core.names import did_you_mean

if TYPE_CHECKING:
    from downslope.cli.voice import Voice
    from downslope.core.problem import Problem
    from downslope.core.recipe import Recipe
    from downslope.terrain.slices.slice import Slice

Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="Over a function: steps of each optimizer.")
]
Rates = Annotated[
    list[str] | None,
    typer.Option("--lr", metavar="NAME=RATE", help="Over a function: a learning rate, of one or of all."),
]
Start = Annotated[
    str | None, typer.Option("--start", metavar="X,Y", help="Over a function: where the optimizers begin.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="PATH", help="Write the picture there: .html, .png, .svg, .pdf, or .json."
    ),
]
SliceOf = Annotated[
    int | None,
    typer.Option("--slice", metavar="N", help="Slice the loss around the model too, at N x N points."),
]
Directions = Annotated[
    str | None,
    typer.Option(
        "--directions", metavar="KIND", help="Of the slice: random (if left out), eigen, gradient or pca."
    ),
]

ENDINGS = (".html", ".htm", ".png", ".svg", ".pdf", ".json")


def survey_function(
    function: str,
    optimizers: Sequence[str],
    *,
    voice: Voice,
    report: Path | None = None,
    budget: str | None = None,
    steps: int | None = None,
    rates: Sequence[str] = (),
    start: str | None = None,
    output: Path | None = None,
) -> int:
    """Walk a function by several optimizers, tell where each ended, and draw it.

    Raises:
        InputError: a name, a rate or a start that cannot be used.
    """
    from downslope.cli.outcome import attempted, check_writable
    from downslope.core.numerals import many
    from downslope.reporting import ways
    from downslope.terrain.functions import get
    from downslope.terrain.paths.paths import paths

    if budget is not None:
        raise InputError("--budget goes with a task: over a function say --steps")
    made = get(function)
    rate, by_name = _rates(rates)
    targets = [each for each in (output, report) if each is not None]
    targets = targets or [page_of(made.spelt)]
    check_ending(output)
    check_writable(*targets)
    wanted = list(optimizers) or ["gd", "momentum", "adam"]
    voice.note(f"survey: {made.spelt}, {made.formula}, {many(len(wanted), 'optimizer')}")
    found = paths(
        made, wanted, start=None if start is None else _start(start), steps=1000 if steps is None else steps,
        lr=by_name or rate,
    )  # fmt: skip
    for each in targets[:-1]:
        found.save(each)
    written, failure = attempted(lambda: found.save(targets[-1]))
    voice.show(ways.paths_rows(found, written))
    voice.document({"verb": "survey"} | found.to_dict() | {"report": written})
    if failure is not None:
        raise failure
    return INTERRUPTED if found.interrupted else DONE


def sliced(
    problem: Problem, model: Any, recipe: Recipe | None, points: int, directions: str, *, voice: Voice,
    run: bool, examples: Any, dtype: Any,
) -> Slice:  # fmt: skip
    """The slice that ``--slice`` asks for; principal directions take a training that is recorded.

    Raises:
        InputError: "pca" of a run, which keeps its last and best weights alone.
    """
    from downslope.core.recipe import Recipe
    from downslope.terrain.slices.landscape import landscape
    from downslope.terrain.slices.trail import Recorder

    trajectory = None
    if directions == "pca":
        if run:
            raise InputError(
                "--directions pca: a run keeps its last and best weights, and no trajectory; give the task, "
                "which is trained anew and recorded"
            )
        from downslope.training.fit import fit

        trajectory = Recorder()
        how = recipe or Recipe()
        model = fit(problem, how, folder=False, progress=voice.progress, on_probe=trajectory)
    return landscape(
        problem, model, directions=directions, points=points, trajectory=trajectory, examples=examples,
        dtype=dtype, seed=0 if recipe is None else recipe.seed, progress=voice.progress,
    )  # fmt: skip


def check_slice(points: int, directions: str) -> None:
    """Refuse a slice that cannot be drawn, before anything is measured.

    Raises:
        InputError: fewer than three points, or directions that are not known.
    """
    from downslope.terrain.slices.landscape import KINDS

    if points < 3:
        raise InputError(f"--slice {points}: must be at least 3 points of each side")
    if directions not in KINDS:
        raise InputError(f"--directions {directions}: is not known{did_you_mean(directions, KINDS)}")


def check_ending(output: Path | None) -> None:
    """Refuse a file of a kind that nothing here writes.

    Raises:
        InputError: its ending.
    """
    if output is not None and output.suffix.lower() not in ENDINGS:
        raise InputError(f"--output {output}: must end in {', '.join(ENDINGS)}")


def _rates(given: Sequence[str]) -> tuple[float | None, dict[str, float]]:
    """A rate for all, and rates by name."""
    whole: float | None = None
    by_name: dict[str, float] = {}
    for each in given:
        name, _, number = each.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise InputError(
                f"--lr {each}: must be a number above 0, or name=number such as adam=0.1"
            ) from None
        if not 0 < value < float("inf"):
            raise InputError(f"--lr {each}: must be a number above 0")
        if name:
            by_name[name.strip()] = value
        else:
            whole = value
    if whole is not None and by_name:
        raise InputError("--lr: one rate for all, or one by name for each; not both")
    return whole, by_name


def _start(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        raise InputError(f"--start {text}: must be numbers with commas between, such as -1.2,1") from None


def page_of(spelt: str) -> Path:
    """Where the picture of a function, or of a task's slice, is written unless told otherwise."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", spelt).strip("-.")
    return Path("runs") / f"survey-{name or 'task'}.html"
