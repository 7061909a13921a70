"""Dataset shift by preparation. Held-out data is not prepared as the training data is.

A user sees good scores in training and hopeless ones in validation, and looks for overfitting. Normalised
here and not there, 0 to 255 against 0 to 1, BGR against RGB, another order of columns, a logarithm here and
not there, class ids from another sorting: the model is asked something else than it was taught. How we know:
the inputs of the parts are distributed otherwise, and where those held out are brought to the others by such
a change, the same trained model answers them. What looks like it and is not: overfitting, which no change of
the inputs undoes; another population, whose answers do not come back with its scale; augmentation.
Source: Quinonero-Candela et al. 2009, Dataset shift in machine learning, chapter 1; Breck et al. 2019, Data
validation for machine learning (training-serving skew), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.measure.rearranged import APART, NOISE
from downslope.diagnosis.measure.shift import GAP
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

CLOSED = 0.5
"""Share of the gap between training and held-out score that a change of the inputs must close: most of it."""

WON = 4.0
"""What it wins, in standard errors of the same examples beside themselves. Convention."""

_PLAIN = 1.0
"""Deviations by which inputs stand elsewhere beyond doubt (`_PLAINLY` is then enough)."""

_PLAINLY = 2.5
"""What a change of scale must win then: a few examples far off make the errors large. Convention."""

_SOURCE = "Quinonero-Candela et al. 2009, Dataset shift, chapter 1; Breck et al. 2019, section 4"


@symptom(
    "dataset-shift",
    title="held-out data is not prepared as the training data is",
    order=("data", 1),
    needs=("shift",),
    explains=(
        "uninformative-inputs", "label-noise", "high-variance", "high-bias", "over-regularised",
        "class-imbalance", "unshuffled-data",
    ),
    source=_SOURCE,
)  # fmt: skip
def dataset_shift(run: Run) -> Verdict:
    """Held-out inputs that stand elsewhere, and a change of them by which the same model answers well."""
    shift: Mapping[str, Any] = run.facts["shift"]
    if not shift["learnt"]:
        return Unknown("the run has learnt nothing that held-out data could miss")
    missing = shift["missing"]
    if shift.get("labels"):
        return _renamed(shift)
    if missing < GAP or "apart" not in shift:
        return Clear(f"{min(max(missing, 0.0), 1.0):.0%} of the way is missing on held-out data")
    if shift.get("recovered", 0.0) >= CLOSED and shift["won"] >= (wanted := _wanted(shift)):
        return _found(shift, wanted)
    said = f"the inputs of the two parts differ by {shift['apart']:.2g} deviations"
    if shift["apart"] < max(APART, NOISE * shift["noise"]):
        return Clear(f"{said}; drawing them makes {shift['noise']:.2g}")
    return Clear(f"{said}, and no change of scale or order makes the model answer held-out data better")


def _wanted(shift: Mapping[str, Any]) -> float:
    """Standard errors that the change has to win."""
    plain = shift["apart"] >= max(_PLAIN, 4 * NOISE * shift["noise"])
    return _PLAINLY if plain and shift["change"]["kind"] in ("scale", "scales", "log") else WON


def _found(shift: Mapping[str, Any], wanted: float) -> Finding:
    change, score = shift["change"], shift["scores"]
    text = change["text"]
    says = {"channels": "with ", "columns": "with ", "axes": ""}.get(change["kind"], "behind ")
    message = (
        f"{_numbers(shift)} Held-out inputs {says}{text} are answered as they should be: "
        f"{_scores(score['valid'], shift['mended'])}, against {_one(score['train'])} on training data. "
        "The model is the same, so what it lacks is no data and no regularisation."
    )
    return Finding(
        symptom="dataset-shift",
        title="held-out data is not prepared as the training data is",
        severity="warning",
        evidence=Evidence(
            name="share of the gap that the same model closes once held-out inputs are prepared alike",
            value=shift["recovered"],
            threshold=CLOSED,
            unit="share of the gap between training and held-out score",
            provenance="convention: most of it; bench/diagnosis",
        ),
        also=(
            Evidence(
                name="what it wins in standard errors", value=shift["won"], threshold=wanted,
                unit="standard errors", provenance="convention: no false alarm in 10,000",
            ),
        ),
        message=message,
        remedies=(Advice(f"prepare held-out data as training data: {_what(change['kind'], text)}"),),
        source=_SOURCE,
    )  # fmt: skip


def _numbers(shift: Mapping[str, Any]) -> str:
    mean, deviation, other, spread = shift["moments"]
    if shift["change"]["kind"] in ("scale", "scales", "log"):
        return (
            f"Training inputs have mean {mean:.3g} and deviation {deviation:.3g}, held-out inputs "
            f"{other:.3g} and {spread:.3g}."
        )
    return f"Place by place the inputs of the two parts differ by {shift['apart']:.2g} deviations."


def _what(kind: str, text: str) -> str:
    return {
        "scale": f"the same transformation for both (held-out inputs lack {text})",
        "scales": "the statistics of the training part, for every feature, in both",
        "log": f"the same transformation for both (held-out inputs lack {text})",
        "channels": f"the same order of channels in both (held-out: {text})",
        "columns": f"the same order of columns in both (held-out: {text})",
        "axes": f"the same orientation in both (held-out: {text})",
    }[kind]


def _one(score: Mapping[str, Any]) -> str:
    if score["right"] is not None:
        return f"{score['right']:.0%} right"
    return f"a loss of {score['loss']:.3g}"


def _scores(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before["right"] is not None and after["right"] is not None:
        return f"{after['right']:.0%} right instead of {before['right']:.0%}"
    return f"a loss of {after['loss']:.3g} instead of {before['loss']:.3g}"


def _renamed(shift: Mapping[str, Any]) -> Finding:
    """Class ids that stand for other classes than in training."""
    pairs = [f"{c} for {k}" for c, k in shift["labels"]["moved"]]
    said = ", ".join(pairs[:4]) + (f" and {len(pairs) - 4} more" if len(pairs) > 4 else "")
    before, after = shift["labels"]["before"], shift["labels"]["right"]
    return Finding(
        symptom="dataset-shift",
        title="held-out labels stand for other classes than those of training",
        severity="warning",
        evidence=Evidence(
            name="right answers on held-out data once its labels are renamed",
            value=after,
            threshold=before,
            unit="share of held-out examples; the limit is the share as labelled",
            provenance="the best one-to-one renaming, sought on one half and counted on the other",
        ),
        message=f"On held-out data the model takes one class for another: label {said}. "
        f"With the labels renamed so it has {after:.0%} right instead of {before:.0%}: the two parts number "
        "their classes differently.",
        remedies=(
            Advice(
                "one table from class to id for both parts (such as the sorted names of the training part)"
            ),
        ),
        source=_SOURCE,
    )
