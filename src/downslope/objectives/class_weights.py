"""Factors for classes, given as numbers so that a file can hold them, as the tensor that torch wants."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.objective import shape_of

Weights = float | Sequence[float] | Tensor
"""One factor, or one for each class."""


def as_weights(given: Weights, output: Tensor, name: str, what: str, count: int | None = None) -> Tensor:
    """`given` as a tensor beside `output`, in its dtype; plain numbers are moved there once.

    Args:
        given: numbers in [0, inf).
        output: of the model, with the classes on its second axis if `count` is given.
        name: the objective, for the message.
        what: the argument, for the message.
        count: how many there must be; None where any number fits.

    Raises:
        ObjectiveError: not as many as there are classes.
    """
    if isinstance(given, Tensor):
        weights = given.to(output.device, output.dtype)
    else:
        plain = (float(given),) if isinstance(given, (int, float)) else tuple(float(each) for each in given)
        weights = _placed(plain, output.device, output.dtype)
    if count is not None and weights.shape != (count,):
        raise ObjectiveError(
            f"{name}: {what} of shape {shape_of(weights)} for {count} classes: it needs one factor for each"
        )
    return weights


@functools.lru_cache(maxsize=64)
def _placed(plain: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(plain, device=device, dtype=dtype)
