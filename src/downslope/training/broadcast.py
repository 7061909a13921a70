"""An output that torch stretches over the targets, or the targets over it: told once, before the first step.

Of ``torch.nn.MSELoss`` and its like the shapes alone say it. A function of one's own may align them by
itself: its value is held against that of one shape.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.loss import Loss, Objective
from downslope.objectives import Composite, Penalised, meaning
from downslope.training.facts.aligned import aligned, difference
from downslope.training.targets import are_reported

_log = logging.getLogger("downslope")

_ALIGNS = {
    "MSELoss": "squared_error", "mse_loss": "squared_error", "L1Loss": "absolute_error",
    "l1_loss": "absolute_error", "SmoothL1Loss": "huber", "smooth_l1_loss": "huber", "HuberLoss": "huber",
    "huber_loss": "huber",
}  # fmt: skip
"""Losses of torch that broadcast to ours that align: their classes in `torch.nn` and their functions."""


_beside: ContextVar[set[str] | None] = ContextVar("broadcasts_that_were_told", default=None)


@contextlib.contextmanager
def once() -> Generator[None]:
    """A block in which the runs of a population are told of as one."""
    token = _beside.set(set[str]() if (former := _beside.get()) is None else former)
    try:
        yield
    finally:
        _beside.reset(token)


def tell(objective: Objective, loss: Loss, args: tuple[Any, ...]) -> None:
    """Say what `remark` gives, unless a finding will, or it was said of a run beside this one."""
    said = None if are_reported() else remark(objective, loss, args)
    if said is not None and is_new(said):
        _log.warning("%s", said)


def is_new(said: str) -> bool:
    """Whether nothing like `said` was told of a run beside this one; from then on it was."""
    told = _beside.get()
    if told is None:
        return True
    if said in told:
        return False
    told.add(said)
    return True


def remark(objective: Objective, loss: Loss, args: tuple[Any, ...]) -> str | None:
    """One line on the first pair of output and target that is stretched; None where all fit.

    Args:
        objective: Of the problem.
        loss: What a batch gave.
        args: The batch's inputs, for an objective that asks for them.
    """
    for task, own, output, target in _pairs(objective.function, loss.output, loss.target):
        said = _said(objective if not task else None, own, output, target, args)
        if said is not None:
            return f"{task}: {said}" if task else said
    return None


def _pairs(function: Any, output: Any, target: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """Name (none but of several), objective, output and target of each task."""
    if isinstance(function, Penalised):
        yield from _pairs(function.objective, output, target)
    elif isinstance(function, Composite):
        yield from function.pairs(output, target)
    else:
        yield "", function, output, target


def _said(
    objective: Objective | None, own: Any, output: Any, target: Any, args: tuple[Any, ...]
) -> str | None:
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or output.shape == target.shape:
        return None
    try:
        shape = np.broadcast_shapes(output.shape, target.shape)  # torch's own imports sympy, half a second
    except ValueError:
        return None
    known = meaning(own)
    if known.expects is not None and known.name not in _ALIGNS:
        return None
    if known.expects is None and not _crossed(objective, own, output, target, args):
        return None
    count = len(output)
    shapes = [_told(each, count) for each in (output.shape, target.shape, shape)]
    return (
        f"outputs {shapes[0]} against targets {shapes[1]} are broadcast to {shapes[2]}, "
        f"{_what(output, target)}, and the loss is wrong; {_do(known.name, output, target)}"
    )


def _crossed(
    objective: Objective | None, own: Any, output: Tensor, target: Tensor, args: tuple[Any, ...]
) -> bool:
    """Whether a function of one's own gives another value where output and target have one shape."""

    def value(made: Tensor, its: Tensor, rows: Tensor | None) -> Tensor:
        if objective is None:
            return own(made, its)
        return objective.of(made, its, args if rows is None else batches.take(args, rows)).value

    with torch.no_grad(), torch.random.fork_rng(devices=[]), contextlib.suppress(Exception):
        return difference(aligned(value, output.detach(), target)) is not None
    return False


def _told(shape: tuple[int, ...], count: int) -> str:
    """A shape with n in the place of the examples."""
    sides = [str(each) for each in shape]
    sides = ["n" if each == count and place < 2 else sides[place] for place, each in enumerate(shape)]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def _what(output: Tensor, target: Tensor) -> str:
    if output.numel() == target.numel():
        return "so every output is compared with every target"
    return "so one of them is compared several times"


def _do(name: str, output: Tensor, target: Tensor) -> str:
    if output.shape == (*target.shape, 1):
        way = "in the objective take output.squeeze(-1)"
    elif target.shape == (*output.shape, 1):
        way = "in the objective take target.squeeze(-1)"
    else:
        return "give both one shape"
    ours = _ALIGNS.get(name)
    return f"objective={ours!r} aligns them, or {way}" if ours else way
