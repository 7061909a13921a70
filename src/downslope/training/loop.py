"""The loop: batches, objective, backward, step; probes, validation, checkpoints and stopping around it."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from downslope.core import batches
from downslope.core.loss import Loss
from downslope.core.sources import Memory, Source
from downslope.core.weights import copied, save_tensors
from downslope.training.checkpoint import load_resume, save_resume
from downslope.training.choices import ProbeTimes
from downslope.training.evaluate import Evaluation, evaluate
from downslope.training.nonfinite import name_first, name_gradient
from downslope.training.optimizer import schedule_of
from downslope.training.probes import Observer
from downslope.training.progress import Progress
from downslope.training.recorder import Recorder
from downslope.training.state import OnProbe, StepState
from downslope.training.stochastic import StepRandomness
from downslope.training.stopping import Watchman

EMA_DECAY = 0.999
"""Decay of the exponential average of weights; a window of 1000 steps."""

CHECKPOINT_SECONDS = 30.0
"""How often the resume state goes to disk while a run goes on; it always does at the end of a run."""

MOST_EVALUATIONS = 500
"""Evaluations over a run without patience; full-batch runs with thousands of epochs skip some."""


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
    ) -> None:
        self.state, self.recorder = state, recorder
        self.train, self.valid = train, valid
        self.batch_size = batch_size
        self.times, self.observer, self.on_probe = times, observer, on_probe
        self.progress = progress
        recipe = state.recipe
        self.per_epoch = train.steps(batch_size)
        self.total = recipe.steps or (self.per_epoch * (recipe.epochs or 1) if self.per_epoch else None)
        self.factor = schedule_of(recipe, self.total or 1)
        self.base_lrs = [group.get("lr") for group in state.optimizer.param_groups]
        self.watchman = Watchman(state.problem, recipe.patience)
        self.averaged = (
            AveragedModel(state.model, multi_avg_fn=cast("Any", get_ema_multi_avg_fn)(EMA_DECAY))
            if recipe.average
            else None
        )
        self.parameters = [p for p in state.model.parameters() if p.requires_grad]
        self.best: dict[str, Any] | None = None
        self.random = StepRandomness(state.model, recipe.seed)
        self.bfloat16 = state.run.choices.get("precision") == "bfloat16"
        self.dtype = next(state.model.parameters()).dtype
        self.stopped = False
        self.position = 0
        self._saved = time.monotonic()
        self._needs_closure = isinstance(state.optimizer, torch.optim.LBFGS)

    # -- the run ------------------------------------------------------------------------------------------

    def go(self, *, resume: bool) -> None:
        """Train until the recipe, the goal, patience, the user or the numbers say stop."""
        state, run = self.state, self.state.run
        if resume:
            self._resume()
        with (
            self.random,
            _stoppable(self._stop),
            Progress("fit", self.total, shown=self.progress, done=state.step) as bar,
        ):
            if not resume or state.step == 0:
                self._evaluate(first=True)
                self._tell()
            while not self._finished():
                before = state.step
                self._epoch(bar)
                if state.step == before:
                    break
            if run.status == "running":
                run.status = "interrupted" if self.stopped else "done"
            self.recorder.flush()
            if run.status != "diverged" and run.history.last("valid_step") != state.step:
                self._evaluate()
            self._tell()
        self.save()

    def _finished(self) -> bool:
        state, recipe = self.state, self.state.recipe
        if self.stopped or state.run.status != "running":
            return True
        if recipe.steps is not None:
            return state.step >= recipe.steps
        return state.epoch >= (recipe.epochs or 1)

    def _epoch(self, bar: Progress) -> None:
        state, recipe = self.state, self.state.recipe
        losses: list[float] = []
        for batch in self._batches():
            state.batch = batch
            loss = self._step(batch)
            self.position += 1
            losses.append(loss)
            bar.update(state.step, f"loss {loss:.4g}")
            self.recorder.flush(force=False)
            if state.run.status != "running" or self.stopped or state.step == recipe.steps:
                break
            self._checkpoint()
        else:
            state.epoch += 1
            self.position = 0
        if losses and state.run.status == "running" and not self.stopped:
            self.recorder.now(state.step, epoch=state.epoch, train_epoch_loss=sum(losses) / len(losses))
            if self._evaluation_due():
                self._evaluate()

    def _batches(self) -> Iterator[Any]:
        """The rest of this epoch, on the device."""
        state = self.state
        stream = self.train.epoch(self.batch_size, state.recipe.seed, state.epoch)
        for index, batch in enumerate(stream):
            if index < self.position:
                continue
            yield batch if isinstance(self.train, Memory) else batches.to(batch, state.device, self.dtype)

    # -- one step -----------------------------------------------------------------------------------------

    def _step(self, batch: Any) -> float:
        state = self.state
        step = state.step + 1
        self.random.at(step)
        if self.factor is not None:
            self._set_lr(self.factor(step - 1))
        probed = self.times.due(step)
        for parameter in self.parameters:
            parameter.grad = None
        if probed:
            with self.observer.forward():
                loss = self._loss(batch)
        else:
            loss = self._loss(batch)
        value = loss.value.item() if not _transformed(state.model) else self._restored(loss, batch)
        value = state.objective.sign * value if not _transformed(state.model) else value
        if not math.isfinite(value):
            return self._diverged(step, value, batch)
        loss.value.backward()
        if probed:
            self.observer.gradients()
            self.observer.weights()
        self._clip()
        if self._needs_closure:
            state.optimizer.step(self._closure(batch))
        else:
            state.optimizer.step()
        if state.problem.constraint is not None:
            with torch.no_grad():
                state.problem.constraint(state.model)
        if self.averaged is not None:
            self.averaged.update_parameters(state.model)
        state.step = step
        row = {"train_loss": value, "lr": float(state.optimizer.param_groups[0].get("lr", math.nan))}
        self.recorder.step(step, **row)
        if probed:
            self._probe(loss)
        return value

    def _loss(self, batch: Any) -> Loss:
        if not self.bfloat16:
            return self.state.objective(self.state.model, batch)
        with torch.autocast(self.state.device.type, dtype=torch.bfloat16):
            return self.state.objective(self.state.model, batch)

    def _restored(self, loss: Loss, batch: Any) -> float:
        return self.state.objective.restored(self.state.model, loss, batch).item()

    def _closure(self, batch: Any) -> Callable[[], float]:
        def closure() -> float:
            for parameter in self.parameters:
                parameter.grad = None
            loss = self._loss(batch)
            loss.value.backward()
            return loss.value.item()

        return closure

    def _clip(self) -> None:
        recipe = self.state.recipe
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm)
        if recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, recipe.clip_value)

    def _set_lr(self, factor: float) -> None:
        for group, base in zip(self.state.optimizer.param_groups, self.base_lrs, strict=True):
            if base is not None:
                group["lr"] = base * factor

    def _probe(self, loss: Loss) -> None:
        state = self.state
        self.observer.updates()
        values = self.observer.values
        self.recorder.probe(state.step, values)
        norms = values.get("grad_norm", {}).values()
        self.recorder.now(state.step, grad_norm=math.sqrt(sum(each * each for each in norms)))
        for name, term in loss.terms.items():
            self.recorder.now(state.step, **{f"train_{name}": float(term.detach())})
        self._tell()

    def _tell(self) -> None:
        if self.on_probe is not None:
            self.on_probe(self.state)

    def _diverged(self, step: int, value: float, batch: Any) -> float:
        state = self.state
        self.random.at(step)
        where = name_first(state.model, state.objective, batch)
        if where["what"] == "weight" and (module := name_gradient(state.model)) is not None:
            where |= {"gradient": module}
        self.recorder.step(step, train_loss=value)
        self.recorder.fact("nonfinite", {"step": step, "epoch": state.epoch, "batch": self.position, **where})
        state.run.status = "diverged"
        return value

    # -- around the steps ---------------------------------------------------------------------------------

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and handed out: the averaged one where the recipe averages."""
        return self.averaged.module if self.averaged is not None else self.state.model

    def evaluation(self, source: Source) -> Evaluation:
        """`judged` on a part of the data."""
        state = self.state
        return evaluate(state.problem, self.judged, source, state.device, objective=state.objective)

    def _evaluation_due(self) -> bool:
        recipe, epoch = self.state.recipe, self.state.epoch
        if recipe.patience is not None or self.total is None or not self.per_epoch:
            return True
        return epoch % max(1, self.total // self.per_epoch // MOST_EVALUATIONS) == 0

    def _evaluate(self, *, first: bool = False) -> None:
        state, problem = self.state, self.state.problem
        source = self.valid or (self.train if problem.goal is not None else None)
        if source is None:
            return
        found = self.evaluation(source)
        measure = found.loss if found.metric is None else found.metric
        if source is self.valid:
            row = {"valid_loss": found.loss} | (
                {} if found.metric is None else {"valid_metric": found.metric}
            )
            self.recorder.now(state.step, **row, valid_step=float(state.step))
            if self.watchman.improved(measure, state.step) or self.best is None:
                self.best = copied(self.judged.state_dict())
        if first or state.run.status != "running":
            return
        if problem.reached(measure):
            state.run.status = "goal"
        elif self.watchman.exhausted:
            state.run.status = "early-stopped"

    def _stop(self) -> None:
        self.stopped = True

    # -- keeping ------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.recorder.folder is not None and time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        """Last and best weights and the resume state, to the folder where there is one."""
        state, folder = self.state, self.recorder.folder
        self._saved = time.monotonic()
        if folder is None:
            return
        self.recorder.flush()
        save_tensors(folder / "checkpoints" / "last.safetensors", self.judged.state_dict())
        if self.best is not None:
            save_tensors(folder / "checkpoints" / "best.safetensors", self.best)
        if state.run.status != "diverged":
            models = {"model": state.model} | (
                {"average": self.averaged} if self.averaged is not None else {}
            )
            place = {
                "step": state.step, "epoch": state.epoch, "position": self.position,
                "watchman": self.watchman.state(), "probes": [self.times.taken, self.times.next],
            }  # fmt: skip
            save_resume(folder, models, state.optimizer, place)

    def _resume(self) -> None:
        state, folder = self.state, self.recorder.folder
        if folder is None:
            return
        models = {"model": state.model} | ({"average": self.averaged} if self.averaged is not None else {})
        place = load_resume(folder, models, state.optimizer)
        if place is None:
            self.recorder.rewind(-1)
            return
        state.step, state.epoch, self.position = place["step"], place["epoch"], place["position"]
        self.watchman.restore(place["watchman"])
        self.times.taken, self.times.next = place["probes"]
        self.recorder.rewind(state.step)
        if (folder / "checkpoints" / "best.safetensors").exists():
            self.best = dict(state.run.state("best"))


def _transformed(model: nn.Module) -> bool:
    return hasattr(model, "training_output")


@contextlib.contextmanager
def _stoppable(stop: Callable[[], None]) -> Generator[None]:
    """Ctrl-C and SIGTERM end the run after the step it is in; a second one raises at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former: dict[int, Any] = {}

    def handler(number: int, frame: Any) -> None:
        del frame
        stop()
        signal.signal(number, former[number] or signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old or signal.SIG_DFL)
