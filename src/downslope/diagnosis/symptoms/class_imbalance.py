"""Class imbalance. The rare classes are given up, and the metric hardly notices.

A user sees a high accuracy and a model that never says the rare class. With one example in fifty a mean over
examples is lowered most by being right on the rest; the gradient of the rare class is drowned. How we know:
the recall of each class on held-out data, and a twin trained with every class weighted alike. What looks like
it and is not: rare classes that are recognised all the same, and rare classes that look like the common one,
where weights only trade one mistake for another.
Source: Japkowicz and Stephen 2002; Brodersen et al. 2010 (balanced accuracy); Buda, Maki and Mazurowski 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Advice, Combined, Edit, SetMetric
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.measure.imbalance import unequal, weighted
from downslope.diagnosis.progress import table
from downslope.diagnosis.proof import MATERIAL
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

GIVEN_UP = 0.5
"""Recall of a class below which it counts as given up. Convention: worse than a coin."""

BEYOND = 3.0
"""Standard errors by which the recall of a few examples must rise: 0 of 10 to 5, never 0 of 3. Convention."""

FEWEST = 10
"""Examples of a class from which a script's recall of it is told: an error of 0.16 at most. Convention."""

OVERLAP = 0.8
"""Area under the curve of a class's scores up to which it overlaps with the rest, as bell curves do that are
1.2 deviations apart. Convention."""

_ADVICE = Advice("weight the rare classes in the objective, and watch balanced_accuracy")

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
    found: Mapping[str, Any] | None = run.facts.get("imbalance")
    if found is None and (seen := table(run, "recognised")):
        return _seen(seen)
    if unequal(run) is None:
        return Clear("no class is rare")
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
    alone = _alone(found)
    if won < MATERIAL and alone is not None:
        return _one_of_many(run, said, *alone)
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


def _seen(seen: Mapping[str, Any]) -> Verdict:
    """The verdict on a script, whose model was asked and where nothing was tried.

    A class that overlaps with the rest, of which the model's scores say what is to be said, is not given up:
    the objective asks for it.
    """
    rare: Sequence[Mapping[str, Any]] = seen["rare"]
    if not rare:
        return Clear("no class is rare")
    where = "held-out examples" if seen["held_out"] else "examples that were kept"
    few = [each["n"] for each in rare if each["n"] < FEWEST]
    known = [each for each in rare if each["n"] >= FEWEST]
    worst = min(known, key=lambda each: each["recall"], default={"recall": 1.0, "n": 0})
    if worst["recall"] >= GIVEN_UP and few:
        return Unknown(
            f"of {seen['rows']} {where} {min(few)} are of a rare class, and {FEWEST} tell its recall"
        )
    said = (
        f"the rarest class is {min(each['share'] for each in rare):.1%} of the data; the least recall of a "
        f"class is {worst['recall']:.0%} ({worst['n']} {where})"
    )
    if worst["recall"] >= GIVEN_UP:
        return Clear(said)
    given_up = [each for each in known if each["recall"] < GIVEN_UP]
    if all(each["way"] > 0 and each["area"] < OVERLAP for each in given_up):
        return Clear(f"{said}, and it overlaps with the rest (area under the curve {worst['area']:.2f})")
    return Unknown(f"{said}; whether weights win it back was not tried")


def _alone(found: Mapping[str, Any]) -> tuple[float, float, int] | None:
    """Recall of the rare classes that were given up, without and with weights, and their held-out examples.

    Of ten classes one can be lost whole, and the mean recall moves by a tenth. None unless their own recall
    rises by `MATERIAL` of what it lacks, beyond the errors of so few examples, and the other classes lose
    less than half of what these win.
    """
    own: Sequence[float] = found["recalls"]
    other: Sequence[float] | None = found.get("weighted_recalls")
    counts: Sequence[int] = found.get("counts") or ()
    rare: Sequence[int] = found.get("rare") or ()
    if other is None or len(other) != len(own) or len(counts) != len(own):
        return None
    lost = [k for k in rare if 0 <= k < len(own) and 0 <= own[k] < GIVEN_UP]
    n = sum(counts[k] for k in lost)
    if not n:
        return None
    before, after = (sum(each[k] * counts[k] for k in lost) / n for each in (own, other))
    # Agresti and Caffo 2000: one success and one failure more make the error of a share of 0 or 1 honest.
    error = math.sqrt(sum(_spread(p * n, n) for p in (before, after)))
    won = sum(other[k] - own[k] for k in lost) / found["classes"]
    fair = found["weighted"] - found["balanced"] >= 0.5 * won
    seen = after - before > max(BEYOND * error, MATERIAL * (1.0 - before))
    return (before, after, n) if seen and fair else None


def _spread(right: float, n: int) -> float:
    p = (right + 1.0) / (n + 2.0)
    return p * (1.0 - p) / (n + 2.0)


def _one_of_many(run: Run, said: str, before: float, after: float, n: int) -> Finding:
    return Finding(
        symptom="class-imbalance",
        title="the rare classes are given up",
        severity="warning",
        evidence=Evidence(
            name="recall of the rare classes that weights win back",
            value=(after - before) / (1.0 - before),
            threshold=MATERIAL,
            unit="share of what it lacks",
            provenance="convention: what a remedy must win back to be worth a warning",
        ),
        message=f"{said[0].upper()}{said[1:]}. Tried: with every class weighted alike the recall of the rare "
        f"classes goes from {before:.0%} to {after:.0%} ({n} held-out examples), and the "
        "others lose less than half of that.",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _remedies(run: Run) -> tuple[Edit, ...]:
    found = unequal(run)
    edit = None if found is None or run.problem is None else weighted(run.problem, *found)
    if edit is None or run.problem is None:
        return (_ADVICE,)
    if run.metric_name != "accuracy":
        return (edit, _ADVICE)
    # The accuracy chooses the epoch at which the rare classes are still given up.
    return (Combined((edit, SetMetric("balanced_accuracy"))), _ADVICE)
