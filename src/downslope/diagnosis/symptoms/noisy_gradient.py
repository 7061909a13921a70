"""Noisy gradient. The steps wander: what one batch says is mostly about that batch.

A user sees a loss that falls fast at first and then hops about at a level that is too high; a smaller rate or
a larger batch brings it down. With the rate held, the noise of the batches keeps the weights at a distance
from the minimum that is proportional to rate x noise / batch. How we know: the gradient noise scale, the
batch size at which signal and noise are equal, is many times the batch. What looks like it and is not: the
end of a good run, where the gradient is all noise because the minimum is reached. A method that divides by
the curvature of its batch wanders further: there the two halves of a batch are compared.
Source: McCandlish, Kaplan, Amodei et al. 2018, section 2.2; Bottou, Curtis and Nocedal 2018, section 4.2;
Byrd, Chin, Neveitt and Nocedal 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Edit, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom
from downslope.terrain.ground.halves import ALLOWED, STRAY

NOISY = 10.0
"""Noise scale in the batch size: the signal is then less than a tenth of a step."""

ENOUGH = 100
"""Steps of the remedy by a larger batch, where the run had more: each costs as many times more."""

_SOURCE = "McCandlish et al. 2018, section 2.2; Bottou, Curtis and Nocedal 2018, section 4.2"


@symptom(
    "noisy-gradient",
    title="the gradient is mostly noise",
    order=("step", 5),
    explains=("plateau", "high-bias"),
    source=_SOURCE,
)
def noisy_gradient(run: Run) -> Verdict:
    """The noise scale is far above the batch size in a run that ended far from what is reachable."""
    if (found := _halved(run)) is not None:
        return _curved(run, found)
    if (reason := missing(run, "noise")) is not None:
        return Unknown(reason)
    noise: Mapping[str, Any] = run.facts["noise"]
    ratio, said, how = noise.get("ratio"), _said(noise), progress(run)
    small = ratio is not None and ratio < NOISY
    if small and not _open(noise):
        return Clear(said)
    if not how.ended_far or how.standing:
        return Clear(
            f"{said}, " + ("and the run learnt nothing to lose" if how.standing else "and the run came far")
        )
    if small:
        return Unknown(f"{said}: within its error of the limit of {NOISY:.2g}")
    severity = settle(run, "noisy-gradient", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'noisy-gradient')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="noisy-gradient",
        title="the gradient is mostly noise",
        severity=severity,
        evidence=Evidence(
            name="gradient noise scale in the batch size",
            value=float(ratio if ratio is not None else 1e9),
            threshold=NOISY,
            provenance="at 1 signal and noise are equal (McCandlish et al. 2018)",
        ),
        also=proved(run, "noisy-gradient"),
        message=f"{said[0].upper()}{said[1:]}: the steps wander about.{tried(run, 'noisy-gradient')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _halved(run: Run) -> Mapping[str, Any] | None:
    """What a method that divides by curvature met in its batches; None where they were large enough."""
    found = (run.facts.get("halves") or {}) | (run.facts.get("climbed") or {})
    return found if found.get("curvature") is not None else None


def _curved(run: Run, found: Mapping[str, Any]) -> Verdict:
    """Of a method that divides by the curvature of a batch, whose halves do not agree on it."""
    how, batch = progress(run), int(found["batch"])
    said = (
        f"on batches of {batch} the curvature of two halves differs by {found['curvature']:.0%} and the "
        f"gradient by {found['slope']:.0%}"
    )
    if found.get("end") is not None:
        said += f", and the loss went from {found['start']:.3g} to {found['end']:.3g}"
    if not how.ended_far:
        return Clear(f"{said}, and the run came far")
    strong = found["curvature"] > 2 * ALLOWED or found["slope"] > 2 * STRAY or "end" in found
    severity = settle(run, "noisy-gradient", strong=strong)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'noisy-gradient')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    by_curvature = found["curvature"] / ALLOWED >= found["slope"] / STRAY
    return Finding(
        symptom="noisy-gradient",
        title="the curvature of a batch is mostly noise",
        severity=severity,
        evidence=Evidence(
            name=f"difference of the {'curvature' if by_curvature else 'gradient'} of two halves of a batch",
            value=float(found["curvature" if by_curvature else "slope"]),
            threshold=ALLOWED if by_curvature else STRAY,
            unit="share",
            provenance="a step is then right to a quarter, or to half (Byrd et al. 2011); convention",
        ),
        also=proved(run, "noisy-gradient"),
        message=f"{said[0].upper()}{said[1:]}: steps that divide by the one and go along the other go down "
        f"on their own batch alone.{tried(run, 'noisy-gradient')}",
        remedies=_larger(run, batch, int(found["needed"])),
        source="Byrd, Chin, Neveitt and Nocedal 2011",
    )


def _larger(run: Run, batch: int, needed: int) -> tuple[Edit, ...]:
    """A batch whose halves agree, and the whole set, for as many steps as the run had or `ENOUGH`."""
    recipe, problem = run.recipe, run.problem
    source = None if problem is None else problem.train_source
    if recipe is None or not isinstance(source, Memory):
        return ()
    taken = int(run.summary.get("steps") or 1)
    if recipe.steps is not None:
        changes, before = dict[str, Any](), dict[str, Any]()
    else:
        changes, before = {"steps": min(taken, ENOUGH)}, {"epochs": recipe.epochs}
    sizes: list[int | str] = [needed] if batch < needed < source.size else []
    return tuple(
        SetRecipe({"batch_size": size, **changes}, {"batch_size": recipe.batch_size} | before)
        for size in [*sizes, "full"]
    )


def _said(noise: Mapping[str, Any]) -> str:
    """The noise scale in words, with what its standard errors leave open."""
    ratio, low, high = (noise.get(key) for key in ("ratio", "low", "high"))
    if ratio is None:
        least = f" (at least {low:.2g} times the batch)" if low else ""
        return f"no signal stands out of the noise of the batches{least}"
    said = f"the noise scale is {ratio * noise['batch']:.3g} examples, {ratio:.2g} times the batch"
    if low is None:
        return said
    return f"{said} (from {low:.2g} to {high:.2g})" if high is not None else f"{said} (at least {low:.2g})"


def _open(noise: Mapping[str, Any]) -> bool:
    """Whether the limit lies within the error of a noise scale below it; of older runs no error is known."""
    high = noise.get("high")
    return noise.get("low") is not None and (high is None or high >= NOISY)


def _remedies(run: Run) -> tuple[Edit, ...]:
    recipe = run.recipe
    if recipe is None:
        return ()
    edits: list[Edit] = []
    if recipe.schedule is None:
        edits.append(SetRecipe({"schedule": "cosine"}))
    if isinstance(recipe.batch_size, int):
        size = recipe.batch_size * 8
        edits.append(SetRecipe({"batch_size": size}, {"batch_size": recipe.batch_size}))
    return tuple(edits)
