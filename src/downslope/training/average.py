"""Averages of the weights over a run: exponential, or the plain mean of every step or of every epoch's end.

The averaged model is what is validated and handed out. Batch norm's running statistics belong to weights that
were never trained, so they are measured anew on the training data before that (`refresh`); so they are for
methods that go far in few steps (`Norms`).
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from downslope.core import batches
from downslope.core.batches import Split
from downslope.core.errors import RecipeError
from downslope.core.recipe import Recipe
from downslope.core.spelling import parse
from downslope.optim.weight_average import ema_decay, mean_decay
from downslope.schedules.cyclic import CYCLES
from downslope.training.evaluate import evaluating
from downslope.training.state import StepState

_log = logging.getLogger("downslope")

FROM = {"ema": 0.0, "polyak": 0.0, "swa": 0.75}
"""Share of the run after which each average begins; Izmailov et al. 2018 train for 75 % before."""

DECAY = 0.999
"""Decay of "ema" once it is warm, where the recipe gives none; a window of 1000 steps."""

FEWEST = 2
"""Ends of epochs in the averaged share from which "swa" takes one model an epoch; else every step's."""


class Average:
    """The average of a model's weights, taken up step by step.

    "ema": ``m <- d m + (1 - d) w`` after every step. "polyak": ``m <- m + (w - m) / (n + 1)`` after every
    step (Polyak and Juditsky 1992). "swa": the same, after every epoch of the last quarter (Izmailov
    et al. 2018, algorithm 1), the weights at its beginning among them.

    Args:
        model: The model in training.
        recipe: Its `average`, `average_from`, `average_every` and `average_decay` count.
        total: Steps of the run; None where the data do not tell.
        per_epoch: Steps of an epoch; None where the data do not tell.
        constraint: Brings a model back into its set. Of a set that is not known to be convex an average of
            points may lie outside: what is handed out is brought back, the average itself is not.

    Raises:
        RecipeError: the average begins at a share of a run whose length nothing tells.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        total: int | None,
        per_epoch: int | None,
        constraint: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        kind = cast("str", recipe.average)
        share = FROM[kind] if recipe.average_from is None else recipe.average_from
        if share and total is None:
            raise RecipeError(
                f"average={kind!r} begins after {share:g} of the run, and the data does not tell how long an "
                "epoch is; give steps= instead of epochs, or average_from=0"
            )
        begins = share * (total or 0)
        ends = ((total or 0) - begins) / per_epoch if per_epoch else 0
        every = per_epoch if kind == "swa" and per_epoch and ends >= FEWEST else 1
        schedule = parse(recipe.schedule if isinstance(recipe.schedule, str) else "constant")
        cyclic = kind == "swa" and schedule.name == "cyclic" and total is not None
        if cyclic:
            every = max(((total or 0) - recipe.warmup) // int(schedule.settings.get("cycles", CYCLES)), 1)
        self.kind, self.every = kind, recipe.average_every or every
        before = recipe.warmup if cyclic else 0
        self.begins = before + max(math.ceil((begins - before) / self.every), 1) * self.every
        """The first step whose weights count."""
        decay = DECAY if recipe.average_decay is None else recipe.average_decay
        rule = functools.partial(ema_decay, decay=decay) if kind == "ema" else mean_decay

        def follow(mean: list[Tensor], current: list[Tensor], count: Any) -> None:
            cast("Any", get_ema_multi_avg_fn)(rule(int(count)))(mean, current, count)

        self.kept = AveragedModel(model, multi_avg_fn=cast("Any", follow))
        self._stale = False
        self._constraint = None if getattr(constraint, "convex", None) is True else constraint
        self._back: tuple[int, nn.Module] = (0, self.kept.module)

    def __str__(self) -> str:
        often = "step" if self.every == 1 else f"{self.every} steps"
        again = "; batch norm measured anew by a pass over the training data before each evaluation"
        return (
            f"{self.kind}, every {often} from step {self.begins}{again if _norms(self.kept.module) else ''}"
        )

    @property
    def begun(self) -> bool:
        """Whether any weights have been averaged."""
        return int(self.kept.n_averaged) > 0

    @property
    def handed(self) -> nn.Module:
        """The averaged model, inside its constraint."""
        if self._constraint is None:
            return self.kept.module
        count = int(self.kept.n_averaged)
        if self._back[0] != count:
            self._back = count, copy.deepcopy(self.kept.module)
            with torch.no_grad():
                self._constraint(self._back[1])
        return self._back[1]

    @property
    def saved(self) -> dict[str, nn.Module]:
        """What goes on from a resume state, by name."""
        return {"average": self.kept}

    def follow(self, model: nn.Module, step: int) -> None:
        """Take up the weights of `model` after `step`, where they count."""
        late = step - self.begins
        if late >= 0 and late % self.every == 0:
            self.kept.update_parameters(model)
            self._stale = True

    def tell(self, step: int) -> None:
        """Warn of a run that ended at `step`, before its average began."""
        if not self.begun:
            _log.warning(
                "average=%r begins at step %d, and the run ended at step %d: its model is not averaged",
                self.kind, self.begins, step,
            )  # fmt: skip

    def refresh(self, trained: nn.Module, data: Callable[[], Iterable[Any]], split: Split) -> None:
        """Measure batch norm's statistics for the averaged weights, unless they are those already.

        Args:
            trained: The model in training; norms that it holds in eval mode keep their statistics.
            data: One pass over the training data, batches as in training.
            split: Of a batch.
        """
        if self._stale and self.begun:
            measure_norms(self.handed, trained, data, split)
            if self.handed is not self.kept.module:
                for kept, fresh in zip(self.kept.module.buffers(), self.handed.buffers(), strict=True):
                    kept.copy_(fresh)
        self._stale = False


class Norms:
    """Batch norm of a run in few, long steps: a running mean over them is of weights that are far behind.

    In training mode nothing reads the running statistics, so that they are measured anew in place: whatever
    was measured before, the steps are the same, and so are the statistics at a step.

    Args:
        state: Of the run, whose choices say so where the model has such norms.
    """

    def __init__(self, state: StepState) -> None:
        self._state, self._measured = state, -1
        self.moving = any(each.training for each in _norms(state.model).values())
        if self.moving:
            state.run.choices["batch_norm"] = "measured anew by a pass over the training data at evaluations"

    def refresh(self, trained: nn.Module, data: Callable[[], Iterable[Any]], split: Split) -> None:
        """Measure the statistics for the weights as they are, unless they are those already.

        Args:
            trained: The model in training, which is the one that is handed out.
            data: One pass over the training data, batches as in training.
            split: Of a batch.
        """
        step, broken = self._state.step, self._state.run.status == "diverged"
        if self.moving and not broken and step not in (0, self._measured):
            measure_norms(trained, trained, data, split)
            self._measured = step


def measure_norms(
    model: nn.Module, trained: nn.Module, data: Callable[[], Iterable[Any]], split: Split
) -> None:
    """Batch norm's running mean and variance as means over the batches of `data`, weighted by their size.

    Equivalent to `torch.optim.swa_utils.update_bn`, but everything else is in eval mode, as it will be when
    the statistics are used (with dropout on, they would be those of other activations: Li et al. 2019), and
    every batch counts by its examples, a smaller last one too.

    Args:
        model: Its batch norms' buffers are written.
        trained: A model of the same structure; its norms in eval mode are frozen, and are left alone.
        data: One pass over the training data.
        split: Of a batch.
    """
    training = {name: each.training for name, each in trained.named_modules()}
    norms = [each for name, each in _norms(model).items() if training[name]]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    seen = 0
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
            for batch in data():
                count = len(batches.tensors(batch)[0])
                if count == 1 and seen:
                    continue  # has no variance
                seen += count
                for norm in norms:
                    norm.momentum = count / seen
                args, kwargs, _ = split(batch)
                model(*args, **kwargs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def has_norms(model: nn.Module) -> bool:
    """Whether a model has batch norms with running statistics."""
    return bool(_norms(model))


def _norms(model: nn.Module) -> dict[str, Any]:
    """Name to batch norm, of those that keep running statistics."""
    return {
        name: each
        for name, each in model.named_modules()
        if isinstance(each, _BatchNorm) and each.running_mean is not None
    }
