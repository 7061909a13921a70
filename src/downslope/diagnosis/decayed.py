"""Whether weight decay alone shrank the weights to nothing: as fast as it does where nothing holds them.

Coupled decay takes ``lr * weight_decay / (1 - momentum)`` of the weights a step under descent; where steps
are normalised (Adam, RMSprop) it takes ``lr`` off every weight, if it outweighs the gradient. Decoupled decay
takes ``lr * weight_decay``, beside steps of about ``lr``. Everything here is pure.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from downslope.core.history import Floats
from downslope.core.run import Run
from downslope.diagnosis.progress import table

LEFT = 0.02
"""Norm of a hidden layer's weights in that before the first step from which nothing is left of it. Of some
400 made runs those that learnt kept 0.2, or 0.04 before batch norm; those whose decay took all had 0.004."""

MEMORIES = 5.0
"""Memories of the decay (steps in which it takes all but 1/e) that the run has to be long. Convention."""

OUTWEIGHS = 1.0
"""Decay in the gradient before the first step, median over the hidden layers, from which it is the larger;
with decoupled decay in a normalised step. Of the made runs usual decays had 1e-4 to 0.1, those that let
nothing be learnt 1.9 up."""

ALIVE = 1e-4
"""Gradient in the weights before the first step, median over the hidden layers, from which they were told
anything: without a gradient they shrink under any decay, and that is none of its making."""

GROWN = 1.5
"""Norm in that before the first step beyond which a step threw the weights before they shrank."""

_DESCENT = ("sgd", "momentum", "nesterov")
_NORMALISED = ("adam", "nadam", "radam", "adamax", "rmsprop")
_APART = ("adamw", "adan", "ademamix", "lion", "cautious_adamw", "cautious_lion", "muon", "soap")


class Decayed(NamedTuple):
    """What the decay left of the hidden layers."""

    left: float
    """The largest norm of a layer at the end in its own before the first step."""
    modules: tuple[str, ...]
    """The layers."""
    rate: float
    """Share of the weights that the decay takes a step, at the highest rate."""
    outweighs: float
    """Decay in the gradient before the first step, median over the layers."""
    step: int
    """The first probed step at which next to nothing of them was left."""


def decayed(run: Run) -> Decayed | None:
    """What is left of the hidden layers, where weight decay shrank them all to nothing; None where not.

    Args:
        run: Any run; whether it learnt something is not asked.
    """
    rule = _rule(run)
    decay = float(rule.get("weight_decay") or 0.0)
    if decay <= 0 or not {"weight_norm", "grad_norm"} <= set(run.probes):
        return None
    names = _hidden(run)
    steps, norms, slopes = _rows(run, names)
    if not names or len(steps) < 2 or not (norms[0] > 0).all():
        return None
    shares = norms / norms[0]
    gone = np.flatnonzero((shares <= LEFT).all(axis=1))
    if not len(gone) or not (shares[-1] <= LEFT).all() or (shares > GROWN).any():
        return None
    size = _rms(run, names, norms[0])
    outweighs = float(np.median(decay * _against(rule, norms[0], slopes, size)))
    alive = float(np.median(slopes / norms[0])) >= ALIVE
    rates = _rates(run, int(steps[-1]))
    enough = _fall(rule, rates[: int(steps[gone[0]])], size) >= -math.log(LEFT)
    if not alive or outweighs < OUTWEIGHS or not enough or _fall(rule, rates, size) < MEMORIES:
        return None
    taken = 1 - math.exp(-_fall(rule, rates[rates.argmax()][None], size))
    return Decayed(float(shares[-1].max()), names, taken, outweighs, int(steps[gone[0]]))


def _rule(run: Run) -> Mapping[str, Any]:
    """The optimizer's settings by torch's names, and ``name``."""
    seen = table(run, "optimizer")
    if run.recipe is None or seen:
        return seen
    own: dict[str, Any] = {"name": str(run.recipe.optimizer), "weight_decay": run.recipe.weight_decay}
    return own | run.recipe.settings | {"lr": run.recipe.lr}


def _hidden(run: Run) -> tuple[str, ...]:
    """The layers with weights before the last one, whose bias learns what a constant can be."""
    known = table(run, "modules")
    names = [n for n in run.probes["weight_norm"].modules if not (known.get(n) or {}).get("norm")]
    grads = run.probes["grad_norm"].modules
    return tuple(n for n in names[:-1] if n in grads)


def _rows(run: Run, names: Sequence[str]) -> tuple[Any, Any, Any]:
    """Probed steps and the norms of the weights at them, shape (steps, names); the first gradients."""
    probe, grads = run.probes["weight_norm"], run.probes["grad_norm"]
    norms = np.stack([probe.of(n) for n in names], 1) if names else np.ones((0, 0))
    sound = np.isfinite(norms).all(axis=1)
    first = np.array([grads.of(n)[0] if len(grads.of(n)) else 0.0 for n in names])
    return np.asarray(probe.steps)[sound], norms[sound], np.nan_to_num(first, posinf=0.0)


def _rms(run: Run, names: Sequence[str], norms: Any) -> float:
    """Root mean square of the weights before the first step, median over the layers; 0 where not known."""
    known: Mapping[str, Mapping[str, Any]] = table(run, "modules")
    counts = [float(known[n].get("parameters") or 0) if n in known else 0.0 for n in names]
    sizes = [norm / math.sqrt(count) for norm, count in zip(norms, counts, strict=True) if count]
    return float(np.median(sizes)) if sizes else 0.0


def _decoupled(rule: Mapping[str, Any]) -> bool:
    own = rule.get("decoupled_weight_decay") or rule.get("use_decoupled_weight_decay")
    return rule.get("name") in _APART or bool(own)


def _against(rule: Mapping[str, Any], norms: Any, slopes: Any, size: float) -> Any:
    """What the decay is multiplied by to be compared with the gradient, or with a step of size 1."""
    return size * np.ones(1) if _decoupled(rule) else norms / np.maximum(slopes, 1e-30)


def _rates(run: Run, last: int) -> Floats:
    """The learning rate of each step up to `last`."""
    series = run.history.series("lr")
    if not len(series.steps):
        return np.full(max(last, 1), float(_rule(run).get("lr") or 0.0))
    at = np.searchsorted(series.steps, np.arange(1, last + 1), side="right") - 1
    values: Floats = series.values[np.maximum(at, 0)]
    return np.where(np.isfinite(values), values, 0.0)


def _fall(rule: Mapping[str, Any], rates: Any, size: float) -> float:
    """By how many factors of e decay alone shrinks weights of that size in steps at these rates.

    0 for a method whose decay is not known.
    """
    decay, name = float(rule.get("weight_decay") or 0.0), rule.get("name")
    if _decoupled(rule):
        return float(-np.log(np.clip(np.abs(1 - rates * decay), 1e-6, None)).sum())
    if name in _NORMALISED:
        spent = float(rates.sum()) / max(size, 1e-30)
        return spent if spent < MEMORIES else math.inf
    if name not in _DESCENT:
        return 0.0
    momentum = float(rule.get("momentum") or 0.0)
    taken: dict[float, float] = {
        float(each): _descent(float(each) * decay, momentum, nesterov=name == "nesterov")
        for each in np.unique(rates)
    }
    return float(sum(taken[float(each)] for each in rates))


def _descent(pull: float, momentum: float, *, nesterov: bool) -> float:
    """Factors of e a step of ``v = m v + pull w, w = w - v``: by the larger root of its recurrence.

    About ``pull / (1 - momentum)`` where that is small. Polyak 1964.
    """
    drag = pull * (1 + momentum) if nesterov else pull
    carried = momentum * (1 - pull) if nesterov else momentum
    middle = 1 + momentum - drag
    root = cmath.sqrt(middle * middle - 4 * carried)
    largest = max(abs(middle + root), abs(middle - root)) / 2
    return -math.log(max(largest, 1e-6))
