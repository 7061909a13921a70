"""One optimizer's steps as somebody else's loop takes them, recorded into a Run in memory.

Every step costs a hook after it and one number; what is dear happens in sampled steps only, as seldom as
keeps it within a share of the time (`ProbeTimes`, at a price told from the model: no clock has a say in it).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core.run import Run, Status
from downslope.diagnosis.accumulated import ALONE, Heard, Part
from downslope.diagnosis.ear import Ear
from downslope.diagnosis.eye import Eye, Seen
from downslope.diagnosis.holding import Holding
from downslope.diagnosis.inquest import Inquest, autopsy, placed
from downslope.diagnosis.lapses import Lapses, Told
from downslope.diagnosis.leftover import Leftover
from downslope.diagnosis.measure import alike
from downslope.diagnosis.origin import left_behind
from downslope.diagnosis.pace import Pace
from downslope.diagnosis.settings import (
    climbing,
    clips_of,
    parameters_of,
    rate_of,
    rates_of,
    settings_of,
    titled,
)
from downslope.diagnosis.zeroed import Zeroed
from downslope.training.choices import ProbeTimes
from downslope.training.environment import environment
from downslope.training.recorder import Recorder

SHARE = 0.005
"""Share of the time that sampled steps may cost; the first three, and the hooks of the other steps, take the
rest of 2 %."""

BUFFER = 256
"""Losses that wait for their way into the history, and off the device."""

NOTICED = 5
"""Every how many steps it is asked whether a parameter has lost its gradient. Odd, so that optimizers whose
parameters take turns are not met at the same turn each time."""

FORCED = 6
"""Steps at most that are looked at because a parameter has no gradient any more."""

_OF_FORWARD = ("start", "zero_fraction", "dead_fraction", "saturated_fraction", "out_std", "output")
"""What cannot be measured without a forward pass."""

_OTHER = "the model that was called holds no parameter of the optimizer"


class Track:
    """Steps of one optimizer, or of several that train one model together.

    Args:
        optimizers: The first one counts the steps.
        model: The model, where it is known.
        on_forward: Told of every forward pass in a sampled step.
        compiled: Compiled models known so far.
        ear: Hears the losses of sampled steps.

    Attributes:
        run: What was recorded.
        step: Steps taken.
        eye: What sees the forward passes.
        pace: How long the steps take, as far as that can be told from the model.
        armed: Whether the step that is being taken is measured.
        bad: Values of the data that are not finite: "non_finite" or "target_non_finite" to what was counted.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        model: nn.Module | None = None,
        on_forward: Seen | None = None,
        compiled: list[nn.Module] | None = None,
        ear: Ear | None = None,
    ) -> None:
        self.optimizers = tuple(optimizers)
        self.run = Run(environment=environment())
        parameters = parameters_of(*optimizers)
        self.run.choices = {"device": str(parameters[0].device), "threads": torch.get_num_threads()}
        lead = self.optimizers[0]
        self.run.facts |= {"optimizer": settings_of(lead), "clips": clips_of(lead)}
        self.step = 0
        self.eye = Eye(parameters, model, on_forward, compiled, ear)
        self.failure: str | None = None
        self._had, self._forced = False, 0
        self._origin: dict[str, Any] | None = None
        self.bad: dict[str, Any] = {}
        self.holding = Holding(self.optimizers, strangers=self.eye.strangers)
        self._leftover = Leftover()
        self.zeroed: Zeroed | None = None
        self._wake: float = 0
        self._inquest: Inquest | None = None
        self._recorder = Recorder(self.run)
        self.pace = Pace()
        self._times = ProbeTimes(self.pace.price, SHARE)
        self.armed = self._held = False
        self._waiting: set[int] = set()
        self._started = self._last = time.perf_counter()
        self.heard, self._rate = Heard(), math.nan
        self._lapses = Lapses()
        self._arm_if_due()

    # -- around the optimizer's step ----------------------------------------------------------------------

    def before(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """Before a step of `optimizer`: in a sampled step the gradient and the weights are read."""
        if not self.armed or self._held or _overflowed(optimizer):
            return
        try:
            self._held = True
            if not closure:
                self._gradients(optimizer)
            self.eye.weights()
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's training)
            self._fail(error)

    def after(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """After a step of `optimizer`."""
        if first := optimizer is self.optimizers[0]:
            self.step += 1
            self._last = time.perf_counter()
            self._rate = rate_of(optimizer)  # what its own schedule sets is there once it has stepped
            self.heard.rated(self.step, self._rate)
        if self.armed or self.step >= self._wake:  # most steps end here
            self._turn(optimizer, first, closure)
            self._plan()

    def _plan(self) -> None:
        """The step after which there is anything to do again."""
        self._wake = min(self._leftover.next, self._times.next - 1, self.step + NOTICED - self.step % NOTICED)

    def _turn(self, optimizer: torch.optim.Optimizer, first: bool, closure: bool) -> None:
        if first:
            if self.step < NOTICED or not self.step % NOTICED:
                self._notice(optimizer)
            if self.step >= self._leftover.next:
                with contextlib.suppress(Exception):  # nothing we look at may end anybody's training
                    self._leftover.turn(self.step, optimizer)
        if self.armed:
            self._waiting.discard(id(optimizer))
            if self._waiting and not (first and self.step > self._due):
                return
            self._finish(optimizer, closure)
        elif first and self.step + 1 >= self._times.next:
            self._arm_if_due()

    def _notice(self, optimizer: torch.optim.Optimizer) -> None:
        """Look soon where what had a gradient has none any more: its layer may have been replaced."""
        groups = optimizer.param_groups
        if self._forced >= FORCED or not groups or not (groups[0]["params"] and groups[-1]["params"]):
            return
        if groups[0]["params"][0].grad is not None and groups[-1]["params"][-1].grad is not None:
            self._had = True
        elif self._had and self.step > 3:
            self._forced += 1
            self._times.next = min(self._times.next, self.step + 1)

    def _arm_if_due(self) -> None:
        if self._times.due(self.step + 1):
            self.armed, self._held = True, False
            self._due = self.step + 1
            self._waiting = {id(each) for each in self.optimizers}
            self.eye.open()

    def _gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradient norms; a fused optimizer under a GradScaler is handed scaled gradients, and the scale."""
        scale: Any = getattr(optimizer, "grad_scale", None)
        self.eye.gradients(1.0 if scale is None else float(scale))
        self.holding.look(self.eye.observers, self.step + 1)

    def _finish(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        try:
            if closure:
                self._gradients(optimizer)
            self._record(self.eye.updates())
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's training)
            self._fail(error)
        self.eye.close()
        self.armed = False
        self._arm_if_due()

    def _record(self, values: Mapping[str, Mapping[str, float]]) -> None:
        facts = self.run.facts
        if self.eye.called and "modules" not in facts:
            facts |= self.eye.surveyed()
            facts["start"] = {"loss": None, "layers": self.eye.layers, "norms": self.eye.norms}
            self._price(facts["modules"])
        if "nonfinite" in facts:  # a NaN is neither a dead unit nor an update
            return
        self._recorder.probe(self._due, values)
        norms = values.get("grad_norm", {}).values()
        if norms:
            self._recorder.now(self._due, grad_norm=math.sqrt(sum(each * each for each in norms)))

    def _price(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        gradients = [p.grad for p in parameters_of(*self.optimizers) if p.grad is not None]
        dense = not any(each.is_sparse for each in gradients)
        self.pace.learn(modules, self.run.choices["threads"], self.run.choices["device"], dense)
        self._times.reprice(self.pace.price, self.step)

    def _fail(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"

    # -- losses -------------------------------------------------------------------------------------------

    def loss(
        self, value: Tensor | float, step: int, seen: Mapping[str, Any] | None = None, of: Part = ALONE
    ) -> None:
        """The loss of (a part of) `step`; several of one step are one (`downslope.diagnosis.accumulated`).

        Args:
            value: The loss.
            step: Its step.
            seen: What an `autopsy` before its backward pass found; None where there was none.
            of: By what it was multiplied before its backward pass.
        """
        given = value
        if isinstance(value, Tensor):
            value = value.item() if value.is_cpu else value.detach().clone()
        finite = type(value) is not float or self._lapses.hear(step, value)
        if seen is not None or not finite:
            self.lost(step, given, seen)
        elif type(value) is float and step > self.run.facts.get("nonfinite", {}).get("step", step):
            self._came_back()
        if len(self.heard.rows) >= BUFFER and not self.heard.has(step):
            self._flush()
        rate = self._rate if step == self.step else rate_of(self.optimizers[0])
        self.heard.add(step, of._replace(value=value), rate)

    def _came_back(self) -> None:
        """A loss is finite after one that was not: that batch was skipped, or it moved nothing."""
        if "nonfinite" in self.run.facts:
            self.run.facts["nonfinite_once"] = self.run.facts.pop("nonfinite")

    def losses(self) -> Sequence[float]:
        """The losses that were heard so far."""
        self._flush()
        return self.run.history.series("train_loss").values.tolist()

    def _flush(self) -> None:
        """Move the losses to the history; those on another device are brought from there together."""
        rows = self.heard.take()
        away = [value.reshape(()) for _, value, _ in rows if isinstance(value, Tensor)]
        brought = iter(cast("list[float]", torch.stack(away).double().tolist() if away else []))
        told: list[Told] = []
        for step, value, lr in rows:
            made = next(brought) if isinstance(value, Tensor) else value
            if isinstance(value, Tensor) and not self._lapses.hear(step, made):
                self.lost(step, made, None)
            told.append(Told(step, made, lr))
        self._write(self._lapses.passed(told))

    def _write(self, told: Sequence[Told]) -> None:
        steps = [each.step for each in told]
        self.run.history.extend("train_loss", steps, [each.loss for each in told])
        self.run.history.extend("lr", steps, [each.lr for each in told])

    def lost(self, step: int, loss: Tensor | float, seen: Mapping[str, Any] | None) -> None:
        """The loss of `step` is not finite: name what is not, as far as it can be seen now."""
        if "nonfinite" in self.run.facts:
            return
        if seen is None:
            graph = isinstance(loss, Tensor) and loss.grad_fn is not None
            seen = autopsy(cast("Tensor", loss)) if graph else {}
            if self.step >= step:
                seen = {where: what for where, what in seen.items() if where != "weights"}
        for key in ("non_finite", "target_non_finite"):
            if key in seen:
                self.bad[key] = placed(seen[key], step)
        module, all_of_them = self.eye.non_finite_weight()
        # After its step a loss that is not finite has spoilt every weight: they do not say what came first.
        if not seen.get("weights") and (self.bad or (all_of_them and self.step >= step)):
            module = None
        what = "weight" if module is not None else "loss"
        self.run.facts["nonfinite"] = {"step": step, "what": what, "module": module}
        if module is not None:
            self._spoilt(step)
            self.run.facts["nonfinite"] |= {"gradients": self._origin}
        if what == "loss" and not self.bad and "arithmetic" in seen:
            self.run.facts["nonfinite"] |= {"arithmetic": seen["arithmetic"]}
        if not self.bad and self._inquest is None:
            owns, compiled = self.eye.owns, self.eye.compiled
            self._inquest = Inquest(owns, compiled, self.now, self.bad.setdefault)

    def _spoilt(self, step: int) -> None:
        """Before `step`, whose loss is not finite: which gradients of the step before were not."""
        heard = [row for row in self.heard.rows if row[0] == step - 1]
        if self._origin is None and self.step == step - 1 and heard:
            self._origin = left_behind(self.eye.observers, self.optimizers)

    def fell(self) -> None:
        """The loss of the next step is not finite, and its backward pass has not run."""
        if "nonfinite" not in self.run.facts:
            self._spoilt(self.step + 1)

    def now(self) -> int:
        """The step that is being taken."""
        return self.step + 1

    def validated(self, **values: float) -> None:
        """Scores on validation data, after the steps taken so far."""
        self._recorder.now(self.step, **values)

    # -- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Look no more."""
        self.eye.close()
        self._leftover.drop()
        self._leftover.next = math.inf
        if self._inquest is not None:
            self._inquest.close()
        self.armed = False
        self._times.next = math.inf

    def conclude(self, status: Status) -> Run:
        """The run as it stands, with its summary; may be called again later."""
        self._flush()
        # Where nothing came of it in the weights, the last one is as those before.
        if self._lapses.usual and self.eye.non_finite_weight()[0] is None:
            self._came_back()
        else:
            self._write(self._lapses.left())
        run, facts = self.run, self.run.facts
        losses = run.history.series("train_loss")
        facts["optimizer"] |= titled(self.optimizers[0], str(facts["optimizer"]["name"]))
        run.status = status
        if len(losses.values) and not np.isfinite(losses.values[-1]):
            run.status = "diverged"
            if "nonfinite" not in facts:
                first = int(np.flatnonzero(~np.isfinite(losses.values))[0])
                facts["nonfinite"] = {"step": int(losses.steps[first]), "what": "loss", "module": None}
        else:  # a loss that came back, as under a GradScaler
            self._came_back()
        if "nonfinite_once" in facts:
            facts["nonfinite_once"] |= self._lapses.measured()
        if "start" not in facts and self.zeroed is not None and (rows := self.zeroed.measured(run)):
            facts |= {"start": {"loss": None, "layers": [], "norms": [], "matrices": rows}}
        if "start" in facts and len(losses.values) and losses.steps[0] <= 1:
            first_loss = float(losses.values[0])
            facts["start"]["loss"] = first_loss if math.isfinite(first_loss) else None
        facts["alike"] = alike.still(self.eye.layers, (each.inner for each in self.eye.observers.values()))
        if (left := self._leftover.measured()) is not None:
            facts["leftover"] = left
        if (unused := self._leftover.wasted()) is not None:
            facts["unused"] = unused
        if (flow := self.holding.measured()) is not None:
            facts["flow"] = flow
        if (lags := self.eye.memory.measured()) is not None:
            facts["reach"] = lags
        facts["rates_left"] = rates_of(*self.optimizers)
        facts["climbs"] = climbing(*self.optimizers)
        facts["resting"] = None if "modules" in facts else self.eye.resting.measured(self.eye.owns)
        facts["not_measured"] = facts.get("not_measured", {}) | self.unseen()
        run.choices |= {"probe_price": self._times.price, "probes": self._times.taken}
        tail = losses.values[-max(1, len(losses.values) // 10) :]
        run.summary = {
            "train_loss": float(tail.mean()) if len(tail) and np.isfinite(tail).all() else None,
            "train_metric": None,
            "valid_loss": run.history.last("valid_loss"),
            "valid_metric": run.history.last("valid_metric"),
            "steps": self.step,
            "seconds": self._last - self._started,
            "model": "last",
        }
        return run

    def unseen(self) -> dict[str, str]:
        """What no forward pass showed, with the reason."""
        reason = self.eye.blind or self.failure
        if reason is None and self.step and "modules" not in self.run.facts:
            met = self.eye.strangers.called
            reason = _OTHER if met else "no forward pass in training mode was seen"
        broken = next((o.failure for o in self.eye.observers.values() if o.failure is not None), None)
        reason = reason or broken
        if reason is None:
            return {}
        return dict.fromkeys(_OF_FORWARD, reason)


def _overflowed(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer is about to leave out this step, because scaled gradients overflowed."""
    found: Any = getattr(optimizer, "found_inf", None)
    return found is not None and float(found) > 0
