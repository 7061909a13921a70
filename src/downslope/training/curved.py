"""The ground of one training step, for methods that look at it more than once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.loss import Loss, learnt
from downslope.core.run import Status
from downslope.core.sources import Memory
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.ground.halves import Halves, halves
from downslope.terrain.ground.still import Still
from downslope.terrain.hvp import unflat
from downslope.terrain.methods.method import Method
from downslope.terrain.methods.step import subject, usual
from downslope.training.accumulate import Parts, detached
from downslope.training.broadcast import is_new
from downslope.training.hushed import are_hushed
from downslope.training.recorder import Recorder
from downslope.training.state import StepState

_log = logging.getLogger("downslope")

FAILURES, MANY = 3, 20
"""Steps in a row without a point below that end a run: on the whole set, and where every step is another."""

ROSE = 0.1
"""Share of the first batch's loss by which that of the training data is to lie above it, to be told: one
batch is a sample."""

Rewind = Callable[[int], None]
"""Puts the step's randomness to the start of a piece, by its index."""


def _nothing(index: int) -> None:
    del index


class StepStill(Still):
    """Looks at one training step: every dropout module of a piece draws what it drew at the first look.

    Args:
        state: The model in training.
        rewind: Puts randomness to the start of a piece.

    Attributes:
        drew: Whether any look drew a random number.
    """

    def __init__(self, state: StepState, rewind: Rewind) -> None:
        seed = randomness.address(state.recipe.seed, "step", state.step + 1)
        super().__init__(state.model, seed)
        self._rewind, self._device, self.drew = rewind, state.device, False

    @contextmanager
    def look(self, index: int = 0) -> Generator[None]:
        """A block that evaluates piece `index`."""
        with super().look(index):
            self._rewind(index)
            before = self._states()
            yield
            self.drew = self.drew or any(
                not torch.equal(a, b) for a, b in zip(before, self._states(), strict=True)
            )

    def _states(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]


class StepGround(ModelGround):
    """The training loss of one batch; what was looked at last is not looked at again.

    Args:
        state: Model and objective, on their device.
        batch: Of the step, augmented.
        parts: Cuts it into pieces, where the recipe accumulates.
        rewind: Puts randomness to the start of a piece.
    """

    def __init__(self, state: StepState, batch: Any, parts: Parts | None, rewind: Rewind) -> None:
        cut = [(batch, 1.0)] if parts is None else parts.pieces(batch)
        super().__init__(state.model, state.objective, [Piece(part, weight) for part, weight in cut])
        self.batch, self._parts, self._losses = batch, parts, list[Loss]()
        self._looks = StepStill(state, rewind)
        self.still = self._looks
        if (beside := learnt(state.objective.function)) is not None:
            named = [(name, p) for name, p in beside.named_parameters() if p.requires_grad]
            self.params += [p for _, p in named]
            self.names += [f"objective.{name}" for name, _ in named]
            self.size = sum(p.numel() for p in self.params)
        self._last: tuple[Tensor, float, Tensor, Loss] | None = None

    def look(self, *, fresh: bool) -> Loss:
        """What the objective was here, without a graph; `fresh` forgets the last look."""
        if fresh:
            self._last = None
        return self.within(self._seen)[3]

    def _bare(self) -> tuple[float, Tensor]:
        """Loss and gradient here, without decay; of the point of the last look as they were."""
        _, value, gradient, _ = self._seen()
        return value, gradient

    def _seen(self) -> tuple[Tensor, float, Tensor, Loss]:
        x = self.where()
        if self._last is None or not torch.equal(self._last[0], x):
            self._losses = []
            value, gradient = super()._bare()
            self._last = (x, value, gradient, self._joined(value))
        return self._last

    def run(self, batch: Any, index: int = 0) -> Loss:
        """The objective of the model on a batch; noted for `look`."""
        loss = super().run(batch, index)
        self._losses.append(detached(loss))
        return loss

    def shrink(self) -> None:
        """Look at half as many examples together; what was noted of more counts no longer."""
        super().shrink()
        self._losses = []

    def settled(self, state: StepState) -> bool:
        """Whether the next step stands on the same function: all the data, and nothing drawn or moved."""
        source = state.problem.train_source
        whole = isinstance(source, Memory) and batches.length(self.batch) == source.size
        return whole and state.augment is None and not self._looks.drew and not self.still.start()

    def _joined(self, value: float) -> Loss:
        if len(self._losses) == 1:
            return self._losses[-1]
        if self._parts is None or self.chunk is not None:  # memory ended, and what was to be one is several
            joined = {
                key: batches.join([getattr(each, key) for each in self._losses])
                for key in ("output", "target", "made")
                if all(getattr(each, key) is not None for each in self._losses)
            }
            whole = self._losses[-1]._replace(**joined)
        else:
            whole = self._parts.whole(self.batch, self._losses)
        return whole._replace(value=torch.as_tensor(value, dtype=whole.value.dtype))


class Curved:
    """Forward, backward and move of a step, for a method that steps by looks.

    Args:
        state: Whose optimizer is a `Method`.
        parts: Cuts batches, where the recipe accumulates.

    Attributes:
        rewind: Puts the step's randomness to the start of a piece; the loop sets it.
    """

    def __init__(self, state: StepState, method: Method, parts: Parts | None) -> None:
        self.state, self.method, self._parts = state, method, parts
        self.rewind: Rewind = _nothing
        self._ground: StepGround | None = None
        self._told: dict[str, dict[str, Any]] = {}
        self._met: dict[str, Any] = {}

    def forward(self, batch: Any, *, fresh: bool) -> Loss:
        """The objective on `batch`; `fresh` looks anew, since hooks watch."""
        ground = self._ground
        if ground is None or not ground.fixed or ground.batch is not batch:
            chunk = None if ground is None else ground.chunk
            ground = self._ground = StepGround(self.state, batch, self._parts, self.rewind)
            ground.chunk = chunk
        ground.decay = None
        loss = ground.look(fresh=fresh)
        ground.fixed = ground.settled(self.state)
        return loss

    @property
    def ground(self) -> StepGround:
        """Of the last forward."""
        if self._ground is None:
            raise RuntimeError("no forward pass yet")
        return self._ground

    def backward(self) -> None:
        """The gradient of the last forward, in ``.grad``."""
        _, gradient = self.ground.slope()
        for p, part in zip(self.ground.params, unflat(gradient, self.ground.params), strict=True):
            p.grad = part.clone()

    def move(self) -> None:
        """The method's step."""
        self.method.step(self.ground)

    @property
    def _name(self) -> str:
        return str(self.state.recipe.optimizer).replace("_", "-")

    @property
    def columns(self) -> dict[str, float]:
        """What the history has of a method beside the loss: its looks and products so far."""
        return {"evaluations": float(self.method.evaluations), "products": float(self.method.products)}

    def ended(self, recorder: Recorder) -> Status | None:
        """The status of a run that the last step has ended; what the step said is told once, and kept.

        A step that finds nothing on one batch says nothing of the next, so only the whole set, unchanged
        from step to step, ends a run at once.
        """
        last, ground = self.method.last, self.ground
        if last is None:
            return None
        if last.said:
            self._tell(last.said, recorder)
        for note in ground.notes:
            if note.startswith("out of memory"):
                self._tell(note, recorder)
        if not ground.fixed and "halves" not in self.state.run.facts and _is_power_of_ten(self.state.step):
            self._compare(ground, recorder)
        if last.converged and ground.fixed:
            return "converged"
        return "stalled" if self.method.failures >= (FAILURES if ground.fixed else MANY) else None

    def _compare(self, ground: StepGround, recorder: Recorder) -> None:
        """Say once where a batch is too small for its curvature or its gradient, with figures.

        Of a method that takes running means a first step is of one batch, as all are bound to be.
        """
        size = batches.length(ground.batch)
        whole = self.state.problem.train_source.size
        over = min(self.method.averaged, self.state.step)
        if size == whole or size < 2 or self.method.batch is None or are_hushed():
            return
        if over == 1 < self.method.averaged:
            return
        found = self._halved(ground, size)
        found = Halves(*(each / math.sqrt(over) for each in found))
        needed = found.needed(size)
        self._met = {"batch": size, "step": self.state.step, **found._asdict(), "needed": needed}
        if not found.small:
            return
        recorder.fact("halves", self._met)
        if not is_new(f"halves of {self._name} on batches of {size}"):
            return
        _log.warning(
            "%s on batches of %d: the %s%s, a step divides by the one and goes along the other; %s",
            self._name, size, found.said,
            f" in the mean of {over:.0f} batches" if over > 1 else "", self._larger(needed),
        )  # fmt: skip

    def _larger(self, needed: int) -> str:
        """What to do about a batch that is too small."""
        source = self.state.problem.train_source
        if not isinstance(source, Memory):
            return f"give batches of {needed} or more"
        enough = "" if needed >= source.size else f"batch_size={needed} or more, or "
        return f"use {enough}batch_size='full'"

    def climbed(self, recorder: Recorder) -> None:
        """Say at the end of a run where its steps went down on their own batches, and up on the whole.

        The loss of the first batch, before its step, stands beside that of the training data after the last.
        """
        state, ground = self.state, self._ground
        losses = state.run.history.series("train_loss").values
        end = state.run.summary.get("train_loss")
        if ground is None or ground.fixed or self.method.batch is None or are_hushed():
            return
        size, whole = batches.length(ground.batch), state.problem.train_source.size
        if size == whole or end is None or not len(losses) or state.run.status == "diverged":
            return
        start = float(losses[0])
        up = start - end if state.problem.maximize else end - start
        if up <= ROSE * abs(start):
            return
        needed = max(int(self._met.get("needed", 0)), 4 * size)
        recorder.fact("climbed", self._met | {"batch": size, "start": start, "end": end, "needed": needed})
        if not is_new(f"climbs of {self._name} on batches of {size}"):
            return
        _log.warning(
            "%s on batches of %d: each step goes down on its own batch, and the loss of the training data "
            "went from %.3g to %.3g; %s",
            self._name, size, start, end, self._larger(needed),
        )  # fmt: skip

    def _halved(self, ground: StepGround, size: int) -> Halves:
        buffers = [(each, each.clone()) for each in self.state.model.buffers()]
        half = size // 2
        parts = [
            batches.map_tensors(lambda leaf, at=at: leaf[at], ground.batch)
            for at in (slice(half), slice(half, 2 * half))
        ]
        first, second = (StepGround(self.state, part, None, self.rewind) for part in parts)
        try:
            return halves(first, second)
        finally:
            for each, kept in buffers:
                each.data.copy_(kept)

    def _tell(self, said: str, recorder: Recorder) -> None:
        told = self._told.setdefault(subject(said), {"first": self.state.step, "said": said, "count": 0})
        told["count"] += 1
        if told["count"] == 1 and not usual(said) and not are_hushed():
            _log.warning("%s, step %d: %s", self._name, self.state.step, said)
        if told["count"].bit_count() == 1:
            recorder.fact("method", list(self._told.values()))


def _is_power_of_ten(step: int) -> bool:
    return str(step).rstrip("0") == "1"
