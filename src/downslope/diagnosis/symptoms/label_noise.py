"""Label noise. Part of the labels is wrong, and a model that is large enough learns them by heart.

A user sees a training accuracy of 1 and a validation accuracy that peaks early and falls. Wrong labels are
learnt last, one by one; where most are wrong, training crawls and never gets there. How we know: trees,
cross-validated, are sure of another class where the label says otherwise, and the model has learnt it by
heart; or the same trees agree far better with the validation targets than with training targets that they
were not shown, which is so before anything is memorised, and for numbers too. What looks like it and is
not: classes that overlap (validation is no better then), and a small data set, which is overfitted without
a wrong label.
Source: Northcutt, Jiang and Chuang 2021, Confident learning; Arpit et al. 2017, A closer look at
memorization.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetRecipe
from downslope.core.finding import Evidence, Finding, Severity
from downslope.core.run import Run
from downslope.diagnosis.gap import WELL, gap, held_out_share
from downslope.diagnosis.progress import table
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

NOISE = 0.15
"""Share of doubted labels from which it is a warning; clean data of bench/diagnosis has at most 0.08."""

WRONG = 0.3
"""Share of the training targets that go astray, by comparison with validation, from which it is named
whether they were learnt by heart or not; at most 0.2 on 115 clean problems of bench/diagnosis, from noise
alone."""

DESTROYED = 0.5
"""The same from which the signal counts as destroyed: more of the targets are wrong than right.
Convention."""

SURE = 4.0
"""Standard errors by which that share has to lie above `NOISE`. One false alarm in 30000."""

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
    if (astray := _astray(run, signal)) is not None:
        return astray
    noise = signal.get("noise")
    if noise is None and signal.get("wrong") is not None:
        return Clear(f"about {max(signal['wrong'], 0.0):.0%} of the training targets go astray")
    if noise is None:
        return Unknown(
            "of numbers only validation data would tell; of labels of classes the labels themselves, where "
            "there are 200 examples or more"
        )
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
        f"gained in training {min(missing, 1.0):.0%} is missing on data it has not seen.",
        remedies=_remedies(run, signal),
        source=_SOURCE,
    )


def _astray(run: Run, signal: Mapping[str, Any]) -> Finding | None:
    """Training targets that trees tell far worse than they tell validation targets, in a run that suffers."""
    wrong, error = signal.get("wrong"), signal.get("wrong_error")
    if wrong is None or error is None or wrong < WRONG or wrong - SURE * error < NOISE:
        return None
    poor = (held_out_share(run, alone=True) or 0.0) < WELL
    worst: Severity = "critical" if wrong >= DESTROYED else "warning"
    return Finding(
        symptom="label-noise",
        title="part of the labels is wrong",
        severity=worst if poor else "info",
        evidence=Evidence(
            name="training targets that go astray, by trees that tell those of the validation part",
            value=wrong,
            threshold=WRONG,
            unit="share of the targets",
            provenance="at most 0.2 on clean data (1 - slope on training / slope on validation)",
        ),
        message=f"About {min(wrong, 1.0):.0%} of the training targets do not belong to their inputs: trees "
        "that learnt from other training examples tell the validation targets, and not those.",
        remedies=tuple(sorted(_remedies(run, signal), key=lambda each: each.provable)),
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
    such = f"look at the labels of rows such as {rows} (counted from 0 in the sample)"
    edits.append(
        Advice(such if rows else "check that training inputs and targets belong together, row by row")
    )
    return tuple(edits)
