"""Gradients that are clipped to next to nothing, so that no step goes anywhere; pure.

What a chain of `ds.optim` clips by itself is known from its links: its gradients are seen before them.
A gradient whose norm is the same in every step, though the losses of the batches are not, was brought to it:
by `clip_grad_norm_`, or by hand. Where the losses hardly differ either, as of one batch of all the data in a
run that does not move, the norm has to be a round number besides. A recipe says itself what it clips to.
Methods that divide the gradient by its own size undo the clip, unless it is below their eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from downslope.core.run import Run
from downslope.diagnosis.progress import table

FAINT = 1e-3
"""Norm to which nobody clips for stability; 0.1 to 10 is usual, and 1 in torch's and Hugging Face's
examples. Convention."""

ALIKE = 1e-3
"""Spread of the norms in their median up to which they are one number: `clip_grad_norm_` is off by 1e-6 in
the norm before it."""

APART = 0.01
"""Spread of the losses of the same steps from which their gradients cannot have one norm by nature."""

ROUND = 1e-4
"""What a norm may be off a number of one digit, as people write it; 1 in 1200 is by chance."""

FEWEST = 3
"""Sampled steps at least: those of the shortest runs. Convention."""

_PLAIN = ("gd", "sgd", "momentum", "nesterov", "averaged_momentum")
_NORMALISED = ("adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "adamax", "adan", "ademamix")


def bounded(run: Run) -> bool:
    """Whether gradients are known to be clipped already, by the recipe or inside the optimizer."""
    return (run.recipe is not None and run.recipe.clip_norm is not None) or bool(table(run, "clips"))


class Clipped(NamedTuple):
    """To what the gradient is clipped."""

    norm: float
    """Of the whole gradient after it."""
    looks: int
    """Sampled steps that had it; 0 where recipe or optimizer say it."""
    inside: bool = False
    """Whether it is a link of the optimizer's."""


def clipped(run: Run) -> Clipped | None:
    """The norm to which all gradients are clipped, where that leaves a step next to nothing; None otherwise.

    Args:
        run: Any run.
    """
    found = _by_recipe(run) or _by_chain(run) or _by_norms(run)
    return found if found is not None and _matters(run, found.norm) else None


def _by_recipe(run: Run) -> Clipped | None:
    recipe = run.recipe
    if recipe is None:
        return None
    norms = [] if recipe.clip_norm is None else [float(recipe.clip_norm)]
    if recipe.clip_value is not None:
        norms.append(float(recipe.clip_value) * math.sqrt(_count(run)))
    return Clipped(min(norms), 0) if norms else None


def _by_chain(run: Run) -> Clipped | None:
    """By the optimizer's own links, where it shortened the gradients that were sampled."""
    norm, norms = table(run, "clips").get("norm"), run.history.series("grad_norm").values
    if norm is None or not len(norms) or not float(np.median(norms)) > float(norm):
        return None
    return Clipped(float(norm), 0, inside=True)


def _by_norms(run: Run) -> Clipped | None:
    """Of a loop or script, by what its sampled steps were given."""
    series, losses = run.history.series("grad_norm"), run.history.series("train_loss")
    norms = series.values
    if len(norms) < FEWEST or not np.isfinite(norms).all():
        return None
    middle = float(np.median(norms))
    if not middle > 0 or float(np.ptp(norms)) > ALIKE * middle:
        return None
    same = losses.values[np.isin(losses.steps, series.steps)]
    apart = len(same) > 1 and float(np.ptp(same)) > APART * abs(float(np.median(same)))
    digit = float(f"{middle:.0e}")
    return Clipped(middle, len(norms)) if apart or abs(middle - digit) < ROUND * digit else None


def _matters(run: Run, norm: float) -> bool:
    """Whether a gradient of this norm makes a step of next to nothing by the run's method."""
    rule: Mapping[str, Any] = table(run, "optimizer")
    own = None if run.recipe is None else run.recipe
    name, chain = str(rule.get("name") if own is None else own.optimizer), table(run, "clips")
    if name in _PLAIN or chain.get("plain"):
        return norm < FAINT
    eps = rule.get("eps") if own is None else own.settings.get("eps", 1e-8)
    return (name in _NORMALISED or bool(chain)) and norm / math.sqrt(_count(run)) < float(eps or 1e-8)


def _count(run: Run) -> int:
    """Parameters of the model, as far as they are known."""
    return max(1, sum(int(each.get("parameters") or 0) for each in table(run, "modules").values()))
