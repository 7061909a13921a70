"""Changes that keep the examples of a batch apart in the forward pass: which axis a function works along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from downslope.core.adapted import unwrap
from downslope.core.edits.calls import during
from downslope.core.edits.edit import Edit, check_modules, several
from downslope.core.problem import Problem

VIEWS: tuple[Any, ...] = (Tensor.view, Tensor.reshape, torch.reshape)
"""What gives a tensor other sizes and leaves its numbers in their order."""

SOFT: tuple[Any, ...] = (
    functional.softmax, functional.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax,
    Tensor.log_softmax,
)  # fmt: skip
"""Functions that share a sum among the numbers along an axis."""


@dataclass(frozen=True)
class BatchFirst(Edit):
    """Say to recurrent layers or attention which axis the examples lie along.

    Args:
        modules: Qualified names in the user's model; what they hold that knows such a setting gets it too.
        first: Whether examples lie along the first axis (``batch_first=True``), time along the second.
    """

    kind: ClassVar[str] = "batch-first"
    modules: tuple[str, ...]
    first: bool = True

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models have the setting."""
        check_modules(problem, tuple(each for each in self.modules if each))
        return super().apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with the setting, in place in this fresh model."""
        inner = unwrap(model)
        for name in self.modules:
            for each in inner.get_submodule(name).modules():
                if isinstance(getattr(each, "batch_first", None), bool):
                    object.__setattr__(each, "batch_first", self.first)
        return model

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        where = several([each for each in self.modules if each]) or "the model"
        return (f"batch_first={self.first} where {where} is made",)

    def __str__(self) -> str:
        return f"batch_first={self.first} in {several([e for e in self.modules if e]) or 'the model'}"


@dataclass(frozen=True)
class PermuteView(Edit):
    """Exchange axes where the forward pass asks a view to do it: ``x.view(t, n, d)`` of an (n, t, d).

    A view leaves the numbers in their order, so that the rows of one example are cut up among others.
    """

    kind: ClassVar[str] = "permute-view"

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose forward permutes the axes."""
        return during(model, _Permuted)

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        return ("in forward: x.transpose(0, 1), or permute, in the place of the view that exchanges axes",)

    def __str__(self) -> str:
        return "transpose in the place of a view that exchanges axes"


@dataclass(frozen=True)
class OverClasses(Edit):
    """Let softmax, or its logarithm, share its sum among the last axis and not among the examples."""

    kind: ClassVar[str] = "over-classes"

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose forward calls them along the last axis."""
        return during(model, _Over)

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        return ("softmax(x, dim=-1), or log_softmax(x, dim=-1), in the place of dim=0",)

    def __str__(self) -> str:
        return "softmax over the last axis, not over the examples"


def exchanged(old: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    """The permutation that takes sizes `old` to `new` where the first axis moves; None where none does.

    Example:
        >>> exchanged((64, 8, 3), (8, 64, 3))
        (1, 0, 2)
        >>> exchanged((64, 8, 3), (64, 24)) is None
        True
    """
    if len(old) < 2 or sorted(old) != sorted(new) or old[0] == new[0] or min(old, default=0) < 1:
        return None
    left = list(range(len(old)))
    found: list[int] = []
    for size in new:
        axis = next(each for each in left if old[each] == size)
        left.remove(axis)
        found.append(axis)
    return tuple(found)


def axis_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """The axis along which a call of `SOFT` works, counted from the first; None of other calls."""
    if func not in SOFT:
        return None
    given: Any = args[0] if args else kwargs.get("input")
    axis: Any = args[1] if len(args) > 1 else kwargs.get("dim")
    if not isinstance(given, Tensor) or given.dim() < 2:
        return None
    if axis is None:  # torch's own choice where none is given
        return 0 if given.dim() == 3 else 1
    return axis % given.dim() if isinstance(axis, int) else None


class _Permuted(TorchFunctionMode):
    """While it is entered, views that exchange axes are permutations."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call, or the permutation in its place."""
        made = func(*args, **(kwargs or {}))
        if func in VIEWS and isinstance(made, Tensor) and args and isinstance(args[0], Tensor):
            order = exchanged(tuple(args[0].shape), tuple(made.shape))
            if order is not None:
                return args[0].permute(order).contiguous()
        return made


class _Over(TorchFunctionMode):
    """While it is entered, softmax works along the last axis where it would along the first."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call, along the last axis."""
        kwargs = dict(kwargs or {})
        if axis_of(func, args, kwargs) != 0:
            return func(*args, **kwargs)
        if len(args) > 1:
            return func(args[0], -1, *args[2:], **kwargs)
        return func(*args, **(kwargs | {"dim": -1}))
