"""Scale of the initial weights. The signal dies out or explodes on its way through the untrained layers.

A layer multiplies the size of what it is given by about (weight rms) x sqrt(fan in): 1.41 under ReLU keeps it
(He), 0.58 is torch's default. Weights that are all of one sign pass on the sum of what they are given and
little else: all units say the same. What looks like it and is not: a last layer that starts at zero, and any
scale in front of a norm layer.
Source: Glorot and Bengio 2010; He, Zhang, Ren and Sun 2015, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Reinitialise
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.bare import no_layer
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.spent import spent
from downslope.diagnosis.symptom import STEPS, Clear, Unknown, Verdict, symptom

LARGE = 4.0
"""Gain of a layer, (weight rms) x sqrt(fan in), beyond which its weights count as large; He's rule has
1.41."""

SMALL = 0.15
"""The same from below; torch's default has 0.58, and normal(0, 0.01) on 784 inputs 0.28."""

CERTAIN = 3.0
"""Factor beyond these limits at which, without a trial, a run that stands still is put down to them."""

FIRST = 5.0
"""First loss in those of the best constant prediction; a sound start lies near 1."""

FADING = 0.02
"""Deviation over examples at the last layer's input in that at the first layer's output."""

LEANING = 0.5
"""Mean of a hidden layer's weights in their root mean square; drawn from 0 to 1 they have 0.87."""

_CHANCE = 4.0
"""Standard errors beyond which such a mean is none of chance."""

_LEAN = "mean of the weights in their root mean square"
_ALL = ": most are of one sign, and all units say nearly the same"
_GAIN = "gain (weight rms x sqrt(fan in))"
_SOURCE = "Glorot and Bengio 2010; He et al. 2015, section 2.2"


@symptom(
    "init-scale",
    title="initial weights of the wrong scale",
    order=("model", 2),
    needs=("start",),
    explains=("vanishing-gradient", "exploding-gradient", "dead-units", "saturated-units", "terrain", *STEPS),
    source=_SOURCE,
)
def init_scale(run: Run) -> Verdict:
    """Weights far larger or far smaller than a start needs, in a run that suffers."""
    layers: Sequence[Mapping[str, Any]] = run.facts["start"]["layers"]
    if not layers and not _loose(run):
        return Unknown(no_layer(run))
    worst = max(_measured(run, layers), key=lambda row: row[1])
    evidence, excess, where = worst
    if excess < 1:
        gains = [float(each["gain"]) for each in (*layers, *_loose(run))]
        return Clear(f"gains of the layers {min(gains):.2g} to {max(gains):.2g}")
    if not progress(run).ended_far:
        return Clear(f"{evidence}, but the run does well with it")
    if _single(run, layers) and _rose(run):
        return Clear(f"{evidence}, but of a single matrix the start does not say which rate is stable")
    severity = settle(
        run, "init-scale", strong=excess > CERTAIN and progress(run).standing and not _unmoved(run)
    )
    if severity is None:
        return Clear(f"{evidence}; {refuted(run, 'init-scale')}")
    return Finding(
        symptom="init-scale",
        title="initial weights of the wrong scale",
        severity=severity,
        where=Where(modules=where),
        evidence=evidence,
        also=proved(run, "init-scale"),
        message=f"Before the first step the {evidence.name} is {evidence.value:.3g} (limit "
        f"{evidence.threshold:.3g}){_ALL if evidence.name == _LEAN else ''}.{tried(run, 'init-scale')}",
        remedies=(Reinitialise("auto"), Reinitialise("xavier")),  # the second starts smaller
        source=_SOURCE,
    )


def _unmoved(run: Run) -> bool:
    """Whether a schedule took the rate away at once, before any step could have mended a start.

    Any start stands where nothing moves it, and a sound rate brings most of them down.
    """
    gone = spent(run)
    return gone is not None and gone.starved(progress(run))


def _single(run: Run, layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the model is linear in all that it has: one matrix, and nothing that bends behind it.

    Then the curvature of the squared error is that of the inputs, wherever the weights begin, and that of
    the cross-entropy is largest where they are small: a loss that rises is the step's doing.
    """
    bends: Mapping[str, Any] = run.facts.get("activations") or {}
    return len(layers) + len(_loose(run)) == 1 and not bends


def _rose(run: Run) -> bool:
    """Whether the run ended above its first loss."""
    how = progress(run)
    if how.diverged or how.first is None or how.final is None:
        return how.diverged
    return how.final < how.first if run.maximize else how.final > how.first


def _loose(run: Run) -> Sequence[Mapping[str, Any]]:
    """The matrices that no layer shows: those of recurrences, and those that a module holds itself."""
    return run.facts["start"].get("matrices") or ()


def _measured(run: Run, layers: Sequence[Mapping[str, Any]]) -> list[tuple[Evidence, float, tuple[str, ...]]]:
    """Each criterion: evidence, how far beyond its limit, where."""
    hidden = [layer for layer in layers[:-1] if layer["trainable"]]
    rows: list[tuple[Evidence, float, tuple[str, ...]]] = []
    if layers:
        large = max(layers, key=lambda layer: layer["gain"])
        rows.append(_row(_GAIN, large["gain"], LARGE, large["gain"] / LARGE, large))
    rows += _unseen(_loose(run))
    rows += _leaning([*hidden, *(each for each in _loose(run) if each.get("bare") and each["trainable"])])
    if begun := [layer for layer in hidden if layer["gain"] > 0 or _still(run, layer)]:
        small = min(begun, key=lambda layer: layer["gain"])
        excess = SMALL / max(small["gain"], 1e-12)
        rows.append(_row(_GAIN, small["gain"], SMALL, excess, small))
    if not _squashing(run):
        rows += _fading(layers)
    first, base = run.facts["start"].get("loss"), table(run, "constant").get("loss")
    if first is not None and base is not None and base > 0 and not _data_explains(run):
        rows.append(
            _row("loss in multiples of a constant guess's", first / base, FIRST, first / base / FIRST, None)
        )
    return rows


def _still(run: Run, layer: Mapping[str, Any]) -> bool:
    """Whether a layer of zeros may be one to the end.

    Where its units parted, training has brought it to scale; where they never were alike, something else is
    added to what it makes.
    """
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    known: Mapping[str, Any] = run.facts.get("alike") or ending.get("alike") or {}
    return bool(layer["equal_rows"]) and known.get(str(layer["name"]), {}).get("still", True)


def _unseen(held: Sequence[Mapping[str, Any]]) -> list[tuple[Evidence, float, tuple[str, ...]]]:
    """The same of the matrices that no layer shows; inputs of a recurrence may be few, and are then small."""
    rows: list[tuple[Evidence, float, tuple[str, ...]]] = []
    for each in held:
        name = f"{_GAIN}, or largest eigenvalue," if each["recurrent"] else _GAIN
        rows.append(_row(name, each["gain"], LARGE, each["gain"] / LARGE, each))
        if each["trainable"] and not each["alike"] and (each["recurrent"] or each.get("bare")):
            rows.append(_row(_GAIN, each["most"], SMALL, SMALL / max(each["most"], 1e-12), each))
    return rows


def _leaning(held: Sequence[Mapping[str, Any]]) -> list[tuple[Evidence, float, tuple[str, ...]]]:
    """Weights of one sign; those that are all equal are another symptom."""
    rows: list[tuple[Evidence, float, tuple[str, ...]]] = []
    for each in held:
        count = each["count"] if "count" in each else each["fan_in"] * each["fan_out"]
        lean = float(each.get("lean") or 0.0)
        if not (each.get("equal_rows") or each.get("alike")) and lean * math.sqrt(count) >= _CHANCE:
            rows.append(_row(_LEAN, lean, LEANING, lean / LEANING, each))
    return rows


def _fading(layers: Sequence[Mapping[str, Any]]) -> list[tuple[Evidence, float, tuple[str, ...]]]:
    if len(layers) < 3 or not layers[0]["out_spread"]:
        return []
    last = layers[-2]
    kept = float(last["out_spread"]) / float(layers[0]["out_spread"])
    if not kept > 0:
        return []
    name = "deviation over examples at the last hidden layer in that at the first"
    return [
        _row(name, kept, FADING, FADING / kept, last),
        _row(name, kept, 1 / FADING, kept * FADING, last),
    ]


def _squashing(run: Run) -> bool:
    """Whether activations flatten the signal by themselves: then a signal that fades is not the weights'
    doing.
    """
    activations: Mapping[str, Mapping[str, Any]] = run.facts.get("activations") or {}
    return any(
        said.get("kind") in ("sigmoid", "hardsigmoid", "tanh", "hardtanh") for said in activations.values()
    )


def _data_explains(run: Run) -> bool:
    """Whether inputs or targets out of scale make the first loss large by themselves."""
    features: Mapping[str, Any] = run.facts.get("features") or {}
    target: Mapping[str, Any] = table(run, "data").get("target") or {}
    offset = abs(target.get("mean") or 0.0) > 2 * (target.get("std") or 1.0)
    return features.get("max_rms", 1.0) > 3.0 or (target.get("kind") == "real" and offset)


def _row(
    name: str, value: float, limit: float, excess: float, layer: Mapping[str, Any] | None
) -> tuple[Evidence, float, tuple[str, ...]]:
    provenance = "He et al. 2015: 1.41 keeps the signal under ReLU; bench/diagnosis"
    if name == _LEAN:
        provenance = "drawn from 0 to 1 they have 0.87, from -1 to 1 none but for chance"
    evidence = Evidence(name=name, value=value, threshold=limit, unit="ratio", provenance=provenance)
    return evidence, excess, () if layer is None else (str(layer["name"]),)
