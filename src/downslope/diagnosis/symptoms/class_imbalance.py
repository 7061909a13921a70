"""Class imbalance. The rare classes are given up, and the metric hardly notices.

A user sees a high accuracy and a model that never says the rare class. With one example in fifty a mean over
examples is lowered most by being right on the rest; the gradient of the rare class is drowned. How we know:
the recall of each class on held-out data, and a twin trained with every class weighted alike. What looks like
it and is not: rare classes that are recognised all the same, and rare classes that look like the common one,
where weights only trade one mistake for another.
Source: Japkowicz and Stephen 2002; Brodersen et al. 2010 (balanced accuracy); Buda, Maki and Mazurowski 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Combined, Edit, SetMetric
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.measure.imbalance import unequal, weighted
from downslope.diagnosis.proof import MATERIAL
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

GIVEN_UP = 0.5
"""Recall of a class below which it counts as given up. Convention: worse than a coin."""

_SOURCE = "Brodersen et al. 2010; Buda et al. 2018"


@symptom(
    "class-imbalance",
    title="the rare classes are given up",
    order=("data", 5),
    needs=("data",),
    explains=("high-bias", "learning-rate-too-low", "too-few-steps", "plateau"),
    source=_SOURCE,
)
def class_imbalance(run: Run) -> Verdict:
    """A rare class that is not recognised, and would be if every class counted the same."""
    if unequal(run) is None:
        return Clear("no class is rare")
    found: Mapping[str, Any] | None = run.facts.get("imbalance")
    if found is None:
        return Unknown("what is recognised of each class was not measured")
    worst = min(each for each in found["recalls"] if each >= 0)
    said = (
        f"the rarest class is {found['rarest']:.1%} of the data; the least recall of a class is {worst:.0%}"
    )
    if worst >= GIVEN_UP:
        return Clear(said)
    if found["weighted"] is None:
        return Unknown(f"{said}; the objective takes no weights, so it was not tried whether they help")
    chance = 1.0 / found["classes"]
    won = (found["weighted"] - found["balanced"]) / (1.0 - chance)
    if won < MATERIAL:
        return Clear(f"{said}; with weights the mean recall is {found['weighted']:.0%}, not much better")
    return Finding(
        symptom="class-imbalance",
        title="the rare classes are given up",
        severity="warning",
        evidence=Evidence(
            name="mean recall of the classes that weights win back",
            value=won,
            threshold=MATERIAL,
            unit="share of the way from chance to 1",
            provenance="convention: what a remedy must win back to be worth a warning",
        ),
        message=f"{said[0].upper()}{said[1:]}. Tried: with every class weighted alike the mean recall goes "
        f"from "
        f"{found['balanced']:.0%} to {found['weighted']:.0%}.",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _remedies(run: Run) -> tuple[Edit, ...]:
    found = unequal(run)
    edit = None if found is None or run.problem is None else weighted(run.problem, *found)
    advice = Advice("weight the rare classes in the objective, and watch balanced_accuracy")
    if edit is None or run.problem is None:
        return (advice,)
    if run.metric_name != "accuracy":
        return (edit, advice)
    # The accuracy chooses the epoch at which the rare classes are still given up.
    return (Combined((edit, SetMetric("balanced_accuracy"))), advice)
