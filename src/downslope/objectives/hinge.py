"""Hinge loss: the margin of a support vector machine (Cortes and Vapnik 1995; Crammer and Singer 2001)."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.objective import (
    Reduction,
    align,
    apart,
    class_axis,
    is_index,
    objective,
    over_examples,
    shape_of,
    tensors,
    wide,
)


@objective(expects="sign", target="binary", surrogate_for="classification error")
def hinge(output: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``max(0, 1 - y f)``; with several classes of ``max(0, 1 + max_{c != y} f_c - f_y)``.

    Zero, with zero gradient, once every example is right by a margin of 1. The form for several classes is
    that of Crammer and Singer; `torch.nn.MultiMarginLoss` is the other one, a sum over the wrong classes.

    Args:
        output: scores, any real number, shape (n,) or (n, 1); (n, C) for several classes.
        target: -1 or 1, or 0 or 1, of any dtype, the output's shape; class indices (n,) for (n, C).
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes do not fit, or a class index reaches beyond the last class.
    """
    output, target = tensors(output, target, "hinge")
    if output.ndim == 2 and output.shape[1] > 1 and target.shape != output.shape:
        margins = _several(wide(output), target)
    else:
        output, target = align(wide(output), target, "hinge")
        margins = (1 - torch.where(target > 0, output, -output)).relu()
    return over_examples(margins) if apart(reduction) else margins.mean()


def _several(output: Tensor, target: Tensor) -> Tensor:
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    if not is_index(target):
        raise ObjectiveError(
            f"hinge: output {shape_of(output)} has several classes, and needs class indices of an integer "
            f"dtype, not {target.dtype} of shape {shape_of(target)}"
        )
    class_axis(output, target, "hinge")
    index = target.long().unsqueeze(1)
    try:
        right = output.gather(1, index)
    except RuntimeError as error:
        raise ObjectiveError(f"hinge: class index outside [0, {output.shape[1]})") from error
    wrong = output.scatter(1, index, float("-inf")).amax(1, keepdim=True)
    return (1 + wrong - right).relu()
