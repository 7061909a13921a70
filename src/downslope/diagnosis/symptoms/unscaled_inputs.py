"""Unscaled inputs. The run crawls, or needs a tiny learning rate; one feature drowns the others.

The Hessian of the first layer is the covariance of its inputs times what comes after: inputs with a root mean
square of 100 make it 10,000 times as sharp in one direction and leave it flat in others. It looks like a bad
learning rate. Networks that bring their inputs to scale themselves, and adaptive methods on mildly unscaled
data, do not suffer; therefore the symptom needs a run that ended far from what is reachable, a first layer
that is given such inputs, and a trial where one can be had. Source: LeCun, Bottou, Orr and Müller 1998,
Efficient BackProp, section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Combined, Edit, SetRecipe, StandardiseInputs
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.early import inflated, thrown
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import proved, refuted, settle, tried, trying
from downslope.diagnosis.rates import own_rate
from downslope.diagnosis.structure import barred
from downslope.diagnosis.symptom import STEPS, Clear, Unknown, Verdict, missing, symptom

LARGE = 5.0
"""Root mean square of a feature beyond which it counts as unscaled: 5 times that of a standardised one."""

SMALL = 0.05
"""The same from below."""

OFFSET = 5.0
"""Mean of a typical feature in its own deviations."""

CERTAIN = 6.0
"""Factor beyond these limits at which, without a trial, a run that stands still is put down to the scale."""

TINY = 1e-5
"""Learning rate below which nobody trains by choice; one held down by the curvature of the inputs is too."""

_SOURCE = "LeCun et al. 1998, Efficient BackProp, section 4.3"
_PROVENANCE = "convention: inputs with mean 0 and deviation 1 (LeCun et al. 1998, 4.3); bench/diagnosis"


@symptom(
    "unscaled-inputs",
    title="inputs of the wrong scale",
    order=("data", 1),
    explains=("unstable-objective", "model", "terrain", *STEPS, "high-bias"),
    source=_SOURCE,
)
def unscaled_inputs(run: Run) -> Verdict:
    """A feature's scale or offset is far from 1, and it costs the run a material share of its way."""
    if (reason := missing(run, "features")) is not None:
        same = table(run, "data").get("same")
        return Unknown("all examples have the same inputs: they have no scale" if same else reason)
    features: Mapping[str, Any] = run.facts["features"]
    name, value, limit, excess = _furthest(features)
    if excess < 1:
        return Clear(f"largest feature has root mean square {features['max_rms']:.3g}")
    unknown = inflated(run) and not progress(run).ended_far
    if not progress(run).ended_far and not unknown:
        return Clear(f"{name} is {value:.3g}, but the run does well with it")
    entry = _entry(run)
    inside = entry is not None and _furthest(entry)[3] < 1
    if entry is not None and inside and not trying(run):
        return Clear(f"{name} is {value:.3g}; the model brings it to {entry['max_rms']:.3g} before any layer")
    if (why := barred(run, "unscaled-inputs")) is not None:
        return Unknown(f"{name} is {value:.3g}; {why}")
    beyond = excess > CERTAIN or thrown(run)
    strong = (progress(run).standing or unknown) and beyond and not inside
    if unknown and not (strong and _held_down(run, features["max_rms"])):
        return Unknown(
            f"{name} is {value:.3g}, and a first loss of that making says not how far the run came"
        )
    severity = settle(run, "unscaled-inputs", strong=strong)
    if severity is None:
        return Clear(f"{name} is {value:.3g}; {refuted(run, 'unscaled-inputs')}")
    return Finding(
        symptom="unscaled-inputs",
        title="inputs of the wrong scale",
        severity=severity,
        evidence=Evidence(
            name=name, value=value, threshold=limit, unit="input units", provenance=_PROVENANCE
        ),
        also=proved(run, "unscaled-inputs"),
        message=f"The {name} is {value:.3g} (about {0 if name.startswith('mean') else 1} is wanted)."
        + tried(run, "unscaled-inputs"),
        remedies=(_standardised(run, features), *_smaller_step(run, features["max_rms"])),
        source=_SOURCE,
    )


def _furthest(features: Mapping[str, Any]) -> tuple[str, float, float, float]:
    """Name, value and limit of what is furthest out of range, and how many times its limit that is."""
    rms, offset = features["max_rms"], features["offset_ratio"]
    measured = [
        ("root mean square of the largest feature", rms, LARGE, rms / LARGE),
        ("root mean square of the largest feature", rms, SMALL, SMALL / rms),
        ("mean of a typical feature in its deviations", offset, OFFSET, offset / OFFSET),
    ]
    return max(measured, key=lambda row: row[3])


def _entry(run: Run) -> Mapping[str, Any] | None:
    """The features as the first layer is given them; None where another module may have had them first."""
    layers: Sequence[Mapping[str, Any]] = table(run, "start").get("layers") or ()
    modules: Mapping[str, Mapping[str, Any]] = table(run, "modules")
    first = next((name for name, each in modules.items() if each["parameters"] and not each["norm"]), None)
    return layers[0].get("entry") if layers and layers[0]["name"] == first else None


def _held_down(run: Run, rms: float) -> bool:
    """Whether the rate is tiny, and no larger than the curvature that the inputs give the first layer lets
    it be.
    """
    lr = own_rate(run)
    return lr is not None and lr < TINY and lr * rms**2 <= 1


def _standardised(run: Run, features: Mapping[str, Any]) -> Edit:
    """Inputs to scale; a rate that they held down goes back up with the curvature that they gave.

    By the mean square of all features: the sum of the first layer's curvatures falls by that, and the largest
    of them by no less where one feature is most of the sum.
    """
    lr = own_rate(run)
    if run.recipe is None or not lr or not _held_down(run, features["max_rms"]):
        return StandardiseInputs()
    freed = float(f"{lr * features['rms'] ** 2:.1g}")
    return Combined((StandardiseInputs(), SetRecipe({"lr": freed}, {"lr": lr})))


def _smaller_step(run: Run, rms: float) -> tuple[Edit, ...]:
    """The rate divided by the square of the scale, as which the first layer's curvature grows."""
    lr = own_rate(run)
    if run.recipe is None or not lr or rms <= 1 or _held_down(run, rms):
        return ()
    return (SetRecipe({"lr": float(f"{lr / rms**2:.1g}")}, {"lr": lr}),)
