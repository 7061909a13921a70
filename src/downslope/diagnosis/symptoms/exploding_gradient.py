"""Exploding gradient. On the way back through the layers, or through time, the gradient grows without bound.

A user sees a loss that is thrown up or becomes NaN in the first steps, and gradients of thousands in the
early layers. Each layer multiplies by its weights; a factor above 1, fifty times over, is anything. What
looks like it and is not: a learning rate that is too high on sound gradients, and inputs out of scale, which
make the first layer's gradient large and no other.
Source: Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Edit, Reinitialise, SetRecipe
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.clipped import bounded
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Verdict, symptom

GROWN = 50.0
"""Gradient per weight of the early layers in that of the late ones, or of early time steps in that of late
ones, before the first step; the mirror of `vanishing_gradient.FADED`."""

CERTAIN = 20.0
"""Factor beyond it at which, without a trial, a run that is lost is put down to it."""

_SOURCE = "Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013"


@symptom(
    "exploding-gradient",
    title="the gradient grows on its way back",
    order=("model", 5),
    needs=("start",),
    explains=("learning-rate-too-high", "dead-units", "saturated-units", "cliff", "oscillation"),
    source=_SOURCE,
)
def exploding_gradient(run: Run) -> Verdict:
    """The gradient grows by orders of magnitude from late to early layers or steps, and the run suffers."""
    ratio, where, what = _grown(run)
    if ratio is None:
        return Clear("fewer than three layers, and no recurrence: no gradient can grow on the way")
    if ratio <= GROWN:
        return Clear(f"the gradient of the early {what} is {ratio:.2g} of that of the late ones")
    how = progress(run)
    if not how.ended_far:
        return Clear(f"the early {what} get {ratio:.2g} of the gradient, but the run does well with it")
    severity = settle(run, "exploding-gradient", strong=ratio > CERTAIN * GROWN and how.standing)
    if severity is None:
        return Clear(
            f"the early {what} get {ratio:.2g} of the gradient; {refuted(run, 'exploding-gradient')}"
        )
    return Finding(
        symptom="exploding-gradient",
        title="the gradient grows on its way back",
        severity=severity,
        where=Where(modules=where),
        evidence=Evidence(
            name=f"gradient of the early {what} in that of the late ones",
            value=ratio,
            threshold=GROWN,
            provenance="1 keeps it; the mirror of vanishing-gradient; bench/diagnosis",
        ),
        also=proved(run, "exploding-gradient"),
        message=f"The early {what} get {ratio:.2g} times the gradient of the late ones before the first step."
        + tried(run, "exploding-gradient"),
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _grown(run: Run) -> tuple[float | None, tuple[str, ...], str]:
    """The larger of the growth through layers and through time, where, and which."""
    rows: Sequence[Mapping[str, Any]] = run.facts["start"]["layers"]
    layers = [each for each in rows if each["trainable"] and math.isfinite(each.get("grad_rms") or math.nan)]
    through: list[tuple[float, tuple[str, ...], str]] = []
    if len(layers) >= 3:
        late = float(layers[-1]["grad_rms"])
        tops = [float(each["grad_rms"]) for each in layers[:-1]]
        # The first layer alone may be large because of its inputs: the second has to be as well.
        ratio = sorted(tops)[-2] / late
        names = tuple(str(each["name"]) for each in layers[:-1] if each["grad_rms"] > GROWN * late)
        through.append((ratio, names, "layers"))
    lags: Mapping[str, Any] = run.facts.get("lags") or {}
    if lags.get("ratio"):
        through.append((float(lags["ratio"]), tuple(lags["modules"]), "time steps"))
    return max(through, key=lambda each: each[0]) if through else (None, (), "layers")


def _remedies(run: Run) -> tuple[Edit, ...]:
    clip = SetRecipe({"clip_norm": 1.0})
    return (Reinitialise("auto"),) if bounded(run) else (clip, Reinitialise("auto"))
