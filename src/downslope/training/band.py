"""Whether bfloat16 stays within the noise of float32: before a run on its first steps, and while it goes.

Before: three twins of the run take the same first steps. One is float32; one is float32 with another order of
the batches and other draws of dropout, and its distance from the first is the noise that no one can tell from
the result; one is bfloat16 with the first one's batches and draws. Their weights are judged in float32 on the
same examples. The band holds where bfloat16 stays within `SHARE` of the noise.

While it goes: on a batch now and then the gradient is formed in float32 too, and once more on half of the
batch. ``|g16 - g32| / |g32|`` is what rounding adds, the sine of the angle between half and whole what the
choice of the batch adds. Where rounding is more than `SHARE` of that over the latest looks, the run goes on
in float32.
"""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.fixed_sample import sample
from downslope.core.sources import Source
from downslope.training.accumulate import cut
from downslope.training.choices import ProbeTimes
from downslope.training.depth import depths_of
from downslope.training.evaluate import evaluating
from downslope.training.optimizer import build_optimizer
from downslope.training.rates import Rates
from downslope.training.recorder import Recorder
from downslope.training.state import StepState
from downslope.training.stochastic import StepRandomness

_log = logging.getLogger("downslope")

SHARE = 0.5
"""Largest share of the noise that rounding may be: its variance adds a quarter to that of the noise."""

STEPS, EVERY = 12, 3
"""Steps that the twins take, and how often they are judged."""

JUDGED = 256
"""Examples on which they are."""

LOOKS = 3
"""Latest looks at the gradient that decide together."""

PRICE, COSTS = 6.0, 0.01
"""A look in plain steps (one and a half in float32, each three or four of bfloat16), and the share of the
time that looks may take."""


class Band(NamedTuple):
    """How far bfloat16 is from float32, beside how far float32 is from itself."""

    deviation: float
    """Root mean square of the difference of the losses."""
    noise: float
    """The same of two runs in float32 that differ in the order of their batches."""

    @property
    def holds(self) -> bool:
        """Whether no one could tell."""
        return math.isfinite(self.deviation) and self.deviation <= SHARE * self.noise

    def __str__(self) -> str:
        return f"loss off by {self.deviation:.2g}, noise {self.noise:.2g}"


def measure(
    state: StepState, train: Source, batch_size: int, total: int, *, channels_last: bool = False
) -> Band:
    """The band on the first steps of a run; nothing of the run itself is touched.

    Args:
        state: Before the first step.
        train: On the device.
        batch_size: Examples a step.
        total: Steps of the run, for its schedule.
        channels_last: How the bfloat16 run would lay out its weights.
    """
    seed = state.recipe.seed
    parameter = next(state.model.parameters())
    held = batches.to(sample(train, JUDGED), state.device, parameter.dtype)
    run = functools.partial(_losses, state, train, batch_size, total, held)
    plain = run(seed)
    other = run(seed + 1 if seed < 2**62 else seed - 1)
    half = run(seed, bfloat16=True, channels_last=channels_last)
    return Band(_apart(half, plain), _apart(other, plain))


def _apart(a: list[float], b: list[float]) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a))


def _losses(
    state: StepState,
    train: Source,
    batch_size: int,
    total: int,
    held: Any,
    seed: int,
    *,
    bfloat16: bool = False,
    channels_last: bool = False,
) -> list[float]:
    """The loss of a twin on `held`, in float32, every few of its steps."""
    model: nn.Module = copy.deepcopy(state.model)
    objective = copy.deepcopy(state.objective)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (no stub for it)
    optimizer = build_optimizer(state.recipe, model, depths_of(state.problem, state.recipe, model))
    rates = Rates(state.recipe, optimizer, total)
    parameters = [p for p in model.parameters() if p.requires_grad]
    random = StepRandomness(model, seed)
    found: list[float] = []
    with random:
        stream = train.epoch(batch_size, seed, 0)
        for step, batch in enumerate(itertools.islice(stream, STEPS), 1):
            batch = batches.to(batch, state.device, next(model.parameters()).dtype)
            batch = batch if state.augment is None else state.augment(batch, 0, step - 1)
            random.at(step)
            rates.at(step - 1)
            with torch.autocast(state.device.type, torch.bfloat16, enabled=bfloat16):
                value = objective(model, batch).value
            optimizer.zero_grad()
            value.backward()
            if state.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, state.recipe.clip_norm)
            if state.recipe.clip_value is not None:
                nn.utils.clip_grad_value_(parameters, state.recipe.clip_value)
            optimizer.step()
            if step % EVERY == 0:
                with evaluating(model):
                    found.append(float(objective.raw(model, held).value))
    return found


class Watch:
    """Looks now and then whether the gradient of bfloat16 is still float32's, but for noise.

    Args:
        state: The run, in training.

    Attributes:
        looks: Rounding and noise of the latest looks, each relative to the gradient.
    """

    def __init__(self, state: StepState) -> None:
        self.state = state
        self.times = ProbeTimes(PRICE, COSTS, free=1)
        self.looks: list[list[float]] = []

    def due(self, step: int) -> bool:
        """Whether this step, counted from 1, is looked at; asked once for every step in order."""
        return self.times.due(step)

    def look(self, batch: Any, rewind: Callable[[], None], recorder: Recorder) -> bool:
        """`holds`; a run that left the noise goes on in float32, and it is recorded and told."""
        if self.holds(batch, rewind):
            return True
        step, (rounding, noise) = self.state.step + 1, self.sizes
        self.state.run.choices["precision"] = "float32"
        recorder.fact("left_bfloat16", {"step": step, "rounding": rounding, "noise": noise})
        _log.warning(
            "from step %d on in float32: bfloat16 changes the gradient by %.2g of its length, the choice of "
            "a batch by %.2g", step + 1, rounding, noise,
        )  # fmt: skip
        return False

    def holds(self, batch: Any, rewind: Callable[[], None]) -> bool:
        """Whether the gradient of `batch` that stands in ``.grad`` is float32's, but for noise.

        Gradients, buffers and randomness are left as they were.

        Args:
            batch: What the gradient is of.
            rewind: Puts the step's randomness back to its start.
        """
        size = batches.length(batch)
        if size < 2:
            return True
        model = self.state.model
        parameters = [p for p in model.parameters() if p.grad is not None]
        own = [p.grad for p in parameters]
        buffers = [(each, each.clone()) for each in model.buffers()]
        half: list[Any] = own
        if self.state.recipe.accumulate > 1:  # what stands there is of more than fits into memory at once
            batch = cut(batch, self.state.recipe.accumulate)[0]
            size = batches.length(batch)
            half = self._gradient(parameters, batch, rewind, bfloat16=True)
        whole = self._gradient(parameters, batch, rewind)
        part = self._gradient(parameters, batches.map_tensors(lambda leaf: leaf[: size // 2], batch), rewind)
        with torch.no_grad():
            for each, kept in buffers:
                each.copy_(kept)
        for p, grad in zip(parameters, own, strict=True):
            p.grad = grad
        rewind()
        self.looks = [*self.looks, list(_relative(half, whole, part))][-LOOKS:]
        return self.within

    @property
    def within(self) -> bool:
        """Whether the latest looks, together, are in the band."""
        rounding, noise = self.sizes
        return not rounding > SHARE * noise or not math.isfinite(noise)

    @property
    def sizes(self) -> tuple[float, float]:
        """Rounding and noise, root mean squares over the latest looks."""
        count = max(len(self.looks), 1)
        rounding, noise = (math.sqrt(sum(each[i] ** 2 for each in self.looks) / count) for i in (0, 1))
        return rounding, noise

    def saved(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {"taken": self.times.taken, "next": self.times.next, "looks": self.looks}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `saved` gave."""
        self.times.taken, self.times.next, self.looks = saved["taken"], saved["next"], saved["looks"]

    def _gradient(
        self,
        parameters: list[nn.Parameter],
        batch: Any,
        rewind: Callable[[], None],
        *,
        bfloat16: bool = False,
    ) -> list[Tensor]:
        rewind()
        for p in parameters:
            p.grad = None
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=bfloat16):
            value = self.state.objective(self.state.model, batch).value
        value.backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def _relative(half: list[Any], whole: list[Tensor], part: list[Tensor]) -> tuple[float, float]:
    """``|g16 - g32| / |g32|``, and the sine of the angle between the gradients of part and whole."""

    def dot(a: list[Any], b: list[Any]) -> float:
        return float(torch.stack([(x.float() * y.float()).sum() for x, y in zip(a, b, strict=True)]).sum())

    norm = dot(whole, whole)
    apart = [x.float() - y.float() for x, y in zip(half, whole, strict=True)]
    own = dot(part, part)
    if not norm or not own:
        return 0.0, 0.0
    cosine = dot(part, whole) / math.sqrt(norm * own)
    return math.sqrt(dot(apart, apart) / norm), math.sqrt(max(1 - cosine * cosine, 0.0))
