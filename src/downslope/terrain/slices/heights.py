"""The value of the ground at many points of a line or a plane: as one batch where that is faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.loss import Objective
from downslope.core.memory import out_of_memory
from downslope.terrain.ground import ModelGround
from downslope.terrain.slices.slice import Floats

Measure = Callable[[Any, Any], float]
"""``(output, target) -> number``, of all examples joined."""

LOOPED = 0.005
"""Seconds of one evaluation above which there is nothing to win by evaluating several at once."""

ARRANGED = 0.05
"""Seconds of one evaluation above which other layouts and parts of the examples are tried."""

PART = 128
"""Examples of a part, whose activations stay in the cache."""

MEMORY = 2**28
"""Bytes of copies of the weights that a batch of points may take."""

CHUNK = 256
"""Points at most in a batch."""


class Heights:
    """The value at ``origin + sum of c_k direction_k`` for coordinates c.

    Points go one by one, or, where the model allows and it is measured to be faster, as one batch:
    `torch.func.vmap` over copies of the weights. Small models win, where the time goes into calls; a
    convolution under `vmap` becomes one of as many groups, and loses. Of a large model all examples are the
    batch, in parts of 128 and with channels last where that is measured to be faster: the 2c2d network on
    1,000 images takes 0.43 of the time so.

    Args:
        ground: Put back to where it stood by `close`.
        directions: Flat, each of the ground's size.
        measure: What is to be told in place of the loss.

    Attributes:
        way: "one by one" or "batches of N".
        count: Evaluations so far.
    """

    def __init__(
        self, ground: ModelGround, directions: Sequence[Tensor], measure: Measure | None = None
    ) -> None:
        self.ground, self.directions, self.measure = ground, directions, measure
        self.origin = ground.where()
        self.way, self.count = "one by one", 0
        self._chunk = 1
        self._settled = False
        self._whole = _Whole(ground.model, ground.objective)
        self._price: float | None = None
        self._best: float | None = None

    def close(self) -> None:
        """Put the ground back."""
        self.ground.put(self.origin)

    def weights(self, coordinates: Sequence[float]) -> Tensor:
        """The flat vector at one point."""
        found = self.origin.clone()
        for c, direction in zip(coordinates, self.directions, strict=True):
            if c:
                found.add_(direction, alpha=float(c))
        return found

    def at(self, coordinates: Sequence[float]) -> float:
        """The value at one point; NaN or infinite where it is."""
        self.count += 1
        self.ground.put(self.weights(coordinates))
        if self.measure is None:
            return self.ground.loss()
        return float(self.measure(*self.ground.within(self._outputs)))

    def _outputs(self) -> tuple[Any, Any]:
        """Outputs and targets of all examples."""
        outputs: list[Any] = []
        targets: list[Any] = []
        with torch.no_grad():
            for index, share in self.ground.shares():
                with self.ground.still.look(index):
                    found = self.ground.objective.raw(self.ground.model, share.batch)
                outputs.append(found.output)
                targets.append(found.target)
        return batches.join(outputs), batches.join(targets)

    def price(self) -> float:
        """Seconds of one evaluation, measured once at the origin."""
        if self._price is None:
            self._look()
            self._price, value = self._look()
            if self._price > ARRANGED and self.origin.device.type == "cpu" and math.isfinite(value):
                self._arrange(value)
        return self._price

    def _look(self) -> tuple[float, float]:
        """Seconds of one evaluation at the origin, and its value."""
        began = time.perf_counter()
        value = self.at([0.0] * len(self.directions))
        return time.perf_counter() - began, value

    def _arrange(self, value: float) -> None:
        """Try layouts and parts, and keep what is fastest and gives the same value."""
        own = self.ground.chunk
        images = any(p.dim() == 4 for p in self.ground.params)
        best: tuple[float, bool, int | None] = (self._price or math.inf, False, own)
        for last, part in ((False, PART), (True, PART), (True, own)):
            if (last and not images) or (part is not None and own is not None and part >= own):
                continue
            self._lay(last, part)
            took, found = self._look()
            if took < 0.95 * best[0] and math.isclose(found, value, rel_tol=1e-5):
                best = (took, last, part)
        self._lay(*best[1:])
        self._price = best[0]

    def _lay(self, last: bool, part: int | None) -> None:
        layout = torch.channels_last if last else torch.contiguous_format
        for p in self.ground.params:
            if p.dim() == 4:
                p.data = p.data.clone(memory_format=layout)  # of one channel `contiguous` leaves the strides
        self.ground.chunk = part

    def expected(self, count: int) -> float:
        """Seconds that so many points will take, by those that were timed."""
        self._settle(count)
        return count * (self.price() if self._best is None else self._best)

    def each(self, points: Floats) -> Iterator[tuple[int, Floats]]:
        """Values at `points`, shape (n, axes), as they come: where they begin, and the values."""
        self._settle(len(points))
        at = 0
        while at < len(points):
            some = points[at : at + self._chunk]
            if self._chunk == 1:
                values = np.array([self.at(some[0])])
            else:
                try:
                    found = self._batched(some)
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    self._narrower(max(1, self._chunk // 4), "out of memory")
                    continue
                if found is None:
                    self._narrower(1, "a step of the model cannot be batched")
                    continue
                values = found
            yield at, values
            at += len(some)

    # -- several at once ----------------------------------------------------------------------------------

    def _settle(self, wanted: int) -> None:
        """Measure, once, whether batches are faster."""
        if self._settled or wanted < 32 or self.measure is not None or self.price() > LOOPED:
            return
        self._settled = True
        if len(list(self.ground.shares())) != 1:  # all examples at once, or copies of them would not fit
            return
        size = self.ground.size * self.ground.params[0].element_size()
        most = int(min(CHUNK, wanted, max(1, MEMORY // max(1, size))))
        best, chunk = self.price(), min(8, most)
        while chunk > 1:
            points = np.zeros((chunk, len(self.directions)))
            points[:, 0] = np.linspace(0, 1e-3, chunk)
            try:
                took = self._timed(points)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._narrower(self._chunk, "out of memory")
                return
            if took is None or took / chunk > 0.95 * best:
                return
            best, self._chunk, self.way = took / chunk, chunk, f"batches of {chunk}"
            self._best = best
            if chunk == most:
                return
            chunk = min(4 * chunk, most)

    def _timed(self, points: Floats) -> float | None:
        """Seconds that a batch takes; None where it fails, or gives other values than one by one."""
        found = self._batched(points)
        if found is None:
            return None
        alone = np.array([self.at(points[0]), self.at(points[-1])])
        eps = torch.finfo(self.ground.params[0].dtype).eps
        if not np.allclose(found[[0, -1]], alone, rtol=1e3 * eps, atol=1e3 * eps):
            return None
        began = time.perf_counter()
        self._batched(points)
        return time.perf_counter() - began

    def _batched(self, points: Floats) -> Floats | None:
        """Values at points as one batch; None where the model does not allow it. Want of memory is raised."""
        c = torch.from_numpy(points).to(self.origin)
        stacked = torch.addmm(self.origin.expand(len(points), -1), c, torch.stack(list(self.directions)))
        cut: Any = torch.split(stacked, [p.numel() for p in self.ground.params], dim=1)
        tensors = {
            f"model.{name}": piece.reshape(len(points), *p.shape)
            for name, piece, p in zip(self.ground.names, cut, self.ground.params, strict=True)
        }
        batch = next(iter(self.ground.pieces)).batch
        try:
            with torch.no_grad():
                func: Any = torch.func
                values = func.vmap(self._value, in_dims=(0, None))(tensors, batch)
        except Exception as error:
            if out_of_memory(error):
                raise
            return None
        self.count += len(points)
        return values.double().cpu().numpy()

    def _value(self, tensors: dict[str, Tensor], batch: Any) -> Tensor:
        func: Any = torch.func
        return func.functional_call(self._whole, tensors, (batch,))

    def _narrower(self, chunk: int, why: str) -> None:
        self._chunk = chunk
        self.way = f"batches of {chunk}" if chunk > 1 else "one by one"
        told = f"{why}: points go {self.way}" if chunk == 1 else f"{why}: points go in {self.way}"
        self.ground.notes[:] = [*(each for each in self.ground.notes if ": points go" not in each), told]


class _Whole(nn.Module):
    """Model and objective as one function of the weights and a batch."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Tensor:
        """The loss."""
        return self.objective(self.model, batch).value
