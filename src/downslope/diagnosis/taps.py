"""Where torch is listened to while somebody's script runs: what is wrapped, and put back at the end.

Optimizers tell of their making and their steps, `backward` of the tensor it is called on,
`torch.autograd.grad` of a loss and of what it is derived by, while there is no optimizer, the losses of
`torch.nn.functional` (which the loss modules call) of output and target, data loaders of the data set they
read, `GradScaler` of the loss it scales, `torch.compile` of what it is given. A listener that fails is left
out from then on; the script never hears of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, _jit_internal, nn
from torch.nn import functional
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import dataloader

from downslope.core import batches
from downslope.diagnosis.leaves import transformed
from downslope.terrain.methods.closure import Looks

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss",
    "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "soft_margin_loss", "multilabel_soft_margin_loss",
    "multi_margin_loss", "multilabel_margin_loss", "poisson_nll_loss",
)  # fmt: skip
"""The losses of `torch.nn.functional` that take output and target first."""

_PASSED_OVER = f"{__file__}:importlib._bootstrap"
"""File that the wrappers are said to stand in. `warnings.warn` passes over frames of such a name, so that a
warning of a wrapped function names the caller's line, as it does without us."""


class Listener(Protocol):
    """What is told of a running script."""

    listening: bool
    """Whether the losses of this step are to be told; scores without a gradient always are."""

    held_out: Any
    """What hears of scores without a gradient, and of models that go into eval mode."""

    by_hand: Any
    """What looks for steps without a torch optimizer; None as soon as there is one."""

    def made(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer was made."""

    def passing(self, loss: Tensor) -> None:
        """A backward pass is about to begin, and there is no optimizer."""

    def passed(self) -> None:
        """A backward pass has ended, and there is no optimizer."""

    def stepping(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """An optimizer is about to step."""

    def stepped(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """An optimizer has stepped."""

    def backward(self, loss: Tensor) -> None:
        """The backward pass of `loss` is about to begin."""

    def scored(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> None:
        """A loss function gave `value`, or something that is no tensor."""

    def scaled(self, loss: Tensor, scaled: Tensor) -> None:
        """A GradScaler multiplied a loss."""

    def read(self, dataset: Any) -> None:
        """A data loader gave a batch of `dataset`."""

    def compiled(self, given: Any, made: Any) -> None:
        """`torch.compile` made a compiled module or function of what it was given."""


class Taps:
    """Listens while it is open; everything is put back on leaving.

    Args:
        listener: Told of what happens.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.failures: list[str] = []
        self._undo: list[Callable[[], None]] = []
        self._originals: dict[int, Any] = {}

    def __enter__(self) -> Self:
        tell = self.listener
        self._undo += [
            register_optimizer_step_pre_hook(self._step(tell.stepping)).remove,
            register_optimizer_step_post_hook(self._step(tell.stepped)).remove,
        ]
        self._wrap(torch.optim.Optimizer, "__init__", self._making)
        self._wrap(torch.autograd, "backward", self._backward)
        self._wrap(torch.autograd, "grad", self._grading)
        both = torch.func.grad_and_value
        self._wrap(Looks, "__call__", self._looking)
        self._wrap(torch.func, "grad", lambda plain: self._deriving(plain, both))
        self._wrap(torch.func, "grad_and_value", lambda plain: self._deriving(plain, None))
        self._wrap(torch.amp.GradScaler, "scale", self._scaling)
        self._wrap(torch, "compile", self._compiling)
        self._wrap(nn.Module, "train", self._moding)
        iterator: Any = dataloader._BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage] (the only common base)
        self._wrap(iterator, "__next__", self._reading)
        for name in LOSSES:
            self._wrap(functional, name, self._scoring)
        self._wrap(_jit_internal, "get_closure", self._enclosing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    def _wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        made = wrapper(original)
        made.__code__ = made.__code__.replace(co_filename=_PASSED_OVER)
        self._originals[id(made)] = original
        setattr(owner, name, functools.wraps(original)(made))
        self._undo.append(lambda: setattr(owner, name, original))

    def _tell(self, what: Callable[..., None], *said: Any) -> None:
        try:
            what(*said)
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's script)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if len(self.failures) < 10:
            self.failures.append(f"{type(error).__name__}: {error}")

    # -- wrappers -----------------------------------------------------------------------------------------

    def _step(self, what: Callable[..., None]) -> Any:
        def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            closure = (len(args) > 1 and args[1] is not None) or (kwargs and bool(kwargs.get("closure")))
            try:
                what(optimizer, closure)
            except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's script)
                self._failed(error)

        return hook

    def _making(self, original: Any) -> Any:
        def made(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._tell(self.listener.made, optimizer)

        return made

    def _backward(self, original: Any) -> Any:
        listener = self.listener

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if listener.by_hand is not None:
                return by_hand(tensors, *args, **kwargs)
            if listener.listening and isinstance(tensors, Tensor) and not torch.compiler.is_compiling():
                self._tell(listener.backward, tensors)
            return original(tensors, *args, **kwargs)

        def by_hand(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            seen = isinstance(tensors, Tensor) and not torch.compiler.is_compiling()
            if seen:
                self._tell(listener.passing, tensors)
                if listener.listening:
                    self._tell(listener.backward, tensors)
            value = original(tensors, *args, **kwargs)
            if seen:
                self._tell(listener.passed)
            return value

        by_hand.__code__ = by_hand.__code__.replace(co_filename=_PASSED_OVER)

        return backward

    def _looking(self, original: Any) -> Any:
        """A look of a method of our own at a closure, whose backward pass is left out."""
        listener = self.listener

        def looked(looks: Any) -> Any:
            loss = original(looks)
            if listener.listening:
                self._tell(listener.backward, loss)
            return loss

        return looked

    def _grading(self, original: Any) -> Any:
        listener = self.listener

        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if listener.by_hand is None or torch.compiler.is_compiling():
                return original(outputs, inputs, *args, **kwargs)
            inputs = inputs if isinstance(inputs, Tensor) else tuple(inputs)  # an iterator is read once
            asked = (inputs,) if isinstance(inputs, Tensor) else inputs
            loss = None if _curved(args, kwargs) else _sole(outputs)
            told = loss is not None and self._hears(loss, asked)
            made = original(outputs, inputs, *args, **kwargs)
            if told:
                self._tell(listener.by_hand.graded, asked, made)
            return made

        return grad

    def _hears(self, loss: Tensor, inputs: Any) -> bool:
        """Tell of a gradient that is about to be asked for; whether it is one of parameters."""
        listener, found = self.listener, False
        try:
            found = bool(listener.by_hand.asked(loss, inputs))
            if found:
                listener.by_hand.passing(loss, inputs)
                if listener.listening:
                    listener.backward(loss)
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's script)
            self._failed(error)
        return found

    def _deriving(self, original: Any, both: Any) -> Any:
        """`torch.func.grad`, which is `both` without its value; None for the one that gives both."""
        listener = self.listener

        def derivative(func: Any, argnums: Any = 0, has_aux: bool = False) -> Any:
            plain, whole = original(func, argnums, has_aux), (both or original)(func, argnums, has_aux)

            @functools.wraps(func)
            def derived(*args: Any, **kwargs: Any) -> Any:
                if listener.by_hand is None or torch.compiler.is_compiling() or not isinstance(argnums, int):
                    return plain(*args, **kwargs)
                gradients, value = whole(*args, **kwargs)
                self._tell(self._derived, args[argnums], gradients, value[0] if has_aux else value)
                if both is None:
                    return gradients, value
                return (gradients, value[1]) if has_aux else gradients

            return derived

        return derivative

    def _derived(self, at: Any, gradients: Any, value: Tensor) -> None:
        given, made = list(batches.tensors(at)), list(batches.tensors(gradients))
        hand = self.listener.by_hand
        if len(given) == len(made) and hand.derived(given, made, value):
            if self.listener.listening:
                self.listener.backward(value)
            hand.function_passed(made)

    def _scoring(self, original: Any) -> Any:
        listener = self.listener

        def scored(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            # First of all: a compiler that traces this cannot see through what asks for a transform.
            if torch.compiler.is_compiling() or not (listener.listening or not torch.is_grad_enabled()):
                return value
            if not (isinstance(value, Tensor) and transformed(value)):
                self._tell(listener.scored, original, args, kwargs, value)
            return value

        return scored

    def _scaling(self, original: Any) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            given = original(scaler, outputs)
            if self.listener.listening and isinstance(outputs, Tensor) and isinstance(given, Tensor):
                self._tell(self.listener.scaled, outputs, given)
            return given

        return scale

    def _moding(self, original: Any) -> Any:
        inside: list[bool] = []  # the modes of the parts follow that of the whole

        def train(module: Any, mode: bool = True) -> Any:
            if inside or torch.compiler.is_compiling():
                return original(module, mode)
            inside.append(True)
            try:
                made = original(module, mode)
            finally:
                inside.clear()
            self._tell(self._moded, bool(mode))
            return made

        return train

    def _moded(self, training: bool) -> None:
        self.listener.held_out.shown.moded(training)

    def _compiling(self, original: Any) -> Any:
        def compiled(model: Any = None, *args: Any, **kwargs: Any) -> Any:
            given = original(model, *args, **kwargs)
            if model is None:  # used as a decorator with options

                def decorate(inner: Any) -> Any:
                    made = given(inner)
                    self._tell(self.listener.compiled, inner, made)
                    return made

                return decorate
            self._tell(self.listener.compiled, model, given)
            return given

        return compiled

    def _enclosing(self, original: Any) -> Any:
        """TorchScript reads a wrapped function's source, which is the original's; its names are too."""

        def closure(function: Any) -> Any:
            return original(self._originals.get(id(function), function))

        return closure

    def _reading(self, original: Any) -> Any:
        def following(iterator: Any) -> Any:
            batch = original(iterator)
            self._tell(self.listener.read, getattr(iterator, "_dataset", None))
            return batch

        return following


def _curved(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a gradient is asked for to be derived once more: no step is taken by it alone."""
    return bool(kwargs.get("create_graph") or (len(args) > 2 and args[2]))


def _sole(outputs: Any) -> Tensor | None:
    """The one number whose gradient is asked for; None for several."""
    given = cast("Sequence[Any]", outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    found = given[0] if len(given) == 1 else None
    return found if isinstance(found, Tensor) and found.numel() == 1 and found.requires_grad else None
