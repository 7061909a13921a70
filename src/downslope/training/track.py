"""The ground under a run: sharpness against the stable limit, and the gradient noise scale, as training goes
on.

Everything is measured on copies, on a fixed sample, in the modes in which the steps are taken: batch norm
with the statistics of the sample, dropout with masks that are drawn once. In evaluation mode it would be
another function than the one that is gone down on: a bias before batch norm has no slope in training, so that
Adam's scale of it is that of nothing, and a large one as soon as the statistics stand still. Training takes
the same bits with and without it. What a measurement costs is timed once for a machine and a model, in plain
steps, and kept; which steps are measured then follows from counts alone.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import copied
from downslope.optim.stability import ADAPTIVE, method_of
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.ground.frozen import held_still
from downslope.terrain.ground.point import HEAD
from downslope.terrain.noise import Noise, noise_from_norms, noise_scale
from downslope.terrain.stability import stability
from downslope.training import choices
from downslope.training.facts import one_line
from downslope.training.rates import Rates
from downslope.training.recorder import Recorder
from downslope.training.state import StepState

_log = logging.getLogger("downslope")

FEWEST, MOST = 256, 1024
"""Examples of the sample: as many between these as leave room for `LOOKS` measurements in a run's share."""

LOOKS = 8
"""Measurements that a run's share is to have room for."""

PRODUCTS = 30
"""Products with the Hessian for one measurement, at most."""

GRADIENTS = 40
"""What a measurement costs about, in gradients of the sample."""

BESIDE = 10
"""What else a measurement takes, copies, graph and the noise of the gradient, in products."""

TIMED = 10
"""Steps that are timed for the price of a measurement."""

PARTS = 8
"""Parts of the sample between which the noise of the gradient shows."""

WIDEST = 5_000_000
"""Parameters beyond which the gradients of all parts are not held side by side."""


class Track:
    """Measures the ground of one run now and then, within the share of its time in
    ``run.choices["terrain"]``.

    The first measurement and the last are made in any case, and counted; a share of 0 makes none.

    Args:
        state: Training as it stands.
        recorder: Where rows go: ``sharpness``, ``sharpness_residual``, ``stable_limit``, ``stability_ratio``,
            ``noise_scale``, ``noise_scale_error``, and ``terrain_products``, what it took.
        batch_size: Of training.
        total: Steps of the run; None where the data does not tell.
    """

    def __init__(
        self,
        state: StepState,
        recorder: Recorder,
        batch_size: int,
        total: int | None,
    ) -> None:
        share = float(state.run.choices.get("terrain", 0.0))
        self.state, self.recorder, self.batch_size, self.total = state, recorder, batch_size, total
        self.allowed = share / (1 - share)
        self.share, self.on = share, share > 0
        self.looks: list[float] = []
        self.times: list[float] = []
        self.last = -1
        self.flat = False
        self.batch: Any = None
        self.notes: list[str] = []
        self.why: str | None = None

    def begin(self, rates: Rates) -> None:
        """Take the sample; measure the start, or go on from where a resumed run's rows end.

        Args:
            rates: Of the step to come: a warm-up begins with another rate than the recipe's.
        """
        if not self.on:
            return
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 (anybody's data is read in there)
            self._off(error)
            return
        rows = self.state.run.history.series("terrain_products")
        if len(rows.steps):
            self.looks = [float(each) + BESIDE for each in rows.values]
            self.last = int(rows.steps[-1])
            return
        groups = self.state.optimizer.param_groups
        held = [group.get("lr") for group in groups]
        rates.at(self.state.step)
        self._look()
        for group, lr in zip(groups, held, strict=True):
            if lr is not None:
                group["lr"] = lr

    def after(self) -> None:
        """Measure after a step, where the share allows it and leaves enough for the one at the end."""
        if not self.on:
            return
        price = self.state.run.choices.get("terrain_price")
        if price is None:
            self._clock()
        elif price * (sum(self.looks) + 2 * self.looks[-1]) <= self.allowed * self.state.step:
            self._look()

    def end(self) -> None:
        """Measure where the run ended, unless it broke or is to go on."""
        ended = self.state.run.status in ("running", "done", "goal", "early-stopped")
        if self.on and ended and self.last != self.state.step:
            self._look()

    # -- one measurement ----------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            row = self._row()
        except Exception as error:  # noqa: BLE001 (anybody's model and objective run in there)
            self._off(error)
            return
        self.looks.append(row["terrain_products"] + BESIDE)
        self.last = self.state.step
        if not self.flat and row.get("sharpness", row.get("hessian_sharpness")) == 0:
            self.flat = True
            _log.warning(
                "terrain=%g: the curvature is zero at step %d: the loss is linear, flat or piecewise "
                "constant there, so a sharpness of 0 says nothing of the rate", self.share, self.state.step,
            )  # fmt: skip
        self.recorder.now(self.state.step, **row)

    def _row(self) -> dict[str, float]:
        state = self.state
        ground = self._ground()
        found = stability(ground, state.optimizer, state.model, steps=PRODUCTS)
        self._tell(found.why)
        noise = self._noise(ground.model, ground.objective)
        waiting = method_of(state.optimizer) in ADAPTIVE and not found.preconditioned
        name = "hessian_sharpness" if waiting else "sharpness"  # its own scale begins with its first step
        row = {
            name: found.sharpness, f"{name}_residual": found.residual, "stable_limit": found.limit,
            "stability_ratio": found.ratio, **noise,
        }  # fmt: skip
        known = {name: float(each) for name, each in row.items() if each is not None and math.isfinite(each)}
        return known | {"terrain_products": float(found.products)}

    def _ground(self) -> ModelGround:
        """The sample under a copy; the objective is copied too, since it may count its calls."""
        state = self.state
        model, objective = _copy_of(state.model), copy.deepcopy(state.objective)
        return ModelGround(model, objective, [Piece(self.batch, 1.0)], seed=state.recipe.seed)

    def _tell(self, why: str | None) -> None:
        """Keep what is last known of the numbers; that a scale has yet to begin is no part of it."""
        if why is not None and self.state.step and why != self.why:
            self.why = why
            self._fact()

    def _fact(self) -> None:
        notes = self.notes if self.why is None else [*self.notes, self.why]
        fact = {"share": self.share, "examples": batches.length(self.batch), "notes": notes}
        self.recorder.fact("terrain", fact)

    def _noise(self, model: nn.Module, objective: Objective) -> dict[str, float]:
        """The noise scale between equal parts of the sample; nothing where there are too few examples."""
        size = batches.length(self.batch) // PARTS
        if size < 2:
            return {}
        # The sample is in stored order, which may be that of the classes.
        order = torch.randperm(batches.length(self.batch), generator=torch.Generator().manual_seed(0))
        rows = torch.split(order.to(self.state.device), size)[:PARTS]
        parts = [Piece(batches.take(self.batch, each), 1 / PARTS) for each in rows]
        ground = ModelGround(model, objective, parts, seed=self.state.recipe.seed)
        slopes = (gradient for _, gradient, _ in ground.slopes())
        wide = sum(p.numel() for p in model.parameters()) > WIDEST
        found = _by_norms(slopes, size) if wide else noise_scale(torch.stack(list(slopes)), size)
        if not found.trace or not math.isfinite(found.scale):
            return {}
        ratios = (found.trace_error / found.trace, found.squared_norm_error / found.squared_norm)
        return {"noise_scale": found.scale, "noise_scale_error": abs(found.scale) * math.hypot(*ratios)}

    # -- what it costs ------------------------------------------------------------------------------------

    def _clock(self) -> None:
        """Time the first steps; after `TIMED` of them a measurement has a price."""
        self.times.append(time.perf_counter())
        if len(self.times) <= TIMED:
            return
        step = sorted(b - a for a, b in pairwise(self.times))[TIMED // 2]
        state = self.state
        shapes = [tuple(each.shape) for each in batches.tensors([state.batch, self.batch])]
        key = "terrain/" + choices.signature(state.model, shapes, self.batch_size, str(state.device))

        def measure() -> float:
            begun = time.perf_counter()
            row = self._row()
            took = time.perf_counter() - begun
            return float(f"{took / (row['terrain_products'] + BESIDE) / max(step, 1e-9):.2g}")

        price = state.run.choices["terrain_price"] = float(choices.remembered(key, measure))
        both = price * (self.looks[0] + self.looks[-1])
        if self.total and both > self.allowed * self.total:
            _log.warning(
                "terrain=%g: measuring the ground takes as long as %.0f steps, and the run has %d: only its "
                "start and end are measured, at %.0f %% of its time%s",
                self.share, both / 2, self.total, 100 * both / (self.total + both), self._once(),
            )  # fmt: skip

    def _once(self) -> str:
        """What is said of a method whose scale begins with its first step, so that the start has another."""
        if method_of(self.state.optimizer) not in ADAPTIVE:
            return ""
        return "; the sharpness in its own scale at the end only, which has none before its first step"

    def _sample(self) -> None:
        """A fixed sample of the training data, as large as the share has room for."""
        state = self.state
        room = self.allowed * (self.total or 1000) / LOOKS / GRADIENTS * self.batch_size
        count = int(min(max(room, FEWEST), MOST))
        dtype = precision(_copy_of(state.model))
        with randomness.seeded(state.recipe.seed, "probe", 0):
            held = sample(state.problem.train_source, count, dtype)
        self.batch = batches.to(held, state.device, dtype)
        few = batches.map_tensors(lambda leaf: leaf[:HEAD], self.batch)
        self.notes = held_still(self._ground(), few)
        self._fact()

    def _off(self, error: Exception) -> None:
        """Give up, and say why; training goes on."""
        self.on = False
        reason = one_line(error)
        self.recorder.fact("terrain", {"share": self.share, "failed": reason})
        said = "terrain=%g: the ground is not measured from step %d on: %s"
        _log.warning(said, self.share, self.state.step, reason)


def _by_norms(slopes: Iterator[Tensor], size: int) -> Noise:
    """The noise scale without its error, from gradients of which one sum is held."""
    total, squares = next(slopes), 0.0
    squares += float(total.double().square().sum())
    count = 1
    for each in slopes:
        total, count = total + each, count + 1
        squares += float(each.double().square().sum())
    whole = float((total.double() / count).square().sum())
    return noise_from_norms(squares / count, whole, size, count * size)


def _copy_of(model: nn.Module) -> nn.Module:
    """Without gradients, in float32 at least: half precision holds no curvature."""
    held = copied(model)
    held.zero_grad(set_to_none=True)
    narrow = any(p.dtype in (torch.float16, torch.bfloat16) for p in held.parameters())
    return held.float() if narrow else held
