"""Losses that lead away from the answers: turned round by a minus, or 0 whatever the answers are; pure.

``facts["turned"]`` counts the losses that were heard: ``steps`` of them in all, ``minus`` of them the
negative of the named loss ``name``, ``nil`` of them that loss times 0.
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


def turned_round(run: Run) -> str | None:
    """The named loss of which the run went down the negative, and away from the answers; None otherwise.

    None too where it is another model's output that the loss judges, or another optimizer trains against
    this one: who plays against a judge goes up on its loss on purpose.
    """
    said: Mapping[str, Any] = table(run, "turned") or table(run, "objective").get("turned") or {}
    name = said.get("name")
    if name not in BOUNDED or said["minus"] < said["steps"]:
        return None
    if len(run.history.series("train_loss").steps) < FEWEST and not progress(run).diverged:
        return None
    if run.facts.get("foreign") or run.facts.get("rivals") or run.maximize:
        return None
    if not table(run, "modules"):  # what is trained is no model: an input that is to fool one, it may be
        return None
    how = progress(run)
    if how.first is None:
        return None
    guess = abs(float(table(run, "constant").get("loss") or 0.0))
    if abs(how.first) < UNTRAINED * guess:
        return None
    rose = how.final is not None and abs(how.final) > ROSE * max(abs(how.first), guess)
    return str(name) if rose or how.diverged else None


def zero(run: Run) -> Zero | None:
    """What is known of a loss that is 0 at every step, and of which no gradient comes; None of any other."""
    losses = run.history.series("train_loss").values
    said: Mapping[str, Any] = table(run, "turned") or table(run, "objective").get("turned") or {}
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
