"""``downslope``: the verbs on the command line. Loads no torch before a verb is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from downslope import __version__
from downslope.cli import guard
from downslope.cli.verbs import (
    batches,
    concepts,
    demo,
    diagnose,
    escape,
    fit,
    learning_curve,
    predict,
    race,
    rates,
    repair,
    report,
    resume,
    solve,
    survey,
    tune,
    watch,
)

app = typer.Typer(
    name="downslope",
    help="Fit a deep model, hear why training fails, prove the remedy, see all of it.",
    epilog="Exit status: 0 done and healthy, 1 diagnosed with a warning or worse, or nothing could be "
    "judged, 2 unusable input, 70 a fault of Downslope itself, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich alone would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_SCRIPT = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What follows a script belongs to the script."""
_RANGES = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Any key of a recipe is an option of a search."""

app.command("fit", short_help="Train a task and keep the run.")(fit.fit)
app.command("diagnose", short_help="Train, and say what is wrong: root cause first.")(diagnose.diagnose)
app.command("repair", short_help="Diagnose, prove the remedies, keep what wins.")(repair.repair)
app.command("tune", short_help="Search hyper-parameters; confirm the best.", context_settings=_RANGES)(
    tune.tune
)
app.command("race", short_help="Who is better, after equal tuning, on equal seeds.")(race.race)
app.command("learning-curve", short_help="Whether more data would help.")(learning_curve.learning_curve)
app.command("solve", short_help="The exact answer, where there is one.")(solve.solve)
app.command("survey", short_help="What ground a model stands on: minimum, saddle, plateau, slope.")(
    survey.survey
)
app.command("escape", short_help="Who leaves a saddle or a local minimum, and when.")(escape.escape)
app.command("range", short_help="Which learning rates work, with their uncertainty.")(rates.rates)
app.command("batches", short_help="What a batch size costs and buys, and how large it may be.")(
    batches.batches
)
app.command("watch", short_help="Diagnose a training script as it is.", context_settings=_SCRIPT)(watch.watch)
app.command("report", short_help="Draw a kept run as one HTML file.")(report.report)
app.command("predict", short_help="Predict new examples by a kept run.")(predict.predict)
app.command("resume", short_help="Go on with an interrupted run, search or race.")(resume.resume)
app.command("concepts", short_help="What optimisation is about, and where it is here.")(concepts.concepts)
app.command("demo", short_help="See a run fail, hear why, watch the remedy work.")(demo.demo)


def _version(asked: bool) -> None:
    if asked:
        print(f"downslope {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Fit a deep model, hear why training fails, prove the remedy, see all of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: Words after ``downslope``; left out, those of this process.
    """
    try:
        status: Any = app(args=arguments, standalone_mode=False, prog_name="downslope")
    except Exception as error:
        if isinstance(error, OSError) and (refused := guard.unheard(error)):
            guard.complain(refused)
            return guard.UNUSABLE
        # By version, typer's usage errors are of click's class or of its own copy: told by their shape.
        message = getattr(error, "format_message", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
            return guard.UNUSABLE
        if message is not None:
            guard.complain(f"{message()} (downslope --help shows what there is)")
            return guard.UNUSABLE
        if isinstance(error, typer.Abort):
            return guard.INTERRUPTED
        raise
    return status if isinstance(status, int) else guard.DONE


def run() -> None:
    """Entry point of the ``downslope`` script and of ``python -m downslope``."""
    guard.open_streams()
    guard.own_process()
    status = main()
    if refused := guard.unheard():
        guard.complain(refused)
        status = guard.UNUSABLE
    sys.exit(status)
