"""The ground of one batch in a loop of one's own, for methods that look into the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.terrain.ground import ModelGround, Piece

__all__ = ["ground"]


def ground(
    model: nn.Module,
    objective: str | Callable[..., Any] | None,
    batch: Any,
    *,
    maximize: bool = False,
    split: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> ModelGround:
    """The loss of `model` on `batch`, for ``step``, and its curvature: ``ground(...).hessian()``.

    Args:
        model: On the device of the batch, in the mode in which it is trained; it is not copied.
        objective: ``(output, target) -> scalar``, such as ``torch.nn.functional.cross_entropy``, a name such
            as "cross_entropy", or None where the model returns its loss.
        batch: As `Problem` takes one: ``(x, y)``, several inputs and a target, or a dict with labels.
        maximize: Whether the objective is to be maximised.
        split: Of a batch of another shape, ``split(batch) -> (args, kwargs, target)``.
        seed: Of dropout masks, which are the same at every look: another one for each step.

    Returns:
        The ground, of this batch alone.

    Raises:
        UnknownNameError: no objective of that name.
        InputError: neither a name nor a function.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from downslope.terrain import methods
        >>> model, x, y = nn.Linear(3, 2), torch.randn(8, 3), torch.tensor([0, 1] * 4)
        >>> optimizer = methods.KFAC(model.parameters())
        >>> loss = optimizer.step(methods.ground(model, nn.functional.cross_entropy, (x, y)))
    """
    problem = Problem(model=model, objective=objective, train=batch, maximize=maximize, split=split)
    made = ModelGround(model, Objective(problem), [Piece(batch, 1.0)], seed=seed)
    made.told = True
    return made
