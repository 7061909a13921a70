"""The objective as the loop calls it: model, batch and objective brought together in one place."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from downslope.core.adapted import Adapted, unwrap
from downslope.core.errors import ObjectiveError
from downslope.core.outputs import read_by
from downslope.core.problem import Problem
from downslope.core.stated import reference, without_module
from downslope.core.widened import Widened


class Composed(NamedTuple):
    """What an objective of several parts returns, which logs other numbers than it adds."""

    value: Tensor
    """The scalar to go down on."""
    terms: Mapping[str, Tensor]
    """What is logged, by name."""
    parts: Mapping[str, Tensor]
    """What `value` is the sum of, by the same names; an objective's ``combine`` gets these."""


class Loss(NamedTuple):
    """What one batch gave."""

    value: Tensor
    """The objective to go down on; a scalar with a gradient, negated where it is maximised."""
    output: Any
    """The model's output as the objective saw it: a named one its tensor `logits`, where it holds one."""
    target: Any
    """The target as the objective saw it."""
    terms: Mapping[str, Tensor]
    """Named terms, where the objective gave any, penalties among them."""
    parts: Mapping[str, Tensor] = {}
    """The weighted terms whose gradients the objective combines by itself; empty else."""
    penalty: Tensor | None = None
    """The part of `value` that is no risk: it hangs on the weights alone."""
    made: Any = None
    """The model's output, whole."""

    @property
    def risk(self) -> Tensor:
        """`value` without the penalties."""
        return self.value if self.penalty is None else self.value - self.penalty


class Objective:
    """``loss(model, batch) -> Loss`` for one problem.

    An objective with a method ``penalties(model) -> {name: scalar}`` has them added in training, and only
    there: what is reported is the risk. One that is a module with parameters is copied, so that every run
    learns its own.

    Args:
        problem: The problem; its split, objective and direction are read once.
        dtype: To compute in, where that is wider than what the model or the objective holds beside parameters
            and buffers; None leaves the precisions as they come.
    """

    def __init__(self, problem: Problem, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self.split = problem.splitter
        self.function = problem.objective
        if learnt(self.function):
            self.function = copy.deepcopy(self.function)
        self.sign = -1.0 if problem.maximize else 1.0
        self.wants_inputs = _takes(self.function, "inputs")
        self.wants_model = _takes(self.function, "model")
        self.label = without_module(reference(self.function) or "output.loss")

    def __call__(self, model: nn.Module, batch: Any) -> Loss:
        """The objective of `model` on `batch`, in training: adapted targets where the problem has them."""
        return self.trained(*self.forward(model, batch), model)

    def forward(self, model: nn.Module, batch: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        """Output and target as the objective sees them in training, and the inputs, which it may ask for."""
        args, kwargs, target = self.split(batch)
        with self.computing():
            if isinstance(model, Adapted):
                output = model.training_output(*args, **kwargs)
                target = model.training_target(target)
            else:
                output = model(*args, **kwargs)
        return output, target, args or (kwargs,)

    def computing(self) -> AbstractContextManager[object]:
        """In `dtype`, where there is one."""
        return nullcontext() if self.dtype is None else Widened(self.dtype)

    def trained(self, output: Any, target: Any, args: tuple[Any, ...], model: nn.Module) -> Loss:
        """What is gone down on, of an output: `of` it, and the penalties of `model`."""
        loss = self.of(output, target, args, model)
        if not hasattr(self.function, "penalties"):
            return loss
        with self.computing():
            found: dict[str, Tensor] = self.function.penalties(unwrap(model))
        if not found:
            return loss
        penalty = functools.reduce(torch.add, found.values())
        value = loss.value + penalty
        terms = {**loss.terms, **found, "objective": self.sign * value}
        return loss._replace(value=value, terms=terms, penalty=penalty)

    def raw(self, model: nn.Module, batch: Any) -> Loss:
        """The objective in the user's units: what is reported, and compared between runs."""
        args, kwargs, target = self.split(batch)
        return self.reported(model, raw_output(model, *args, **kwargs), target, args or (kwargs,))

    def reported(self, model: nn.Module, output: Any, target: Any, args: tuple[Any, ...]) -> Loss:
        """The objective in the user's units of what `raw_output` gave."""
        if isinstance(model, Adapted) and model.transforms_target:
            return self._in_units(model, output, target, args)
        return self.of(output, target, args, model)

    def restored(self, model: nn.Module, loss: Loss, batch: Any) -> Tensor:
        """The value of `loss` in the user's units, without a gradient and without a second forward pass."""
        if not isinstance(model, Adapted) or not model.transforms_target:
            return self.sign * loss.risk.detach()
        with torch.no_grad():
            args, kwargs, target = self.split(batch)
            return self.sign * self._in_units(model, loss.output, target, args or (kwargs,)).value

    def _in_units(self, model: Adapted, output: Any, target: Any, args: tuple[Any, ...]) -> Loss:
        """The objective in the user's units; in float64 where float32 cannot hold it (squares of 1e20)."""
        found = self.of(model.restore(output), target, args, model)
        narrow = isinstance(output, Tensor) and output.dtype != torch.float64 and output.device.type != "mps"
        if not narrow or not isinstance(target, Tensor) or bool(torch.isfinite(found.value)):
            return found
        wide = target.double() if target.is_floating_point() else target
        value = self.of(model.restore(output.double()), wide, args, model).value
        return found._replace(value=value)

    def of(
        self, output: Any, target: Any, args: tuple[Any, ...] = (), model: nn.Module | None = None
    ) -> Loss:
        """The objective of an output.

        Args:
            output: Of the model.
            target: As the split gave it.
            args: The inputs, one dict where they go by keyword.
            model: What gave the output; an objective that asks for it is handed the model of the problem,
                without what adapts it, and None where there is no model to speak of.

        Raises:
            ObjectiveError: what came back is no scalar.
        """
        made, output = output, read_by(self.function, output)
        if self.function is None:
            value: Any = getattr(output, "loss", None)
            if value is None and isinstance(output, Mapping):
                value = cast("Mapping[str, Any]", output).get("loss")
            if value is None:
                raise ObjectiveError(
                    f"objective=None takes output.loss, but the model returned {_kind(output)} "
                    "without one: give an objective, or pass the labels to the model"
                )
        else:
            with self.computing():
                value = _called(self.function, output, target, self._asked(args, model))
        terms: Mapping[str, Tensor] = {}
        parts: Mapping[str, Tensor] = {}
        if isinstance(value, Composed):
            value, terms, parts = value
        elif isinstance(value, Mapping) and value:
            terms = cast("Mapping[str, Tensor]", value)
            value = functools.reduce(torch.add, terms.values())
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            raise ObjectiveError(_no_scalar(self.label, value))
        if value.dim():
            value = value.reshape(())
        if self.sign < 0:
            value, parts = -value, {key: -each for key, each in parts.items()}
        return Loss(value, output, target, terms, parts, made=made)

    def _asked(self, args: tuple[Any, ...], model: nn.Module | None) -> dict[str, Any]:
        """What the objective asks for by name beside output and target."""
        found: dict[str, Any] = {}
        if self.wants_inputs:
            found["inputs"] = args[0] if len(args) == 1 else args
        if self.wants_model:
            found["model"] = None if model is None else unwrap(model)
        return found


def raw_output(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The model's output; where targets are adapted, before it is taken to the user's units."""
    if isinstance(model, Adapted) and model.transforms_target:
        return model.training_output(*args, **kwargs)
    return model(*args, **kwargs)


def learnt(function: Any) -> nn.Module | None:
    """The objective, where it is a module with parameters of its own, which are trained beside the model."""
    module = function if isinstance(function, nn.Module) else getattr(function, "objective", None)
    if not isinstance(module, nn.Module):
        return None
    return module if any(p.requires_grad for p in module.parameters()) else None


CUT_OFF = "the objective has no gradient"
"""How a refusal begins of what no gradient flows from."""


def check_trainable(model: nn.Module, loss: Loss) -> None:
    """Refuse a loss from which no gradient flows.

    Raises:
        ObjectiveError: the loss is cut off from every parameter.
    """
    if not loss.value.requires_grad:
        raise ObjectiveError(
            f"{CUT_OFF}: something between the model and the loss cuts it off "
            f"(detach, argmax, .item(), numpy, no_grad) in {type(unwrap(model)).__name__} or the objective"
        )


def _called(function: Any, output: Any, target: Any, asked: dict[str, Any]) -> Any:
    """What the objective gives; of sizes that differ torch warns at every call, `fit` and a finding once."""
    if isinstance(output, Tensor) and isinstance(target, Tensor):
        fits = output.shape == target.shape or (
            output.numel() != target.numel() and not target.is_floating_point()
        )
        if fits:
            return function(output, target, **asked)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")
        return function(output, target, **asked)


def _kind(value: Any) -> str:
    return type(value).__name__


def _no_scalar(label: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"objective {label} returned no terms: it must return one number, or a dict of such"
    if isinstance(value, Tensor) and value.numel() == 1:
        return f"objective {label} returned a complex number: it must be real; take its .real or .abs()"
    if isinstance(value, Tensor):
        return (
            f"objective {label} returned a tensor of shape {tuple(value.shape)}: it must return one number; "
            "take its mean over the examples (reduction='mean')"
        )
    return f"objective {label} returned {type(value).__name__}: it must return a tensor with one number"


def _takes(function: Any, name: str) -> bool:
    if function is None:
        return False
    if isinstance(function, types.FunctionType):
        return name in _parameters(function)
    try:
        target = function.forward if isinstance(function, nn.Module) else function
        return name in inspect.signature(target).parameters
    except (TypeError, ValueError):
        return False


@functools.lru_cache(maxsize=64)
def _parameters(function: types.FunctionType) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
