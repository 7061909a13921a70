"""Vanishing gradient. The late layers learn, the early ones stay where they started.

Each layer multiplies the gradient by its weights and by the slope of its activation; a sigmoid's slope is at
most 1/4, so five of them leave a thousandth. It shows as a gradient that falls by orders of magnitude from
the last layer to the first. What looks like it and is not: a deep sigmoid net that learns all the same,
frozen layers, a last layer that starts at zero, a gradient that is small everywhere because the run has
arrived, and one that rectified units cut off, dead before the first step: those are the cause then.
Source: Hochreiter 1991; Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downslope.core.edits import Advice, Combined, Edit, Reinitialise, ReplaceCall, ReplaceModule
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.modules import called
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

FADED = 0.02
"""Gradient of the first layer in that of the largest later one, per weight, before the first step."""

CERTAIN = 20.0
"""Factor below it at which, without a trial, a run that stands still is put down to it."""

DEAD = 0.95
"""Share of a layer's units that are zero for every example before the first step, from which those cut the
gradient off and no depth does: the limit at which dead units are certain."""

_SQUASHING = ("sigmoid", "tanh", "hardsigmoid", "hardtanh")
_SOURCE = "Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010, section 4.2"


@symptom(
    "vanishing-gradient",
    title="the gradient does not reach the early layers",
    order=("model", 5),
    needs=("start",),
    explains=("learning-rate-too-low", "dead-units", "plateau", "too-few-steps", "high-bias"),
    source=_SOURCE,
)
def vanishing_gradient(run: Run) -> Verdict:
    """The gradient per weight shrinks by orders of magnitude from late to early layers, and the run
    suffers.
    """
    layers = [
        layer
        for layer in run.facts["start"]["layers"]
        if layer["trainable"] and layer.get("grad_rms") is not None
    ]
    if len(layers) < 3:
        return (
            Clear("fewer than three layers: no gradient can fade on the way")
            if layers
            else Unknown("no gradient was measured before the first step")
        )
    if not all(math.isfinite(layer["grad_rms"]) for layer in layers):
        return Unknown("the gradient before the first step is not finite")
    zeros = [str(each["name"]) for each in layers[1:] if not each["weight_rms"]]
    if zeros and not layers[0]["grad_rms"]:
        return Clear(f"no gradient comes through {zeros[-1]} before it has moved: its weights start at zero")
    ratio, where = _faded(layers)
    evidence = Evidence(
        name="gradient per weight of the early layers in that of the late ones",
        value=ratio,
        threshold=FADED,
        provenance="a factor 1/4 x gain for each sigmoid (Glorot and Bengio 2010); bench/diagnosis",
    )
    if ratio >= FADED:
        return Clear(f"{evidence.name} is {ratio:.2g}")
    if not progress(run).ended_far:
        return Clear(f"{evidence.name} is {ratio:.2g}, but the run does well with it")
    if (cut := _cut_off(run)) is not None:
        return Clear(f"{evidence.name} is {ratio:.2g}, since the units of {cut} are dead from the start")
    how, remedies = progress(run), _remedies(run)
    halfway = how.share is not None and how.reachable is not None and how.share < 0.5
    strong = ratio * CERTAIN < FADED and (how.standing or (halfway and not remedies[0].provable))
    severity = settle(run, "vanishing-gradient", strong=strong)
    if severity is None:
        return Clear(f"{evidence.name} is {ratio:.2g}; {refuted(run, 'vanishing-gradient')}")
    return Finding(
        symptom="vanishing-gradient",
        title="the gradient does not reach the early layers",
        severity=severity,
        where=Where(modules=where),
        evidence=evidence,
        also=proved(run, "vanishing-gradient"),
        message=f"The early layers get {ratio:.2g} of the gradient of the late ones before the first step."
        f"{tried(run, 'vanishing-gradient')}",
        remedies=remedies,
        source=_SOURCE,
    )


def _faded(layers: Sequence[Mapping[str, Any]]) -> tuple[float, tuple[str, ...]]:
    """Gradient of the first layer in that of the largest after it, and the layers that get too little."""
    grads = [float(layer["grad_rms"]) for layer in layers]
    top = max(grads[1:])
    if top <= 0:
        return 1.0, ()
    weak = tuple(str(layer["name"]) for layer, g in zip(layers, grads, strict=True) if g < FADED * top)
    return grads[0] / top, weak


def _cut_off(run: Run) -> str | None:
    """The activation whose units are dead before the first step and at the end: nothing comes back through
    it.
    """
    probe = run.probes.get("dead_fraction")
    if probe is None or not len(probe.values):
        return None
    share = np.nan_to_num(probe.values[[0, -1]], nan=0.0).min(axis=0)
    if probe.steps[0] > 1 or not share.size or share.max() < DEAD:
        return None
    return called(run.facts, probe.modules[int(share.argmax())])


def _in_forward(run: Run, name: str) -> ReplaceCall:
    """A ReLU where the forward calls a squashing function, but for one that ends the model."""
    output: Mapping[str, Any] = run.facts.get("output") or {}
    ends = output.get("activation") == name and output.get("module") is None
    return ReplaceCall(name, "relu", "hidden" if ends else "all")


def _remedies(run: Run) -> tuple[Edit, ...]:
    """ReLU in the place of squashing hidden activations where they are modules, and a start that fits."""
    activations: Mapping[str, Mapping[str, Any]] = run.facts.get("activations") or {}
    last = (run.facts.get("output") or {}).get("module")
    squashing = [
        name
        for name, said in activations.items()
        if said.get("kind") in _SQUASHING and "+" not in name and name != last
    ]
    redraw = Reinitialise("auto")
    if squashing:
        swap = tuple(ReplaceModule(name, "torch.nn:ReLU") for name in squashing)
        return (Combined((*swap, redraw)), redraw)
    called = sorted({str(said["kind"]) for said in activations.values() if said.get("kind") in _SQUASHING})
    if called:
        advice = Advice(
            f"put relu in the place of {' and '.join(called)} in the forward, or a norm layer before"
        )
        if run.problem is None:
            return (advice, redraw)
        return (Combined((*(_in_forward(run, name) for name in called), redraw)), advice, redraw)
    return (redraw,)
