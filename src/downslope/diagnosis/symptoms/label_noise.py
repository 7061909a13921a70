"""Label noise. Part of the labels is wrong, and a model that is large enough learns them by heart.

A user sees a training accuracy of 1 and a validation accuracy that peaks early and falls. Wrong labels are
learnt last, one by one. How we know: trees, cross-validated, are sure of another class where the label says
otherwise; the share of such labels is the estimate. What looks like it and is not: classes that overlap, of
which nothing is sure, and a small data set, which is overfitted without a wrong label.
Source: Northcutt, Jiang and Chuang 2021, Confident learning; Arpit et al. 2017, A closer look at
memorization.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.gap import WELL, gap, held_out_share
from downslope.diagnosis.progress import table
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

NOISE = 0.15
"""Share of doubted labels from which it is a warning; clean data of bench/diagnosis has at most 0.08."""

SEEN = 3.0
"""The signal that the doubts rest on, in deviations above chance."""

_SOURCE = "Northcutt et al. 2021; Arpit et al. 2017"


@symptom(
    "label-noise",
    title="part of the labels is wrong",
    order=("data", 7),
    needs=("signal",),
    explains=("high-variance", "high-bias", "learning-rate-too-low", "noisy-gradient", "too-few-steps"),
    source=_SOURCE,
)
def label_noise(run: Run) -> Verdict:
    """Many labels that cross-validated trees contradict with confidence, in a run that memorised them."""
    signal: Mapping[str, Any] = run.facts["signal"]
    noise = signal.get("noise")
    if noise is None:
        return Unknown("only the labels of classes are looked at")
    said = f"cross-validated trees contradict {noise:.0%} of the labels"
    if noise < NOISE or signal["z"] < SEEN:
        return Clear(said)
    ending, constant = table(run, "ending"), table(run, "constant")
    if ending.get("valid_loss") is None or constant.get("valid_loss") is None:
        return Unknown(f"{said}; without validation data it is not known whether they were learnt by heart")
    missing, sure = gap(run, ending, constant)
    if missing < NOISE or sure < SEEN:
        return Clear(f"{said}, and the run did not learn them by heart")
    return Finding(
        symptom="label-noise",
        title="part of the labels is wrong",
        severity="warning" if (held_out_share(run) or 0.0) < WELL else "info",
        evidence=Evidence(
            name="labels that cross-validated trees contradict with confidence",
            value=noise,
            threshold=NOISE,
            unit="share of the labels",
            provenance="at most 0.08 on clean data; bench/diagnosis",
        ),
        message=f"About {noise:.0%} of the labels look wrong, and the model has learnt them by heart: of "
        f"what was "
        f"gained in training {missing:.0%} is missing on data it has not seen.",
        remedies=_remedies(run, signal),
        source=_SOURCE,
    )


def _remedies(run: Run, signal: Mapping[str, Any]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    recipe = run.recipe
    if recipe is not None and recipe.epochs is not None and recipe.patience is None:
        edits.append(SetRecipe({"patience": max(2, recipe.epochs // 10)}))
    if recipe is not None and not recipe.weight_decay:
        edits.append(SetRecipe({"weight_decay": 1e-2}, {"weight_decay": 0.0}))
    rows = ", ".join(str(each) for each in signal.get("doubted", [])[:8])
    edits.append(Advice(f"look at the labels of rows such as {rows} (counted from 0 in the sample)"))
    return tuple(edits)
