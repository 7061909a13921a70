"""What measures the ground under a run, loaded where the run gives it a share of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.training.rates import Rates
from downslope.training.recorder import Recorder
from downslope.training.state import StepState

if TYPE_CHECKING:
    from downslope.training.track import Track


class Untracked:
    """Measures nothing."""

    def begin(self, rates: Rates) -> None:
        """Before the first step."""

    def after(self) -> None:
        """After a step."""

    def end(self) -> None:
        """At the end."""


def tracked(state: StepState, recorder: Recorder, batch_size: int, total: int | None) -> Track | Untracked:
    """A `Track` of the run, where its ``choices["terrain"]`` is no 0."""
    if not state.run.choices.get("terrain"):
        return Untracked()
    from downslope.training.track import Track

    return Track(state, recorder, batch_size, total)
