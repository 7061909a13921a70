"""Uninformative inputs. Nothing about the target can be told from the inputs.

A user sees a training loss that falls only by memorising, and validation data on which the model guesses.
Inputs and labels that were joined in the wrong order, features that were zeroed or cut off, labels drawn by
chance. How we know: trees and a linear model of our own, cross-validated, rank the held-out targets no better
than chance, and neither the run nor anything tried beside it beats a constant on held-out data. What looks
like it and is not: a weak signal, a model that cannot find a strong one, and data of a kind that trees cannot
read (text, large images), of which nothing is said.
Source: Ojala and Garriga 2010, Permutation tests for studying classifier performance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.gap import held_out_error, held_out_share
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom

CHANCE = 3.0
"""Deviations of chance from which a ranking tells something for sure; one in 700 by chance alone."""

FAINT = 2.0
"""Deviations of chance up to which it says nothing, one in 44 by chance; between the two nothing is
claimed."""

MEDIUM = 0.3
"""Correlation that must have been seen, had there been one, before none is told: a medium effect (Cohen 1988,
section 3.2). At 60 examples even that is within three deviations of chance."""

GUESSING = 0.05
"""Share of the way to the best score on held-out data that counts as guessing."""

TOLD = 0.01
"""Share of a constant's loss on held-out data that has to be taken off before anything was told.
Convention."""

_SOURCE = "Ojala and Garriga 2010"


@symptom(
    "uninformative-inputs",
    title="the inputs say nothing about the target",
    order=("data", 2),
    explains=(
        "label-noise", "class-imbalance", "unscaled-inputs", "model", "step", "terrain", "generalisation",
    ),
    source=_SOURCE,
)  # fmt: skip
def uninformative_inputs(run: Run) -> Verdict:
    """Neither the run, nor what was tried beside it, nor trees of our own beat a guess on held-out data."""
    if table(run, "data").get("same") and (how := progress(run)).standing and not how.diverged:
        return _same()
    if (reason := missing(run, "signal")) is not None:
        return Unknown(reason)
    signal: Mapping[str, Any] = run.facts["signal"]
    said = f"cross-validated trees rank the targets {signal['z']:.1f} deviations above chance"
    if signal["z"] >= CHANCE:
        return Clear(said)
    straight = float(signal.get("linear", -math.inf))
    if straight >= CHANCE:
        return Clear(
            f"a cross-validated linear model ranks the targets {straight:.1f} deviations above chance"
        )
    if max(signal["z"], straight) >= FAINT:
        by = (
            said
            if signal["z"] >= straight
            else f"a linear model ranks them {straight:.1f} deviations above it"
        )
        return Unknown(f"{by}: a faint signal, or none")
    if MEDIUM * math.sqrt(signal["n"] * _mixture(run)) < CHANCE:
        of = "" if signal["n"] * MEDIUM**2 < CHANCE**2 else ", nearly all of one class,"
        return Unknown(f"{said}, but {signal['n']} examples{of} are too few to miss what there may be")
    if signal.get("wrong") is not None:
        return Clear(f"{said}, but trees that learnt from the training part tell the validation targets")
    best, guessing = held_out_share(run), max(GUESSING, CHANCE * held_out_error(run))
    if best is None:
        return Clear(f"{said}, but no held-out score says that the run only guesses")
    # A metric's constant can lie below a guess (F1 of no label at all, the majority of another part); a
    # loss of the best epoch that is no lower than a constant's says by itself that nothing was told.
    by_loss = held_out_share(run, by_loss=True)
    if best > guessing and (by_loss is None or by_loss > TOLD):
        return Clear(f"{said}, but something got {min(best, 1.0):.0%} of the way on held-out data")
    watched = signal.get("watched")
    return Finding(
        symptom="uninformative-inputs",
        title="the inputs say nothing about the target",
        severity="warning" if watched else "critical",
        evidence=Evidence(
            name="ranking of held-out targets by cross-validated trees",
            value=signal["z"],
            threshold=FAINT,
            unit="deviations above chance",
            provenance="one in 44 by chance; a linear model and the run itself have to guess as well",
        ),
        message=f"On {signal['n']} examples {said}, and the run does not beat a constant"
        + (
            ": neither trees nor a linear model find anything about the target in these inputs."
            if watched
            else " on held-out data: nothing about the target can be told from these inputs."
        ),
        remedies=(
            Advice("check that inputs and targets belong together row by row, and that no feature was lost"),
        ),
        source=_SOURCE,
    )


def _same() -> Finding:
    """Of examples that differ in their targets and in nothing else."""
    return Finding(
        symptom="uninformative-inputs",
        title="all examples have the same inputs",
        severity="critical",
        evidence=Evidence(
            name="examples whose inputs differ from the first one's",
            value=0.0,
            threshold=0.0,
            unit="examples",
            provenance="of equal inputs any model makes equal outputs: a constant",
        ),
        message="All examples have the same inputs, and their targets differ: the model can only answer all "
        "of them alike, and a constant guess is the best there is.",
        remedies=(
            Advice("look at the inputs as the model is given them: one row, or a constant, stands for all"),
        ),
        source=_SOURCE,
    )


def _mixture(run: Run) -> float:
    """Variance of the classes in that of equal ones, which a ranking needs as much as it needs examples; 1 of
    numbers.

    Of 512 examples with one in thirty of a class, 1.6 deviations apart, trees miss what there is.
    """
    target: Mapping[str, Any] = table(run, "data").get("target") or {}
    counts: list[int] = target.get("counts") or []
    whole = sum(counts)
    if len(counts) < 2 or not whole:
        return 1.0
    return (1.0 - sum((each / whole) ** 2 for each in counts)) * len(counts) / (len(counts) - 1)
