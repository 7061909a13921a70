"""Arguments and options that several verbs share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downslope.core.errors import InputError

Task = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        show_default=False,
        help="What to train: file.py (with problem() and, if wanted, recipe()), package.module:problem, "
        "data (wine.csv, a folder of images, book.txt), or a standard set (digits, fashion_mnist).",
    ),
]
TaskOrRun = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        show_default=False,
        help="What to train: file.py, package.module:problem, a data file, or a bundled set; or the folder "
        "of a run, of which nothing is trained again.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="COLUMN", help="The column to predict, where TASK is a data file."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Recipe to follow (TOML), with the edits it carries."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key: lr=0.01, model.width=64, objective.l2=1e-3. Repeatable.",
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="PATH",
        help="Start from these weights where they fit: safetensors, .pt, the folder of a run.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of weights, order, dropout, augmentation.")]
Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="PATH", help="Where to write; default runs/<time>-<name>.")
]
TerrainShare = Annotated[
    float,
    typer.Option(
        "--terrain",
        metavar="SHARE",
        help="Share of the time for measuring the ground under the run: sharpness against the stable limit, "
        "gradient noise. 0 is off.",
        show_default=True,
    ),
]
_SPENDS = "Time it may take at most: 90s, 2m, 1h. A diagnosis takes no more than twice its run plus 10 s."
Budget = Annotated[str, typer.Option("--budget", metavar="TIME", help=_SPENDS, show_default=True)]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", metavar="N", help="Processes that train, crews and single members.", show_default=True
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Ray cluster that does: host:port, auto, local, ray://host:port."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
ReportPath = Annotated[
    Path | None, typer.Option("--report", metavar="PATH", help="Write the HTML report there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def with_weights(settings: list[str] | None, weights: Path | None) -> list[str]:
    """The settings of ``--set`` and what ``--weights`` stands for."""
    return [*(settings or []), *([] if weights is None else [f"weights={weights}"])]


RangeSteps = Annotated[int, typer.Option("--steps", help="Steps of each run.", show_default=True)]
RangeSeeds = Annotated[int, typer.Option("--seeds", help="Seeds of each rate.", show_default=True)]
Time = Annotated[
    str | None, typer.Option("--budget", metavar="TIME", help="Time it may take at most: 90s, 2m.")
]


def seconds(budget: str | None) -> float | None:
    """What a ``--budget`` of time allows; None for no limit.

    Raises:
        InputError: no time.
    """
    from downslope.core.budget import Budget

    if budget is None:
        return None
    found = Budget(budget)
    if found.steps is not None:
        raise InputError(f"--budget {budget}: must be a time here, such as 90s or 2m")
    return found.seconds


def listed(text: str | None) -> list[str]:
    """The words of an option that takes several, with commas."""
    return [each.strip() for each in (text or "").split(",") if each.strip()]


def numbers(name: str, text: str) -> list[float]:
    """The numbers of an option that takes several with commas.

    Raises:
        InputError: naming the option, where one is no number.
    """
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text}: must be a number, or several with commas") from None


Margin = Annotated[
    float, typer.Option("--margin", help="Share of the free memory that stays free.", show_default=True)
]
