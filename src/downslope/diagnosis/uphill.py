"""Losses that lead away from the answers: turned round by a minus or by an optimizer that climbs, or 0
whatever the answers are; pure.

``facts["turned"]`` counts the losses that were heard: ``steps`` of them in all, ``plus`` of them a multiple
of the named loss ``name``, ``minus`` of them of its negative, ``nil`` of them that loss times 0.
``facts["climbs"]`` tells of somebody's own loop whether all of its parameters are stepped up the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from downslope.core.run import Run
from downslope.diagnosis.progress import progress, table

FEWEST = 20
"""Losses at least, each of them turned round, or 0. Convention."""

ROSE = 1.5
"""Size of the loss at the end in that at the start, and in a constant guess's, from which it leads away from
the answers. A named loss that is driven up goes beyond any bound."""

UNTRAINED = 0.5
"""Size of the first loss in that of a constant guess from which the model began untrained. One that began
far below has learnt before, and may be made to forget on purpose."""

BOUNDED = (
    "cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "mean of squares", "mean of absolute values",
)  # fmt: skip
"""Losses that are never below 0, whose negative has no lowest value."""


class Zero(NamedTuple):
    """A loss that is 0 at every step."""

    column: bool
    """Whether its classes are a single column, of which a softmax is always 1."""
    times: str
    """The named loss that was multiplied by 0; "" where none was."""
    known: bool
    """Whether it is a named loss of numbers, 0 only where outputs and targets agree to the last digit. One of
    classes is 0 too where a model that was trained before is sure of all."""

    @property
    def sure(self) -> bool:
        """Whether it is a fault beyond doubt."""
        return self.column or bool(self.times) or self.known


class Turned(NamedTuple):
    """A loss that is driven up."""

    name: str
    """As torch calls it; "" of an objective of the problem's own."""
    climbs: bool
    """Whether the optimizer does it, by ``maximize=True``; else a minus before the loss."""


def turned_round(run: Run) -> Turned | None:
    """The loss that the run drives away from the answers; None where it drives none, or may do so on purpose.

    None too where another optimizer trains against this one: who plays against a judge goes up on its loss.
    """
    how = progress(run)
    if len(run.history.series("train_loss").steps) < FEWEST and not how.diverged:
        return None
    if run.facts.get("rivals") or _on_purpose(run) or how.first is None:
        return None
    if climbs(run):
        return _climbed(run)
    said = _said(run)
    if run.maximize or said.get("name") not in BOUNDED or said["minus"] < said["steps"]:
        return None
    rose = how.final is not None and abs(how.final) > ROSE * max(abs(how.first), _guess(run))
    return Turned(str(said["name"]), climbs=False) if rose or how.diverged else None


def climbs(run: Run) -> bool:
    """Whether the optimizer steps up the gradient of what it is handed, by ``maximize=True``."""
    told: Any = None if run.recipe is None else run.recipe.settings.get("maximize")
    return bool(run.facts.get("climbs")) or told is True


def rises(run: Run) -> bool:
    """Whether the loss of somebody's own loop is to rise: its optimizer climbs on no loss that is known to be
    best where it is low, or on the negative of one, or climbs on purpose.
    """
    if run.recipe is not None or not climbs(run) or run.facts.get("rivals"):
        return False
    said, known = _said(run), table(run, "output").get("expects") is not None
    if _negative(run) or (said and said["minus"] == said["steps"]):  # told with its minus, or without it
        return _negative(run) or not known
    return _on_purpose(run) or not (known or said.get("name") in BOUNDED)


def _climbed(run: Run) -> Turned | None:
    """What an optimizer that climbs drives up.

    Of a task it is what the problem says is to fall, whatever that is: the loop goes down by itself on what
    is to be maximised. Of somebody's own loop it has to be a loss that is known.
    """
    how, said, output = progress(run), _said(run), table(run, "output")
    known = said.get("name") in BOUNDED or output.get("expects") is not None
    turned = _negative(run) if not said else said["plus"] < said["steps"]
    if run.recipe is None and (not known or turned):
        return None
    name = str(said.get("name") or output.get("objective")) if known and not turned else ""
    if how.diverged:
        return Turned(name, climbs=True)
    if how.first is None or how.final is None or not how.standing:
        return None
    worse = how.final < how.first if run.maximize else how.final > how.first
    return Turned(name, climbs=True) if worse else None


def _on_purpose(run: Run) -> bool:
    """Whether a loss may be driven up on purpose: what is trained is no model but an input that is to fool
    one, it is another model's output that the loss judges, or what was learnt is to be forgotten.
    """
    first = progress(run).first
    learnt = first is not None and abs(first) < UNTRAINED * _guess(run)
    return learnt or not table(run, "modules") or bool(run.facts.get("foreign"))


def _negative(run: Run) -> bool:
    """Whether the losses are below 0, as those that have a lowest value never are."""
    losses = run.history.series("train_loss").values
    return bool(len(losses)) and bool(np.median(losses) < 0)


def _guess(run: Run) -> float:
    """Size of a constant guess's loss; 0 where it is not known."""
    return abs(float(table(run, "constant").get("loss") or 0.0))


def _said(run: Run) -> Mapping[str, Any]:
    """With which signs the loss was heard."""
    return table(run, "turned") or table(run, "objective").get("turned") or {}


def zero(run: Run) -> Zero | None:
    """What is known of a loss that is 0 at every step, and of which no gradient comes; None of any other."""
    losses = run.history.series("train_loss").values
    said = _said(run)
    nil = said.get("nil", 0) > 0 and said["nil"] == said["steps"]
    if len(losses) < FEWEST or (bool(np.any(losses != 0)) and not nil) or _moved(run):
        return None
    output = table(run, "output")
    shares = output.get("expects") in ("logits", "log-probabilities", "probabilities")
    column = shares and list(output.get("shape") or ()) == [1]
    return Zero(column, str(said["name"]) if nil else "", output.get("expects") == "real")


def _moved(run: Run) -> bool:
    """Whether any sampled step had a gradient."""
    norms = run.history.series("grad_norm").values
    return bool(np.any(norms != 0))
