"""Where in a forward pass the examples of a batch are mixed first.

Three passes are noted function by function. A number that both halves of the examples change has been made of
both; the first function that gives such numbers is the place, or a view before it that exchanged axes, which
mixes nothing itself and cuts up the rows of every example.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from downslope.core import batches
from downslope.core.edits import BatchFirst, Edit, OverClasses, PermuteView
from downslope.core.edits.apart import SOFT, VIEWS, axis_of, exchanged
from downslope.core.modules import named_modules

TOLD = 1e-3
"""Change of a number, in the root mean square of all changes, from which it is none of rounding."""

ROUNDING = 64.0
"""The same in the rounding of the largest number of a tensor."""

KEPT = 40_000_000
"""Numbers that are kept of one pass; what comes later is not looked at."""

ALONG = (
    nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
    nn.TransformerEncoder, nn.TransformerDecoder, nn.Transformer,
)  # fmt: skip
"""Modules that work along one of two axes, as their ``batch_first`` says."""


@dataclass(frozen=True)
class Event:
    """One call of a torch function."""

    function: Any
    where: tuple[str, ...]
    """The modules in whose forward it was made, outermost first."""
    given: tuple[int, ...]
    """Sizes of its first tensor."""
    axis: int | None
    """Where it is a softmax: the axis along which."""
    made: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """What it is called."""
        return str(getattr(self.function, "__name__", self.function))


class Trace(TorchFunctionMode):
    """Notes what every torch function gives in the forward pass of `model`, and in which module.

    Args:
        model: Gets hooks: a copy that nobody needs afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.events: list[Event] = []
        self.entered: dict[str, Tensor] = {}
        """The first tensor that each module of `ALONG` was handed."""
        self._stack: list[str] = []
        self._kept = 0

    @contextmanager
    def noting(self) -> Generator[None]:
        """A block in which the model is called once."""
        for name, module in named_modules(self.model):
            module.register_forward_pre_hook(self._enter(name), with_kwargs=True)
            module.register_forward_hook(self._leave, always_call=True)
        with self:
            yield

    def _enter(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            first = next(iter(batches.tensors((args, kwargs))), None)
            if isinstance(module, ALONG) and first is not None:
                self.entered[name] = first.detach().clone()
            self._stack.append(name)

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        del module, args, output
        if self._stack:
            self._stack.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call as it is."""
        kwargs = kwargs or {}
        first = next(iter(batches.tensors((args, kwargs))), None)
        given = () if first is None else tuple(first.shape)
        made = func(*args, **kwargs)
        found = [each for each in batches.tensors(made) if each.is_floating_point() and each.dim()]
        if found and self._kept <= KEPT:
            self._kept += sum(each.numel() for each in found)
            axis = axis_of(func, args, kwargs) if func in SOFT else None
            held = tuple(each.detach().clone() for each in found)
            self.events.append(Event(func, tuple(self._stack), given, axis, held))
        return made


@dataclass(frozen=True)
class Crossing:
    """Where examples are mixed first.

    Attributes:
        by: "view", "softmax", "batch_first", "norm" or "other".
        where: The innermost module; "" for the model's own forward.
        function: Name of the torch function.
        sizes: Of what it was given and, of a view, of what it gave.
        single: Whether no more than one step lies along the axis that would be time.
        edit: What puts this place right; None where nothing is known to.
    """

    by: str
    where: str
    function: str
    sizes: tuple[tuple[int, ...], ...]
    single: bool = False
    edit: Edit | None = None

    def told(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "by": self.by, "where": self.where, "function": self.function, "single": self.single,
            "sizes": [list(each) for each in self.sizes],
        }  # fmt: skip


def crossing(traces: Sequence[Trace], count: int) -> Crossing | None:
    """The first place where examples are mixed.

    Args:
        traces: The batch; with one half of the examples exchanged; with the other.
        count: Examples.
    """
    base = traces[0]
    for at, events in enumerate(zip(*(each.events for each in traces), strict=False)):
        if len({(each.name, *(tuple(t.shape) for t in each.made)) for each in events}) > 1:
            return None
        if any(_of_both(*tensors) for tensors in zip(*(each.made for each in events), strict=True)):
            return _view(base.events[: at + 1], count) or _place(traces, base.events[at], count)
    return None


def _of_both(base: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether a number changes with either half of the examples."""
    one, two = ((each.double() - base.double()).abs() for each in (first, second))
    size = max(float(one.square().mean().sqrt()), float(two.square().mean().sqrt()))
    rounding = torch.finfo(base.dtype).eps * float(base.abs().max()) if base.numel() else 0.0
    least = max(TOLD * size, ROUNDING * rounding)
    return bool(((one > least) & (two > least)).any())


def _view(events: Sequence[Event], count: int) -> Crossing | None:
    """The last view before the place that exchanged the axis of the examples with another."""
    for event in reversed(events):
        if event.function not in VIEWS or count not in event.given:
            continue
        made = tuple(event.made[0].shape)
        order = exchanged(event.given, made)
        if order is None or _in_order([axis for axis in order if event.given[axis] > 1]):
            continue
        return Crossing("view", _inner(event), event.name, (event.given, made), edit=PermuteView())
    return None


def _in_order(axes: Sequence[int]) -> bool:
    return list(axes) == sorted(axes)


def _inner(event: Event) -> str:
    return event.where[-1] if event.where else ""


def _place(traces: Sequence[Trace], event: Event, count: int) -> Crossing:
    where, named = _inner(event), dict(named_modules(traces[0].model))
    if event.function in SOFT and event.axis == 0 and event.given[0] == count:
        return Crossing("softmax", where, event.name, (event.given,), edit=OverClasses())
    along = next((name for name in event.where if isinstance(named[name], ALONG)), None)
    given = [each.entered[along] for each in traces if along in each.entered]
    first = along is not None and _batch_first(named[along])
    if along is not None and len(given) == len(traces) and _whole(given, 1 if first else 0, count):
        sizes = tuple(given[0].shape)
        single = len(sizes) != 3 or sizes[0 if first else 1] == 1
        edit = BatchFirst((along,), not first)
        return Crossing("batch_first", along, type(named[along]).__name__, (sizes,), single, edit)
    by = "norm" if "batch_norm" in event.name else "other"
    return Crossing(by, where, event.name, (event.given,))


def _whole(given: Sequence[Tensor], axis: int, count: int) -> bool:
    """Whether one example after the other lies along an axis of what a module was handed."""
    base, *others = given
    if base.dim() <= axis or base.shape[axis] != count or any(each.shape != base.shape for each in others):
        return False
    changed = [(each != base).movedim(axis, 0).flatten(1).any(1) for each in others]
    return not bool((changed[0] & changed[1]).any())


def _batch_first(module: nn.Module) -> bool:
    """The first such setting of a module, or of what it holds."""
    said = (getattr(each, "batch_first", None) for each in module.modules())
    return next((each for each in said if isinstance(each, bool)), False)
