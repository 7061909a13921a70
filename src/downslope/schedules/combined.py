"""Schedules made of others, of which one may go by measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, as_step, of_steps

__all__ = ["Combined", "combined"]

At = Callable[[Sequence[Schedule], int], float]


class Combined:
    """A schedule whose parts are told of measurements, as a `Plateau` wants it, and have a state.

    Args:
        parts: schedules.
        at: their factor at a step.
        running: which of them a step belongs to and hears of the measurement after it; all where left out.
    """

    def __init__(self, parts: Sequence[Any], at: At, running: Callable[[int], int] | None) -> None:
        self.parts, self.at, self.running, self.last = tuple(parts), at, running, 0

    def __call__(self, t: int) -> float:
        """The factor at step t."""
        self.last = as_step(t)
        return self.at(self.parts, self.last)

    def told(self, loss: float) -> None:
        """Take note of a measured loss."""
        heard = self.parts if self.running is None else (self.parts[self.running(self.last)],)
        for part in heard:
            if hasattr(part, "told"):
                part.told(loss)

    def state(self) -> dict[str, Any]:
        """Where it stands, in plain numbers."""
        return {"last": self.last, "parts": [_state(part) for part in self.parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` said."""
        self.last = int(state["last"])
        for part, own in zip(self.parts, state["parts"], strict=True):
            if own:
                part.restore(own)


def combined(parts: Sequence[Schedule], at: At, running: Callable[[int], int] | None = None) -> Schedule:
    """The schedule ``t -> at(parts, t)``; one that can be told of measurements if any of `parts` can.

    Raises:
        RecipeError: no parts, or one that is no function of the step.
    """
    if not parts:
        raise RecipeError(
            "no schedules were given: give at least one, a function of the step such as "
            "downslope.schedules.cosine(90)"
        )
    for part in parts:
        if not callable(part):
            raise RecipeError(
                f"{part!r} is no schedule: give a function of the step, such as "
                "downslope.schedules.cosine(90)"
            )
    if any(hasattr(part, "told") for part in parts):
        return Combined(parts, at, running)
    return of_steps(lambda t: at(parts, t))


def _state(part: Any) -> dict[str, Any]:
    return part.state() if hasattr(part, "told") else {}
