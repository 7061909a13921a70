"""The verb `watch`: any training loop, observed from outside and diagnosed from what was seen.

    monitor = ds.watch(model, optimizer)
    for x, y in batches:
        optimizer.zero_grad()
        loss = objective(model(x), y)
        loss.backward()
        optimizer.step()
        monitor.step(loss)
    print(monitor.diagnose())

The loop's results are those it would have alone, bit for bit: nothing draws a random number, and no weight,
gradient or buffer is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from downslope.core import names
from downslope.core.errors import DataError, InputError, ModelError
from downslope.core.run import Run
from downslope.diagnosis import held_out, unseen
from downslope.diagnosis.accumulated import ALONE, Part, share
from downslope.diagnosis.compiled import plain_module
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.ear import Call, Ear, bound, source
from downslope.diagnosis.gathered import Gathered, described, of_problem
from downslope.diagnosis.judge import judge
from downslope.diagnosis.losses import crossed, objective_of
from downslope.diagnosis.settings import parameters_of
from downslope.diagnosis.signs import Signs, sign
from downslope.diagnosis.track import Track
from downslope.diagnosis.uphill import rises
from downslope.diagnosis.weighed import weighed
from downslope.objectives.meaning import Meaning, meaning
from downslope.optim.inside import innermost

HEARD = 8
"""Calls of losses that are kept of one step: more terms are no one function."""

_MEAN = 1
"""What torch's losses note in the graph where they average over the examples."""

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


def watch(model: nn.Module, optimizer: Optimizers, objective: Any = None, data: Any = None) -> Monitor:
    """Observe the training of `model` by somebody's own loop.

    Costs 4 to 6 % of the time of the first 2000 steps of a small model (bench/watch.py): a hook after every
    step, and measurements in sampled steps, seldom enough. Forward passes in eval mode or without gradients
    are not looked at.

    Args:
        model: What is trained; a compiled one is looked into by an occasional pass beside it.
        optimizer: What trains it, or several that train it together; the first one counts the steps.
        objective: ``(output, target) -> scalar``, or a name. It lets the diagnosis compare the loss with
            that of a constant guess (given `data`), and the output with what the objective expects.
        data: What a Problem takes as training data; it lets the diagnosis look at the data.

    Returns:
        A monitor: ``monitor.step(loss)`` once a step, ``monitor.diagnose()`` at any time.

    Raises:
        InputError: something that is no module, no optimizer, no objective.
        ModelError: the optimizer holds no parameter of the model.
    """
    return Monitor(model, optimizer, objective, data)


class Monitor:
    """What `watch` gives. Leaving it as a context manager, or `close`, takes every hook away.

    Args:
        model: What is trained.
        optimizer: What trains it.
        objective: As `watch` takes it.
        data: As `watch` takes it.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizers, objective: Any = None, data: Any = None
    ) -> None:
        optimizers = tuple(map(innermost, _checked(model, optimizer)))  # a wrapper's steps are its base's
        self.objective = names.resolve("objective", objective) if isinstance(objective, str) else objective
        if self.objective is not None and not callable(self.objective):
            raise InputError(f"objective={objective!r}: must be a name or (output, target) -> scalar")
        self.model, self.data = model, data
        self.closed = False
        self._gathered = Gathered()
        self._averaged = False
        self._meaning: Meaning | None = None if self.objective is None else meaning(self.objective)
        self._calls: list[Call] = []
        self._heard_at = 0
        self._mixed, self._signs = False, Signs()
        self._seen: dict[str, Any] | None = None
        self._named = True
        self._track = Track(optimizers, model, self._gathered.forwarded, ear=Ear(self._scored))
        self._gathered.now = self._track.now
        self._offset: int | None = None
        self._scale = self._share = 1.0
        self._looked = False
        self._refused: dict[str, str] = {}
        self._handles: list[RemovableHandle] = []
        for each in optimizers:
            self._handles.append(each.register_step_pre_hook(self._before))
            self._handles.append(each.register_step_post_hook(self._after))

    # -- in the loop --------------------------------------------------------------------------------------

    def step(self, loss: Tensor | float | None = None) -> None:
        """Once a step, before or after the optimizer's: notes the loss of the step.

        Called several times between two optimizer steps (gradients accumulated), the losses are averaged:
        hand over each as it is before it is divided by their number.

        Args:
            loss: One number; left out, the steps are counted by the optimizer and have no loss.

        Raises:
            InputError: no number, or a tensor with more than one.
        """
        if self.closed or loss is None:
            return
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise InputError(
                    f"monitor.step(loss): a tensor of shape {tuple(loss.shape)}: it must hold one "
                    "number, the mean over the batch"
                )
            if self._meaning is None:
                self._discover(loss)
        else:
            loss = _number(loss, "monitor.step(loss)", "batch")
        if self._offset is None:
            self._offset = 0 if self._track.step else 1
        step = self._track.step + self._offset
        if self._calls:
            self._recognise(loss, step)
        of = Part(math.nan, share(loss), bare=False) if isinstance(loss, Tensor) else ALONE
        self._track.loss(loss, step, of=of)

    def validate(
        self,
        value: Tensor | float | None = None,
        /,
        *,
        loss: Tensor | float | None = None,
        metric: Tensor | float | None = None,
    ) -> None:
        """After a validation: its loss, its metric, or both.

        Only a loss says whether the model does worse on new data than on its own: it must be that of
        training (without penalties), as a mean over the validation data.

        Args:
            value: The loss.
            loss: The same by name; then it is never taken for an accuracy.
            metric: What one really cares about, such as the accuracy.

        Raises:
            InputError: nothing, or two losses, or a tensor with more than one number.
        """
        if (value is None) == (loss is None) and (value is not None or metric is None):
            raise InputError(
                "monitor.validate takes one loss, monitor.validate(loss), and where there is one a metric, "
                "monitor.validate(metric=accuracy)"
            )
        if self.closed:
            return
        self._named = self._named and value is None
        given = {"valid_loss": value if loss is None else loss, "valid_metric": metric}
        self._track.validated(**{k: _number(v) for k, v in given.items() if v is not None})

    # -- the verdict --------------------------------------------------------------------------------------

    def diagnose(self) -> Diagnosis:
        """What is wrong with the training so far, root cause first; the loop may go on afterwards.

        Returns:
            A diagnosis from what was recorded; what it could not check is in ``not_checked``, with reasons.
        """
        started = time.perf_counter()
        found = judge(self.run)
        found.seconds = time.perf_counter() - started
        if not self._track.step:
            found.verdict = "No optimizer step was seen."
        return found

    @property
    def run(self) -> Run:
        """What was recorded so far, as a Run in memory."""
        run = self._track.conclude("done" if self.closed else "running")
        self._measure(run)
        return run

    def _measure(self, run: Run) -> None:
        if not self._looked:
            self._looked = True
            self._look_at_data(run)
        # Asked again later, what could not be seen then may have been seen since.
        run.facts["not_measured"] = self._refused | self._track.unseen()
        run.facts.pop("ending", None)
        seen = self._seen or self._track.eye.output
        if self._mixed or self._gathered.foreign:
            self._gathered.forget()
            self._gathered.meaning = None
        said = self._meaning if self._gathered.meaning is None or self.objective is not None else None
        if said is not None and seen is not None:
            run.facts["output"] = dict(seen) | described(said) | {"clipped": None}
        run.facts["turned"] = self._signs.measured()
        self._gathered.scale = self._scale / (self._share if self._track.heard.shared else 1.0)
        self._gathered.measure(run, seen, self._track.bad)
        if "constant" not in run.facts and (loss := self._uniform(seen)) is not None:
            run.facts["constant"] = {"loss": loss}
        run.described["maximize"] = rises(run)
        unseen.in_loop(run, self._mixed)
        held_out.conclude(run, same=None, said=self._named)
        self._gathered.ask_the_data(run)

    def _look_at_data(self, run: Run) -> None:
        if self.data is None:
            return
        try:
            of_problem(run, plain_module(self.model), self.objective, self.data)
        except (InputError, DataError) as error:
            self._refused["data"] = self._refused["features"] = str(error)
        self._refused |= run.facts["not_measured"]

    def _uniform(self, seen: Mapping[str, Any] | None) -> float | None:
        """Loss of a uniform guess, no lower than that of the best constant; None where it is not known."""
        if not self._averaged or self._meaning is None or seen is None or not seen.get("shape"):
            return None
        if self._meaning.expects in ("logits", "log-probabilities", "probabilities"):
            return math.log(seen["shape"][0])
        return math.log(2) if self._meaning.expects in ("logit", "probability") else None

    def _discover(self, loss: Tensor) -> None:
        """The objective, from the graph that made the loss."""
        seen = self._track.eye.output
        self._averaged = getattr(loss.grad_fn, "_saved_reduction", None) == _MEAN
        if seen is None or loss.grad_fn is None:
            return
        try:
            found = objective_of(loss, seen.get("activation"))
        except Exception:  # noqa: BLE001 (a graph of any kind; then the objective stays unknown)
            found = None
        if found is not None:
            self._meaning = Meaning(found.expects, None, found.name, None)  # type: ignore[arg-type]
            self._gathered.crossed = crossed(loss)
        else:
            self._meaning = Meaning(None, None, "the loop's own objective", None)

    # -- hooks --------------------------------------------------------------------------------------------

    def _scored(self, call: Call) -> None:
        """A loss was computed in a sampled step."""
        if self._heard_at != self._track.step:  # what the loop told no loss of
            self._calls.clear()
            self._heard_at = self._track.step
        if call.value.requires_grad and len(self._calls) < HEARD:
            eye = self._track.eye
            self._gathered.judged(call.args[0])
            seen = eye.look(call.args[0]) if self._seen is None and not self._track.step else None
            self._calls.append(call._replace(seen=seen))

    def _recognise(self, loss: Tensor | float, step: int) -> None:
        """Which of the calls that were heard made `loss`: its function and its targets are then known."""
        calls, self._calls = self._calls, []
        if isinstance(loss, Tensor) and loss.grad_fn is not None:
            self._signs.note(sign(loss))
            found = source(loss, calls)
            if found is not None and found.value is not loss:
                found = weighed(loss, found)
        else:
            told = _number(loss)
            found = next((each for each in calls if _number(each.value.detach().mean()) == told), None)
        if found is None:
            self._mixed = self._mixed or bool(calls)
            return
        self._seen = self._seen or found.seen
        value, function = _number(found.value.detach().mean()), self._gathered.function or bound(found)
        if function is not None:
            self._gathered.scored(function, found.args[0], found.args[1], step, found.weights)
            known = found.weights is None and value and math.isfinite(value)
            self._scale = _number(loss) / value if known else 1.0
            self._share = share(loss) if isinstance(loss, Tensor) else 1.0

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._track.armed:
            self._track.before(optimizer, _has_closure(args, kwargs))

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._track.after(optimizer, self._track.armed and _has_closure(args, kwargs))

    def close(self) -> None:
        """Take every hook away; what was recorded stays."""
        if self.closed:
            return
        self.closed = True
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._track.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "watching"
        return f"Monitor({state}, {self._track.step} steps)"


def _number(given: Any, what: str = "monitor.validate", data: str = "validation data") -> float:
    """One number, of a tensor, an array or a float, given to `what` and measured on `data`.

    Raises:
        InputError: anything else.
    """
    try:
        return float(given.detach() if isinstance(given, Tensor) else given)
    except (TypeError, ValueError, RuntimeError):
        said = f"a tensor of shape {tuple(given.shape)}" if isinstance(given, Tensor) else repr(given)
        raise InputError(f"{what}: {said}: must be one number, the mean over the {data}") from None


def _has_closure(args: Any, kwargs: Any) -> bool:
    return (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None


def _checked(model: Any, optimizer: Any) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers, known to hold parameters of the model.

    Raises:
        InputError: no module, or no optimizer.
        ModelError: no parameter in common.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}: it must be the torch.nn.Module that is trained")
    several = isinstance(optimizer, Sequence)
    found = tuple(cast("Sequence[Any]", optimizer)) if several else (optimizer,)
    for each in found:
        if not isinstance(each, torch.optim.Optimizer):
            raise InputError(f"optimizer is a {type(each).__name__}: it must be a torch.optim.Optimizer")
    if not found:
        raise InputError("optimizer is an empty list: give the optimizers that train the model")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for p in parameters_of(*found)):
        raise ModelError(
            f"the optimizer holds no parameter of this {type(model).__name__}: make the optimizer from "
            "model.parameters(), after the model is on its device"
        )
    return found
