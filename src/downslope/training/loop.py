"""The loop: batches, objective, backward, step; probes, validation, checkpoints and stopping around it."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from downslope.core import batches
from downslope.core.loss import learnt
from downslope.core.run import OBJECTIVE
from downslope.core.sources import MOST_STREAMED, Memory, Source
from downslope.core.weights import copied, save_tensors
from downslope.training import keeping
from downslope.training.average import Norms
from downslope.training.band import Watch
from downslope.training.checkpoint import RESUMED_BEST, SaveTimes
from downslope.training.choices import ProbeTimes
from downslope.training.deadline import Deadline
from downslope.training.depth import Depths
from downslope.training.evaluate import Evaluation, evaluate, validated
from downslope.training.nonfinite import gradients, name_first, name_weight
from downslope.training.probes import Observer
from downslope.training.progress import Progress
from downslope.training.rates import Rates
from downslope.training.recorder import Recorder
from downslope.training.shown import beside
from downslope.training.state import OnProbe, StepState
from downslope.training.step import Step
from downslope.training.stochastic import StepRandomness
from downslope.training.stopping import Watchman, evaluation_due, stoppable, total_steps, verdict
from downslope.training.streams import STREAMED_EPOCH, endless, tell_open
from downslope.training.tracked import tracked


class Loop:
    """One run from its first step to its last.

    Args:
        state: Model, optimizer, objective, on their device.
        recorder: Where everything is written.
        train: Training data, on the device where it fits.
        valid: Validation data, or None.
        batch_size: Examples a step, for data in memory.
        times: Which steps are probed.
        observer: What measures them.
        on_probe: Called at step 0, at every probed step and at the end.
        progress: Whether to show how far it is.
        seconds: Longest time for the loop and the measurement after it; None for no limit.
    """

    def __init__(
        self,
        state: StepState,
        recorder: Recorder,
        train: Source,
        valid: Source | None,
        *,
        batch_size: int,
        times: ProbeTimes,
        observer: Observer,
        on_probe: OnProbe | None,
        progress: bool,
        seconds: float | None = None,
    ) -> None:
        self.state, self.recorder = state, recorder
        self.train, self.valid, self.batch_size = train, valid, batch_size
        self.times, self.observer, self.on_probe = times, observer, on_probe
        self.progress, self.bar = progress, Progress("fit", None, shown=False)
        self.deadline = Deadline(seconds, train.size, 0 if valid is None else valid.size)
        self.measured: tuple[int, Evaluation] | None = None
        recipe = state.recipe
        self.per_epoch = train.steps(batch_size)
        self.total = total_steps(recipe, train, batch_size)
        self.rates = Rates(recipe, state.optimizer, self.total)
        self.watchman = Watchman(state.problem, recipe.patience)
        self.average = beside(state, self.total, self.per_epoch)
        self.take = Step(state)
        self.norms = Norms(state) if self.average is None and self.take.curved is not None else None
        self.depths = Depths(recipe, state.model, state.depths)
        self.watch = Watch(state) if recipe.precision == "auto" and self.take.bfloat16 else None
        self.best: dict[str, Any] | None = None
        self.random = StepRandomness(state.model, recipe.seed)
        self.take.rewind = lambda part: self.random.at(state.step + 1, part)
        self.dtype = next(state.model.parameters()).dtype
        self.stopped = self.late = self.endless = False
        self.position, self.earlier, self.saves = 0, 0.0, SaveTimes()
        self.track = tracked(state, recorder, batch_size, self.total)

    # -- the run ------------------------------------------------------------------------------------------

    def go(self, *, resume: bool) -> None:
        """Train until the recipe, the goal, patience, the user or the numbers say stop."""
        state = self.state
        tell_open(self.train, self.total, state.recipe.epochs or 1)
        if resume:
            self._resume()
        self.begun = time.monotonic()
        with (
            self.random,
            stoppable(self._stop),
            Progress("fit", self.total, shown=self.progress, done=state.step) as self.bar,
        ):
            self._begin(look=not resume or state.step == 0)
            while not self._finished():
                if not self._epoch():
                    break
            self._close()

    def _begin(self, *, look: bool) -> None:
        """Look at the start, unless a resumed run has done so."""
        if look:
            self._evaluate(first=True)
            self._tell()
        self.depths.at(self.state.epoch)  # what is held fixed is in evaluation mode from the first look on
        self.track.begin(self.rates)

    def _close(self) -> None:
        """Say how the run ended, measure it there and keep it."""
        state, run = self.state, self.state.run
        if run.status == "running":
            run.status = "interrupted" if self.stopped else "done"
        if self.late and run.status == "done" and state.step != self.total:
            limit = None if self.endless else self.deadline.seconds
            self.recorder.fact("cut", {"seconds": limit, "steps": state.step, "of": self.total})
        self.recorder.flush()
        self._end()
        self._tell()

    def _end(self) -> None:
        """Measure and keep the last model; weights that the last step broke have no later loss to tell it."""
        state, run = self.state, self.state.run
        if run.status != "diverged" and (module := name_weight(state.model)) is not None:
            self._broken(state.step, {"what": "weight", "module": module})
        self.track.end()
        measured = run.status == "diverged" or run.history.last("valid_step") == state.step
        if self.average is not None:
            self.average.tell(state.step)
        self.refresh()
        if run.status == "interrupted" and not measured:
            self.save()  # what resumes knows nothing of this measurement, which no uninterrupted run makes
            best = self.best
            self._evaluate(recorded=False)
            if self.recorder.folder is not None and best is not None and self.best is not best:
                checkpoints = self.recorder.folder / "checkpoints"
                self.recorder.guarded(lambda: save_tensors(checkpoints / RESUMED_BEST, best))
                self.recorder.guarded(lambda: save_tensors(checkpoints / "best.safetensors", self.best or {}))
            return
        if not measured:
            self._evaluate()
        self.save()

    def _finished(self) -> bool:
        if self.stopped or self.state.run.status != "running" or self.late:
            return True
        return self._through()

    def _through(self) -> bool:
        """Whether the run is as long as the recipe says: patience that ends there stops nothing."""
        state, recipe = self.state, self.state.recipe
        if recipe.steps is not None:
            return state.step >= recipe.steps
        return state.epoch >= (recipe.epochs or 1)

    def _epoch(self) -> bool:
        """The rest of an epoch; whether the epoch has any batch."""
        state = self.state
        losses = self._earlier_losses()
        self.depths.at(state.epoch)
        for batch in self._batches():
            state.batch = batch
            losses.append(self._step(batch))
            if self._after_batch(losses[-1]):
                break
        return self._after_epoch(losses)

    def _after_batch(self, loss: float) -> bool:
        """What follows a step; whether the epoch ends with it."""
        state = self.state
        self.position += 1
        self.bar.update(state.step, f"loss {loss:.4g}")
        self.recorder.flush(force=False)
        self._midway()
        self.endless = endless(self.total, state.epoch, self.position, self.deadline.seconds)
        self.late = self.endless or self.deadline.over(self.seen)
        ended = state.run.status != "running" or self.stopped
        return ended or state.step == state.recipe.steps or self.late

    def _after_epoch(self, losses: Sequence[float]) -> bool:
        """What follows the batches of an epoch, whose losses these are; whether there were any."""
        state, recipe = self.state, self.state.recipe
        if self.stopped or state.run.status != "running" or not losses:
            return bool(losses)
        trained = state.epoch
        if self.position == self.per_epoch or not (state.step == recipe.steps or self.late):
            state.epoch, self.position = state.epoch + 1, 0
        rates = self.depths.rates(state.optimizer, trained)
        mean = sum(losses) / len(losses)
        self.recorder.now(state.step, epoch=state.epoch, train_epoch_loss=mean, **rates)
        self.rates.epoch_over(state.epoch, mean if self.valid is None else None)
        if evaluation_due(recipe, state.epoch, self.total, self.per_epoch):
            self._evaluate()
        return True

    def _earlier_losses(self) -> list[float]:
        """Batch losses of the steps of this epoch that were taken before a resumed run goes on."""
        if not self.position:
            return []
        return self.state.run.history.series("train_loss").values.tolist()[-self.position :]

    def _batches(self) -> Iterator[Any]:
        """The rest of this epoch, on the device; data that fails ends a run that can be resumed."""
        state, held = self.state, isinstance(self.train, Memory)
        try:
            stream = self.train.epoch(self.batch_size, state.recipe.seed, state.epoch)
            for index, batch in enumerate(stream):
                if index >= self.position:
                    moved = batch if held else batches.to(batch, state.device, self.dtype)
                    yield moved if state.augment is None else state.augment(moved, state.epoch, index)
        except Exception:
            if state.step:
                self.save(refreshed=False)  # that would read the data again
            raise

    # -- one step -----------------------------------------------------------------------------------------

    def _step(self, batch: Any) -> float:
        state, take, step = self.state, self.take, self.state.step + 1
        self.random.at(step)
        self.rates.at(step - 1)
        take.probed = probed = self.times.due(step)
        if probed:
            with self.observer.forward():
                loss, value = take.forward(batch)
        else:
            loss, value = take.forward(batch)
        if not math.isfinite(value):
            return self._diverged(step, value, batch)
        take.backward(loss)
        if self.watch is not None and self.watch.due(step):
            rewind = functools.partial(self.random.at, step)
            if not self.watch.look(batch, rewind, self.recorder):
                self.watch, take.bfloat16 = None, False
        if probed:
            self.observer.gradients()
            self.observer.weights()
        take.clip()
        take.move(batch)
        if take.stopped:
            return self._broken(step, {"what": "weight", "module": None}, value)
        self._moved(value, {name: term.detach().reshape(()) for name, term in loss.terms.items()})
        if probed:
            self._probe()
        self.track.after()
        if take.curved is not None and (ended := take.curved.ended(self.recorder)) is not None:
            state.run.status = ended
        return value

    def _moved(self, value: float, terms: Mapping[str, Tensor | float]) -> None:
        """What follows the move of one step: the average, and the row of the history."""
        state = self.state
        if self.average is not None:
            self.average.follow(state.model, state.step + 1)
        state.step += 1
        row: dict[str, Tensor | float] = {"train_loss": value, "lr": self.rates.leading}
        for name, term in terms.items():
            row.setdefault(f"train_{name}", term)
        if self.take.curved is not None:
            row |= self.take.curved.columns
        self.recorder.step(state.step, **row)

    def _probe(self) -> None:
        state = self.state
        self.observer.updates()
        values = self.observer.values
        self.recorder.probe(state.step, values)
        norms = values.get("grad_norm", {}).values()
        self.recorder.now(state.step, grad_norm=math.sqrt(sum(each * each for each in norms)))
        self._tell()

    def _tell(self) -> None:
        if self.on_probe is not None:
            self.on_probe(self.state)

    def _diverged(self, step: int, value: float, batch: Any) -> float:
        """Name where the numbers end: in the weights (by the gradient before), or on the way of `batch`."""
        state = self.state
        self.random.at(step)
        self.recorder.step(step, train_loss=value)
        where = name_first(state.model, state.objective, batch)
        return self._broken(step - 1 if where["what"] == "weight" else step, where, value)

    def _broken(self, step: int, where: dict[str, Any], value: float = math.nan) -> float:
        if where["what"] == "weight" and (found := gradients(self.state.model))["bad"]:
            where |= {"what": "gradient", "module": found["bad"][-1], "gradients": found}
        place = {"step": step, "epoch": self.state.epoch, "batch": self.position}
        self.recorder.fact("nonfinite", place | where)
        self.state.run.status = "diverged"
        return value

    # -- around the steps ---------------------------------------------------------------------------------

    @property
    def judged(self) -> nn.Module:
        """What is validated and handed out: the averaged model once there is one, or what is shown."""
        average = self.average
        return average.handed if average is not None and average.begun else self.state.model

    def refresh(self) -> None:
        """Batch norm's statistics for the weights that are handed out, where they are of others."""
        if (held := self.average or self.norms) is not None:
            held.refresh(self.state.model, self._once, self.state.objective.split)

    def _once(self) -> Iterator[Any]:
        """One pass over the training data as they are, on the device, always in the same order."""
        stream = self.train.epoch(self.batch_size, self.state.recipe.seed, 0)
        for batch in itertools.islice(stream, None if self.per_epoch else MOST_STREAMED):
            yield batches.to(batch, self.state.device, self.dtype)

    @property
    def seen(self) -> int:
        """Examples that went through training, each as often as it did."""
        return self.state.step * self.batch_size

    def evaluation(
        self, source: Source, *, errors: bool = False, tell: Callable[[int], object] | None = None
    ) -> Evaluation:
        """`judged` on a part of the data; with standard errors where they are asked for."""
        state, begun = self.state, time.monotonic()
        tell = tell or (lambda done: self.bar.note(f"evaluating {done}/{source.size or '?'}"))
        found = evaluate(
            state.problem, self.judged, source, state.device,
            objective=state.objective, errors=errors, tell=tell,
        )  # fmt: skip
        self.deadline.took(time.monotonic() - begun, found.n)
        return found

    def _evaluate(self, *, first: bool = False, recorded: bool = True) -> None:
        state, problem = self.state, self.state.problem
        source = self.valid or (self.train if problem.goal is not None else None)
        if source is None:
            return
        self.refresh()
        ends = self.late or self._through() or state.run.status != "running"
        found = self.evaluation(source, errors=ends and source is self.valid)
        held = source is self.valid
        if held and recorded:
            self.recorder.now(state.step, **validated(found, state.step))
            if not first:
                self.rates.told(found.loss)
        if held and ends:
            self.measured = state.step, found
        decided = verdict(
            self.watchman, problem, found, state.step,
            on_validation=held, first=first, going=state.run.status == "running", through=self._through(),
        )  # fmt: skip
        if decided.best or (held and self.best is None):
            self.best = copied(self.judged.state_dict())
        if decided.ends is not None:
            state.run.status = decided.ends

    def _stop(self) -> None:
        self.stopped = True

    # -- keeping ------------------------------------------------------------------------------------------

    def _midway(self) -> None:
        endless = self.per_epoch is None and self.position % STREAMED_EPOCH == 0
        if endless and self.state.run.status == "running":
            self._evaluate()
        if self.recorder.folder is not None and self.saves.due():
            self.save()

    def save(self, *, refreshed: bool = True) -> None:
        """Last and best weights and the resume state, to the folder where there is one."""
        folder = self.recorder.folder
        if folder is None:
            return
        begun = time.monotonic()
        if refreshed:
            self.refresh()
        self.recorder.flush()
        self.recorder.guarded(lambda: keeping.write(self, folder, self._models()), again=True)
        self.saves.saved(time.monotonic() - begun)

    def _models(self) -> dict[str, nn.Module]:
        models: dict[str, nn.Module] = {"model": self.state.model}
        if (beside := learnt(self.state.objective.function)) is not None:
            models[OBJECTIVE] = beside
        return models if self.average is None else models | self.average.saved

    def _resume(self) -> None:
        if self.recorder.folder is not None:
            keeping.restore(self, self.recorder.folder, self._models())
