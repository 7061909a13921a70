"""One member of a population: a run whose steps are taken for it, everything around them is its own."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from downslope.core.run import Run, Status
from downslope.core.sources import Source
from downslope.training.evaluate import Evaluation
from downslope.training.loop import Loop
from downslope.training.ready import concluded, ending
from downslope.training.shown import Shown

OnEvaluation = Callable[[int, int, Evaluation], bool]
"""``(member, step, evaluation) -> bool``: True ends the member with status "stopped"."""
OnEnd = Callable[[int, Run], None]
"""``(member, run) -> None``: the member has ended."""

Together = Callable[["Member", Source, bool], Evaluation | None]
"""What a crew measured for a member beside the others: of a part of the data, with errors or without."""


class Moved(NamedTuple):
    """What is told of one step of all members."""

    values: Sequence[float]
    """The risks on their batches."""
    terms: Mapping[str, Sequence[float]]
    """Named terms."""
    rates: Sequence[float] | None
    """Learning rates; None where no rate changes from step to step."""


class Member(Loop):
    """The loop of one run, which goes by itself, or in parts that a crew calls for all its members.

    Attributes:
        index: Its place in the population.
        watching: Told of every evaluation after the start.
        together: Asked before a part of the data is looked at alone.
        settle: Called before the optimizer's state is written.
    """

    index = 0
    started = 0.0
    watching: OnEvaluation | None = None
    together: Together | None = None
    settle: Callable[[Member], None] | None = None
    _found: Evaluation | None = None

    # -- evaluation ---------------------------------------------------------------------------------------

    def evaluation(
        self, source: Source, *, errors: bool = False, tell: Callable[[int], object] | None = None
    ) -> Evaluation:
        """`judged` on a part of the data, together with the other members where that can be."""
        begun = time.monotonic()
        found = None if self.together is None else self.together(self, source, errors)
        if found is None:
            found = super().evaluation(source, errors=errors, tell=tell)
        else:
            self.deadline.took(time.monotonic() - begun, found.n)
        self._found = found
        return found

    def _evaluate(self, *, first: bool = False, recorded: bool = True) -> None:
        self._found = None
        super()._evaluate(first=first, recorded=recorded)
        if first or not recorded or self.watching is None or self._found is None:
            return
        ends = self.watching(self.index, self.state.step, self._found)
        if ends and self.state.run.status == "running" and not self._through():
            self.state.run.status = "stopped"

    def settled(self) -> None:
        """The optimizer gets the state that it would have by itself."""
        if self.settle is not None:
            self.settle(self)

    def save(self, *, refreshed: bool = True) -> None:
        """Last and best weights and the resume state, to the folder where there is one."""
        if self.recorder.folder is not None:
            self.settled()
        super().save(refreshed=refreshed)

    # -- the parts of a run -------------------------------------------------------------------------------

    def begin(self) -> None:
        """The look at the start."""
        if isinstance(self.average, Shown):
            self.average.settle = self.settled
        self.losses: list[float] = []
        self._steps: dict[str, list[float]] = {"train_loss": [], "lr": []}
        self.begun = time.monotonic()
        self.deadline.begin(time.perf_counter() - self.started)
        with ending(self, self.started):
            self._begin(look=True)

    def moved(self, steps: Sequence[Moved], place: int) -> None:
        """Take note of steps that were taken, in which this member was at `place`."""
        columns = self._steps
        columns["train_loss"] += [each.values[place] for each in steps]
        leading = self.rates.leading
        columns["lr"] += [leading if each.rates is None else each.rates[place] for each in steps]
        for name in steps[0].terms if steps else ():
            if name != "loss":
                columns.setdefault(f"train_{name}", []).extend(each.terms[name][place] for each in steps)

    def catch_up(self) -> None:
        """Write the steps that were noted; keep the state where it is time to."""
        values, step = self._steps["train_loss"], self.state.step
        if values:
            self.recorder.rows(range(step + 1, step + 1 + len(values)), self._steps)
            self.recorder.flush(force=False)
            self.losses += values
            self.state.step += len(values)
            self.position += len(values)
            self._steps = {"train_loss": [], "lr": []}
            self._midway()

    def broken(self, step: int, value: float, batch: Any) -> None:
        """The loss left the finite numbers on `batch`: no step is taken."""
        self.catch_up()
        with self.random:
            self._diverged(step, value, batch)
        self.losses.append(value)
        self.position += 1

    def epoch_over(self) -> bool:
        """What follows an epoch, or what there is of it; whether the run is over."""
        self.catch_up()
        self._after_epoch(self.losses)
        self.losses = []
        return self._finished()

    def close(self) -> None:
        """Say how the run ended, measure its last model and keep it."""
        with ending(self, self.started):
            self._close()

    def hand_out(self) -> None:
        """Take the weights of the model that is handed out, for a look at it."""
        own = self.judged is self.state.model
        if own and self.best is not None and self.handed_step != self.state.step:
            self.judged.load_state_dict(self.best)

    @property
    def handed_step(self) -> int:
        """The step of the model that is handed out."""
        kept = self.best is not None and not self.watchman.blind
        return self.watchman.best_step if kept else self.state.step

    def conclude(self) -> None:
        """The summary, and all of it written."""
        with ending(self, self.started):
            concluded(self, self.started)

    def go_on(self) -> bool:
        """One more epoch by itself; whether there was any batch."""
        return self._epoch()

    @property
    def over(self) -> bool:
        """Whether nothing is left to train."""
        return self._finished()

    def give_up(self, status: Status) -> None:
        """Write it as one that was left behind."""
        if self.state.run.status == "running":
            self.state.run.status = status
        self.recorder.close()

    def forget(self) -> None:
        """Take back all that was written."""
        self.recorder.discard()
        if self.recorder.folder is not None:
            shutil.rmtree(self.recorder.folder / "checkpoints", ignore_errors=True)
            with contextlib.suppress(OSError):
                self.recorder.folder.rmdir()

    def stop(self) -> None:
        """End after the step that it is in."""
        self._stop()
