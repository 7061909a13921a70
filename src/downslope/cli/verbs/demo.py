"""``downslope demo``: a training run that fails, is diagnosed, repaired and proved; then its healthy twin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, SICK, guarded
from downslope.cli.voice import Voice
from downslope.reporting.rows import Row

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits_mlp.py"
"""The task that is shown; copied beside the demo's results, to be read and changed."""


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="PATH", help="Where everything is written.")
    ] = Path("runs/demo"),
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """See training fail, hear why, watch the proved remedy work; then the same on the healthy twin."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        task = copy_example(folder)
        voice.show(
            [
                Row("Handwritten digits, a small network, momentum 0.9 with lr 0.1.", tone="strong"),
                Row(f"Nothing in the code looks wrong: {task}"),
                Row(""),
            ]
        )
        sick = _sick(task, folder, voice)
        voice.show([Row(""), Row("The healthy twin: same network, same recipe, pixels / 16.", tone="strong")])
        healthy = _healthy(task, folder, voice)
        voice.document({"verb": "demo", "sick": sick, "healthy": healthy})
        return DONE if sick["kept"] and healthy["healthy"] else SICK

    return guarded(act, debug=debug)


def copy_example(folder: Path) -> Path:
    """The example beside the results.

    Raises:
        InputError: the folder cannot be written.
    """
    from downslope.core.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(EXAMPLE, folder / EXAMPLE.name))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}; give --folder") from None


def _sick(task: Path, folder: Path, voice: Voice) -> dict[str, Any]:
    from downslope.cli.outcome import repair_document, save_changes, save_fixed, save_report
    from downslope.diagnosis.diagnose import diagnose
    from downslope.diagnosis.repair import repair
    from downslope.reporting import console
    from downslope.training.fit import fit
    from downslope.training.recorder import new_folder
    from downslope.training.tasks import load_task

    given = load_task(str(task))
    run = fit(given.problem, given.recipe, folder=new_folder("fails", folder), progress=voice.progress)
    voice.show([*console.header(run), *console.of_run(run)])
    found = diagnose(given.problem, given.recipe, progress=voice.progress, folder=False)
    voice.show(console.of_diagnosis(found))
    mended = repair(given.problem, given.recipe, diagnosis=found, progress=voice.progress)
    voice.show(console.of_repair(mended))
    if mended.kept is None:
        written = save_report(folder / "report.html", mended)
        return repair_document(mended, None, written)
    fixed = save_fixed(mended, folder / "fixed.toml", voice)
    changes = save_changes(mended, folder / "fixed.toml")
    after = fit(mended.problem, mended.recipe, folder=new_folder("fixed", folder), progress=voice.progress)
    follow = console.next_of_repair(mended, console.said(task), fixed, changes=changes)
    voice.show([*console.of_run(after, "after"), *follow])
    written = save_report(folder / "report.html", mended, after)
    result = f"{console.before_and_after(run, after)}    report {console.shown(written)}"
    voice.show([Row(result, label="result", tone="good")])
    return repair_document(mended, fixed, written, changes)


def _healthy(task: Path, folder: Path, voice: Voice) -> dict[str, Any]:
    from downslope.cli.outcome import diagnosis_document
    from downslope.diagnosis.diagnose import diagnose
    from downslope.reporting import console
    from downslope.training.recorder import new_folder
    from downslope.training.tasks import load_task

    twin = load_task(f"{task}:scaled")
    place = new_folder("healthy", folder)
    found = diagnose(twin.problem, twin.recipe, progress=voice.progress, folder=place)
    rows = [*console.header(found.run), *console.of_run(found.run), *console.of_diagnosis(found)]
    voice.show(rows)
    return diagnosis_document(found)
