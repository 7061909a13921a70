"""A learning rate that falls when the validation loss has stopped falling."""

from __future__ import annotations

import math
from typing import Any

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import as_step, check_count, check_factor, check_steps

__all__ = ["Plateau", "plateau"]


class Plateau:
    """A factor that falls when it is told of no better loss for too long. Make one with `plateau`.

    ``plateau(t)`` is the factor as it stands, whatever t is; `told` is what moves it.
    """

    def __init__(self, factor: float, patience: int, threshold: float, cooldown: int, final: float) -> None:
        self.by, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.final = cooldown, final
        self.factor, self.best, self.waited, self.resting = 1.0, math.inf, 0, 0

    def __call__(self, t: int) -> float:
        """The factor as it stands."""
        as_step(t)
        return self.factor

    def told(self, loss: float) -> None:
        """Take note of a measured loss; NaN is no improvement."""
        if loss < self.best * (1.0 - self.threshold if self.best >= 0.0 else 1.0 + self.threshold):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.resting > 0:
            self.resting, self.waited = self.resting - 1, 0
        if self.waited > self.patience:
            self.factor = max(self.factor * self.by, self.final)
            self.resting, self.waited = self.cooldown, 0

    def state(self) -> dict[str, Any]:
        """Where it stands, in plain numbers."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited, "resting": self.resting}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` said."""
        self.factor, self.best = float(state["factor"]), float(state["best"])
        self.waited, self.resting = int(state["waited"]), int(state["resting"])


def plateau(
    total_steps: int, *, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, cooldown: int = 0,
    final: float = 0.0,
) -> Plateau:  # fmt: skip
    """1 until the loss has not fallen for more than `patience` measurements, then times `factor`, and so on.

    In a run the loss is that of the validation data, measured after every epoch; without validation data the
    mean of the epoch's own batches. Equivalent to ``torch.optim.lr_scheduler.ReduceLROnPlateau`` on a loss
    above 0, with ``min_lr = final lr`` and ``eps=0``. It stays where it is while a run is cut and goes on.

    Args:
        total_steps: length of the run, from 1; it changes nothing.
        factor: what the rate is multiplied by, in (0, 1).
        patience: measurements without a better one that are borne, a whole number from 0.
        threshold: share by which a loss must lie below the best to count as better, in [0, 1].
        cooldown: measurements after a fall that do not count, a whole number from 0.
        final: lowest factor, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Differs from: torch, for which a loss below 0 must fall to ``best (1 - threshold)``, which lies above the
    best.
    """
    check_steps("total_steps", total_steps)
    by = check_factor("factor", factor, zero=False)
    if by == 1.0:
        raise RecipeError("factor=1: must lie in (0, 1), the rate would never fall")
    share = check_factor("threshold", threshold)
    waits = check_count("patience", patience), check_count("cooldown", cooldown)
    return Plateau(by, waits[0], share, waits[1], check_factor("final", final))
