"""What a step does with a gradient that is not finite: nothing special, leave the step out, stop, or raise.

It is decided before a step begins, so that of a step left out nothing remains: no state, no count. A
``torch.amp.GradScaler`` leaves such steps out by itself, before it calls the optimizer; they are not counted
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from downslope.core.errors import NonFiniteError
from downslope.optim import ops
from downslope.optim.domains import check

__all__ = ["Guarded", "NonFinite", "all_finite"]

NonFinite = Literal["skip", "stop", "raise"]

SMALL = 1 << 14
"""Tensors of fewer elements are joined before they are added up: a call costs more than they do."""


class Guarded:
    """The part of an optimizer that looks whether gradients are finite, if it is asked to.

    It reads each gradient once more: 4 bytes a parameter in float32, and on a GPU the host waits for it.
    """

    _nonfinite: NonFinite | None = None
    skipped: int = 0
    """Steps left out because a gradient was not finite; saved and loaded with the state."""
    stopped: bool = False
    """Whether ``nonfinite="stop"`` has ended the steps; loading a state lets them go on."""

    @property
    def nonfinite(self) -> NonFinite | None:
        """None: step as ever; "skip": leave the step out; "stop": leave out this one and all that follow;
        "raise": a NonFiniteError. It may be set at any time.
        """
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, policy: NonFinite | None) -> None:
        self._nonfinite = check("nonfinite", policy)

    def _sound(self, gradients: Iterable[Sequence[Tensor]], groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the step may be made, with `gradients` alike in dtype and device in each sequence.

        Raises:
            NonFiniteError: it may not, and the policy is to raise.
        """
        if self._nonfinite is None:
            return True
        if not self.stopped and all(all_finite(each) for each in gradients):
            return True
        if self._nonfinite == "raise":
            raise NonFiniteError(_told(groups))
        self.skipped += 1
        self.stopped = self._nonfinite == "stop"
        return False

    def _guard(self) -> dict[str, Any]:
        return {"_nonfinite": self._nonfinite, "skipped": self.skipped, "stopped": self.stopped}

    def _with_skipped(self, saved: dict[str, Any]) -> dict[str, Any]:
        """A state_dict with the count, if it is not 0, in its first group, where torch lets it pass."""
        if self.skipped:
            saved["param_groups"][0]["skipped"] = self.skipped
        return saved

    def _take_skipped(self, groups: Sequence[dict[str, Any]]) -> None:
        self.skipped = sum(int(group.pop("skipped", 0)) for group in groups)
        self.stopped = False


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether no element is NaN or infinite, of tensors of one dtype and device, dense or sparse.

    A sum of finite numbers may overflow, but one with NaN or an infinity is never finite: so sums are looked
    at first, and elements only if their sum is not finite.
    """
    values = [each.coalesce().values() if each.is_sparse else each for each in gradients]
    small: list[Tensor] = []
    sums: list[Tensor] = []
    for each in values:
        if each.numel() < SMALL:
            small.append(each)
        else:
            sums.append(_sum(each))
    if small:
        sums.append(_sum(small[0] if len(small) == 1 else ops.flattened(small)))
    if not sums or bool(torch.isfinite(sums[0] if len(sums) == 1 else torch.stack(sums).sum())):
        return True
    return all(_finite(each) for each in values)


def _sum(x: Tensor) -> Tensor:
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None
    return x.sum(dtype=wide)


def _finite(x: Tensor) -> bool:
    if not x.numel():
        return True
    low, high = torch.aminmax(torch.view_as_real(x) if x.is_complex() else x)
    return math.isfinite(float(low)) and math.isfinite(float(high))


def _told(groups: Sequence[Mapping[str, Any]]) -> str:
    """Which gradient is not finite, the first in the order of the parameters."""
    for index, group in enumerate(groups):
        names: Sequence[str] = group.get("param_names") or ()
        for i, p in enumerate(group["params"]):
            if p.grad is None or all_finite([p.grad]):
                continue
            values = p.grad.coalesce().values() if p.grad.is_sparse else p.grad
            bad = values[~torch.isfinite(values)]
            place = repr(names[i]) if names else f"{i} of group {index}"
            return (
                f"the gradient of parameter {place}, of shape {tuple(p.shape)}, has {bad.numel()} of "
                f"{values.numel()} elements that are not finite, the first {bad[0].item()}: the parameters "
                "are as they were before the step; lower lr or clip the gradient, or let nonfinite='skip' "
                "leave such steps out"
            )
    return "a gradient is not finite"
