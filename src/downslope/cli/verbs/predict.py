"""``downslope predict RUN DATA``: what the trained model says of new examples, or how it continues a text."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice

if TYPE_CHECKING:
    from downslope.training.predict import Prediction


def predict(
    folder: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="Folder of a run.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            show_default=False,
            help="A file of the kind that was trained on, its target may be missing; an image or a folder of "
            "them; an array x in an .npz or .pt file; of a run on text the beginning of one.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Write the table there, not to standard output."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=0, help="Characters to write, of a run on text.")
    ] = 200,
    seed: ask.Seed = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Predict the targets of new examples, as a CSV table; the run's folder is enough."""
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.cli.kept import check_kept
        from downslope.cli.outcome import check_writable
        from downslope.core.run import load_run

        check_kept(folder, "predict")
        check_writable(output)
        run = load_run(folder)
        if cast("dict[str, Any]", run.described.get("data") or {}).get("kind") == "text":
            prompt = Path(data).read_text(encoding="utf-8") if Path(data).is_file() else data
            written = run.continued(prompt, count, seed=seed or 0)
            if not json or output is not None:
                _write(output, f"{written}\n")
            voice.document({"verb": "predict", "text": written})
            return DONE
        found = run.predict(data)
        for line in found.told:
            voice.note(line)
        if not json or output is not None:
            _write(output, _table(found))
        voice.document({"verb": "predict", "output": output} | document(found))
        return DONE

    return guarded(act, debug=debug)


def document(found: Prediction) -> dict[str, Any]:
    """Predictions for machines: places, values, probabilities by class, what was left out."""
    return {
        "unit": found.unit, "places": found.places, "values": found.values, "classes": found.classes,
        "probabilities": found.probabilities, "left_out": list(found.told),
    }  # fmt: skip


def _table(found: Prediction) -> str:
    """``line,prediction,probability``, a row for each example."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    likeliest = None if found.probabilities is None else found.probabilities.amax(1).tolist()
    writer.writerow([found.unit, "prediction", *([] if likeliest is None else ["probability"])])
    for i, (place, value) in enumerate(zip(found.places, found.values, strict=True)):
        said = f"{value:.6g}" if isinstance(value, float) else value
        writer.writerow([place, said, *([] if likeliest is None else [f"{likeliest[i]:.4f}"])])
    return file.getvalue()


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    from downslope.core.errors import InputError

    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
