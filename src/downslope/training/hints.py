"""What to do about the errors that torch raises on a batch: the way out, where its words do not tell it."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem

_WHOLE = re.compile(
    r"same dtype, but got (Long|Int|Short|Char|Byte|Bool)|Input type \((long|int|unsigned|bool)"
)
"""What a linear and a convolution layer say of inputs that are whole numbers."""


_BEYOND = re.compile(r"Target -?\d+ is out of bounds")
"""What torch's losses say of a class index that has no output."""


_FLAT = re.compile(r"Dimension out of range|shapes cannot be multiplied|size mismatch")
"""What layers say of inputs without a dimension of features."""


def _tokens(inputs: list[Tensor]) -> tuple[int, int] | None:
    """Least and greatest of the inputs that are whole numbers."""
    whole = [each for each in inputs if each.dtype in (torch.int64, torch.int32) and each.numel()]
    return (min(int(each.min()) for each in whole), max(int(each.max()) for each in whole)) if whole else None


def hint(error: BaseException, problem: Problem, batch: Any) -> str:
    """The way out of an error in model or objective, to stand after it; empty where torch's words suffice.

    Args:
        error: What was raised.
        problem: Whose model and objective ran.
        batch: What they ran on.
    """
    text = str(error)
    if out_of_memory(error):
        return (
            "; out of memory: accumulate=2 or more looks at a batch in parts, a smaller batch_size takes less"
        )
    if "more than 1 value" in text:  # what batch norm says of a single example
        return "; batch norm needs two examples: take another batch_size, or fewer parts in accumulate="
    if problem.objective is None:
        return "; without an objective the whole batch goes to the model, target too, which returns a loss"
    args, kwargs, target = problem.splitter(batch)
    given = batches.tensors((args, kwargs))
    if _FLAT.search(text) and given and given[0].dim() == 1:
        return "; an example of these inputs is one number without a dimension: x[:, None] makes it a column"
    kinds = [each.dtype for each in given]
    if "index out of range in self" in text and (found := _tokens(batches.tensors((args, kwargs)))):
        least, most = found
        return f"; the inputs hold whole numbers from {least} to {most}: an embedding needs a row for each"
    odd = next((each for each in kinds if not each.is_floating_point and not each.is_complex), None)
    if odd is not None and _WHOLE.search(text):
        return f"; the inputs are {odd}: X.float() makes them what a layer takes"
    if "expected target dtype" in text or "expected scalar type Long" in text:
        return "; class indices are int64: target.long() makes them"
    if _BEYOND.search(text):
        return (
            "; classes count from 0 to one less than there are outputs: give the model as many outputs as "
            "classes, or number them by torch.unique(y, return_inverse=True)[1]"
        )
    if "can't be cast to the desired output type" in text and (targets := batches.tensors(target)):
        return f"; the target is {targets[0].dtype}: target.float() makes it what the loss takes"
    return ""
