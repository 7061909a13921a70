"""Changes of what a forward pass calls: an activation for another, a gradient let through, a mode kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.edits.edit import Edit
from downslope.core.errors import EditError, told
from downslope.core.modules import named_modules
from downslope.core.problem import Problem

Call = Callable[..., Any]
Which = Literal["all", "hidden", "last"]

FUNCTIONS: dict[str, tuple[Call, ...]] = {
    "relu": (functional.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_),
    "tanh": (torch.tanh, Tensor.tanh, torch.tanh_, Tensor.tanh_),
    "sigmoid": (torch.sigmoid, Tensor.sigmoid, torch.sigmoid_, Tensor.sigmoid_, torch.special.expit),
    "softmax": (functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax),
    "log_softmax": (functional.log_softmax, torch.log_softmax, Tensor.log_softmax),
    "log_sigmoid": (functional.logsigmoid,), "softplus": (functional.softplus,),
    "hardsigmoid": (functional.hardsigmoid,), "hardtanh": (functional.hardtanh,),
}  # fmt: skip
"""Activations by name, under every name that a forward pass can call them by; modules call them too."""


def _nothing(x: Tensor) -> Tensor:
    return x


def _over_classes(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=min(1, x.dim() - 1))


_PUT: dict[str, Call] = {
    "identity": _nothing, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "softmax": _over_classes,
}  # fmt: skip


@dataclass(frozen=True)
class ReplaceCall(Edit):
    """Another activation in the place of one that the forward pass calls as a function.

    What a trial of a custom forward needs; the change itself belongs in the user's code: `in_code` says it.

    Args:
        name: What is called, such as "sigmoid".
        by: "identity", "relu", "tanh", "sigmoid", or "softmax" over axis 1.
        which: Of the calls in one forward pass "all", the "last" one, or all but that, the "hidden" ones.

    Raises:
        EditError: a name that is not known.
    """

    kind: ClassVar[str] = "replace-call"
    name: str
    by: str = "identity"
    which: Which = "all"
    count: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for given, known in ((self.name, FUNCTIONS), (self.by, _PUT), (self.which, _WHICH)):
            if given not in known:
                raise EditError(f"{given!r} is not known here: {', '.join(known)}")

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models call the other function.

        Raises:
            EditError: the forward pass makes no such call.
        """
        changed = replace(self)
        object.__setattr__(changed, "count", _count(problem, self.name))
        if not self._places(changed.count):
            raise EditError(f"the forward pass calls no {self.name} of which this could take the place")
        return super(ReplaceCall, changed).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose forward calls the other function."""
        return during(model, partial(_Replaced, self.name, _PUT[self.by], self._places(self.count)))

    def _places(self, count: int) -> frozenset[int]:
        first, end = _WHICH[self.which](count)
        return frozenset(range(max(first, 0), end))

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        place = {"all": "every", "hidden": "every but the last", "last": "the last"}[self.which]
        if self.by == "identity":
            return (f"in forward: take out {place} {self.name}(...)",)
        return (f"in forward: {self.by}(x) in the place of {place} {self.name}(x)",)

    def __str__(self) -> str:
        place = {"all": "", "hidden": "hidden ", "last": "last "}[self.which]
        return f"{place}{self.name} in the forward -> {self.by if self.by != 'identity' else 'nothing'}"


_WHICH: dict[str, Callable[[int], tuple[int, int]]] = {
    "all": lambda n: (0, n), "hidden": lambda n: (0, n - 1), "last": lambda n: (n - 1, n),
}  # fmt: skip


@dataclass(frozen=True)
class LetThrough(Edit):
    """Let the gradient through where the forward pass cuts it off: ``detach``, ``.data`` and ``no_grad``.

    Numbers that went through numpy or an argmax stay cut off.
    """

    kind: ClassVar[str] = "let-through"

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose forward cuts nothing off."""
        return during(model, _Through)

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        return ("in forward: no detach(), no .data, no torch.no_grad()",)

    def __str__(self) -> str:
        return "let the gradient through the forward (no detach, no no_grad)"


@dataclass(frozen=True)
class OneMode(Edit):
    """Let the user's own modules do the same in both modes; torch's dropout and norms stay.

    Args:
        mode: What they do: that of "eval" mode, or that of "train" mode, which may look at the whole batch.

    Raises:
        EditError: another word.
    """

    kind: ClassVar[str] = "one-mode"
    mode: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        if self.mode not in ("eval", "train"):
            raise EditError(f"mode={self.mode!r}: must be 'eval' or 'train'")

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose own modules are in that mode during every forward."""
        inner = unwrap(model)
        inner.register_forward_pre_hook(partial(_settle, self.mode == "train"))
        inner.register_forward_hook(_unsettle, always_call=True)
        return model

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code."""
        return (f"in forward: the branch of `if self.training` that {self.mode} mode takes, in both modes",)

    def __str__(self) -> str:
        if self.mode == "eval":
            return "the forward of eval mode in training too"
        return "the forward of training in eval mode too"


# -- how a forward is changed from outside ------------------------------------------------------------------


class _Replaced(TorchFunctionMode):
    """While it is entered, the calls of a function at `places` are calls of another."""

    def __init__(self, name: str, by: Call, places: frozenset[int]) -> None:
        super().__init__()
        self.functions, self.by, self.places, self.seen = FUNCTIONS[name], by, places, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call, or the other one with the same first argument."""
        if func not in self.functions:
            return func(*args, **(kwargs or {}))
        self.seen += 1
        if self.seen - 1 not in self.places:
            return func(*args, **(kwargs or {}))
        return self.by(args[0] if args else (kwargs or {})["input"])


class _Through(TorchFunctionMode):
    """While it is entered, nothing is cut off from the graph."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call; what would cut off gives what it was given."""
        if func in _CUTS:
            return args[0]
        if getattr(func, "__name__", "") == _SWITCH and args and not args[0]:
            return None
        return func(*args, **(kwargs or {}))


_CUTS: tuple[Any, ...] = (Tensor.detach, torch.detach, Tensor.detach_, Tensor.data.__get__)  # type: ignore[attr-defined]

_SWITCH = "_set_grad_enabled"
"""What entering ``torch.no_grad()`` calls."""

_OPEN, _HELD = "_changed_calls", "_held_modes"


def during(model: nn.Module, mode: Callable[[], TorchFunctionMode]) -> nn.Module:
    """`model`, whose own forward is made within a new `mode`; what edits put around it is not."""
    inner = unwrap(model)
    inner.register_forward_pre_hook(partial(_enter, mode))
    inner.register_forward_hook(_leave, always_call=True)
    return model


def _enter(mode: Callable[[], TorchFunctionMode], module: nn.Module, _: Any) -> None:
    entered = mode()
    entered.__enter__()
    module.__dict__.setdefault(_OPEN, []).append(entered)


def _leave(module: nn.Module, _args: Any, _output: Any) -> None:
    if opened := module.__dict__.get(_OPEN):
        opened.pop().__exit__(None, None, None)


def _settle(training: bool, module: nn.Module, _: Any) -> None:
    own = [each for _, each in named_modules(module) if each.training is not training and not _torchs(each)]
    for each in own:
        each.training = training
    module.__dict__.setdefault(_HELD, []).append(own)


def _unsettle(module: nn.Module, _args: Any, _output: Any) -> None:
    if held := module.__dict__.get(_HELD):
        for each in held.pop():
            each.training = not each.training


def _torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _count(problem: Problem, name: str) -> int:
    """Calls of a function in one forward pass of two examples."""
    model = problem.build().eval()
    batch = next(iter(problem.train_source.stored(2)))
    dtype = next((p.dtype for p in unwrap(model).parameters() if p.is_floating_point()), torch.float32)
    args, kwargs, _ = problem.splitter(batches.to(batch, torch.device("cpu"), dtype))
    counter = _Replaced(name, _PUT["identity"], frozenset())
    try:
        with torch.no_grad(), counter:
            model(*args, **kwargs)
    except Exception as error:
        raise EditError(f"the forward pass failed: {told(error)}") from error
    return counter.seen
