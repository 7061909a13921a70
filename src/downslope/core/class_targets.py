"""Class indices: whole numbers from 0, of two classes at least; what they are not is told before a step."""

from __future__ import annotations

from torch import Tensor

from downslope.core.errors import DataError

IGNORED = -100
"""Index of a target that does not count, unless the objective says another: torch's convention."""


def refuse_negative(target: Tensor, part: str, ignored: int = IGNORED) -> None:
    """Refuse indices below 0, which no output stands for.

    Args:
        target: Whole numbers, examples on axis 0.
        part: Its name in messages: "train" or "valid".
        ignored: The index that marks what does not count.

    Raises:
        DataError: naming the first and its row.
    """
    if not target.numel() or int(target.min()) >= 0:
        return
    wrong = ((target < 0) & (target != ignored)).reshape(len(target), -1)
    count = int(wrong.sum())
    if not count:
        return
    row = int(wrong.any(1).nonzero()[0])
    value = int(target.reshape(len(target), -1)[row][wrong[row]][0])
    first = "" if count == 1 else f" (the first of {count} below 0)"
    signs = int(target.min()) == -1 and int(target.max()) == 1 and not bool((target == 0).any())
    how = "(y + 1) // 2" if signs else "torch.unique(y, return_inverse=True)[1]"
    raise DataError(
        f"{part} target, row {row} (counted from 0): {value}{first} is no class: classes count from 0, and "
        f"{ignored} marks what does not count; {how} numbers them so"
    )


def refuse_single(target: Tensor, part: str, ignored: int = IGNORED) -> None:
    """Refuse targets of one class only: whole numbers, or 0 and 1 as floating-point ones.

    Raises:
        DataError: naming it.
    """
    if target.numel() and target.min().item() == ignored:
        target = target[target != ignored]
    if target.numel() and (value := target.min().item()) == target.max().item() and value == round(value):
        raise DataError(
            f"{part}: all {target.numel()} targets are class {value:g}: there is nothing to tell apart; give "
            "examples of another class too"
        )
