"""Whether a model's output is affine in its trained weights: proved by following the graph of its forward.

A convex loss of an affine function is convex, so this is what makes a training problem convex. The values of
the graph fall into three kinds: what no trained weight touches (it may be as crooked as it likes), what is
affine in the weights, and the rest. `torch.fx` gives the graph; what it cannot trace is not proved.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils.parametrize import is_parametrized

from downslope.core.adapted import Adapted, Restore, Standardise, Whiten
from downslope.core.modules import altered, named_modules

MOST_LAYERS = 32
"""Modules with trained weights beyond which no model is followed: none such is linear in practice."""


class Kind(NamedTuple):
    """What a value is as a function of the trained weights."""

    affine: bool
    """Affine, or constant."""
    touched: bool
    """Whether trained weights reach it at all."""
    layer: str | None = None
    """Qualified name of the only layer that made it, where nothing but its shape has changed since."""
    why: str = ""
    """What bends it, where it is not affine."""
    proved: bool = True
    """Whether it is known not to be affine, where it is not."""


CONSTANT = Kind(affine=True, touched=False)

_WEIGHTED = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.LayerNorm, nn.GroupNorm, nn.PReLU,
)  # fmt: skip
"""Modules whose output is affine in their own weights, whatever goes in."""

_SAME = (nn.Identity, nn.Flatten, nn.Unflatten)
_THROUGH = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d,
    nn.PixelShuffle, Standardise, Restore, Whiten,
)  # fmt: skip
"""Modules that are affine in what goes in."""

_SHAPES: tuple[Any, ...] = (
    torch.flatten, torch.squeeze, torch.reshape, "flatten", "squeeze", "reshape", "view", "contiguous",
    "unsqueeze", torch.unsqueeze, "float", "double", "to", "clone",
)  # fmt: skip
"""What keeps every entry and their order."""

_LINEAR: tuple[Any, ...] = (
    torch.permute, torch.transpose, torch.t, torch.cat, torch.stack, torch.sum, torch.mean, torch.neg,
    operator.neg, operator.getitem, "permute", "transpose", "t", "sum", "mean", "neg", "expand", "narrow",
    "chunk", "split", "select", "repeat", functional.avg_pool2d, functional.adaptive_avg_pool2d,
)  # fmt: skip
"""What is linear in its one operand, or in all of them together."""

_SUMS: tuple[Any, ...] = (operator.add, operator.sub, torch.add, torch.sub, "add", "sub", operator.iadd)
_PRODUCTS: tuple[Any, ...] = (
    operator.mul, torch.mul, "mul", operator.matmul, torch.matmul, torch.mm, torch.bmm, torch.einsum,
    "matmul", "mm", "bmm", functional.linear, functional.conv1d, functional.conv2d, functional.embedding,
)  # fmt: skip
"""What is affine in one operand while the others are constant."""

_QUOTIENTS: tuple[Any, ...] = (operator.truediv, torch.div, "div")
_MEASURES = ("shape", "ndim", "dtype", "device", "layout", "is_cuda")
"""Attributes of a tensor that do not hang on its values."""

_DRAWN: tuple[Any, ...] = (functional.dropout, functional.batch_norm)


def kind_of(model: nn.Module) -> Kind:
    """What the output of `model` is as a function of its trained weights, in the mode that it is in.

    Args:
        model: Any module; adaptations are followed as training does (`Adapted.training_output`).

    Returns:
        Its kind; a model that cannot be traced is not affine, and `why` says so.
    """
    trained = [name for name, module in named_modules(model) if _own(module)]
    if len(trained) > MOST_LAYERS:
        return Kind(False, True, why=f"{len(trained)} layers with weights act on one another")
    if (other := _altered(model)) is not None:
        return other
    if isinstance(model, Adapted):
        return _of_adapted(model)
    return _traced(model, "", CONSTANT)


def _altered(model: nn.Module) -> Kind | None:
    """What keeps the classes of the modules from telling what they compute; None where nothing does."""
    for name, module in named_modules(model):
        what = altered(module)
        if what is None or (is_parametrized(module) and not _trains(module)):
            continue
        why = f"{_named(module, name)} has {what}, which may bend what it gives"
        return Kind(False, True, why=why, proved=False)
    return None


def _named(module: nn.Module, name: str) -> str:
    kind = type(module).__name__.removeprefix("Parametrized")
    return f"{name} ({kind})" if name else kind


def _own(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters(recurse=False))


def _trains(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _of_adapted(model: Adapted) -> Kind:
    before, after = (getattr(model, each) for each in ("_before", "_after"))
    given = CONSTANT if before is None else _traced(before, "_before", CONSTANT)
    if not given.affine or given.touched:
        return Kind(False, True, why=given.why or "what stands before the model has weights of its own")
    inner = model.inner
    made = _of_adapted(inner) if isinstance(inner, Adapted) else _traced(inner, "", CONSTANT)
    if made.layer is not None:
        made = made._replace(layer=f"inner.{made.layer}")
    if after is None or getattr(model, "_target", None) is not None:
        return made
    return _module(after, "_after", [made])


class _Tracer(fx.Tracer):
    """Goes into the user's own modules, stops at torch's and at ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is looked at as a whole."""
        return isinstance(m, (Standardise, Restore, Whiten)) or super().is_leaf_module(
            m, module_qualified_name
        )


def _traced(model: nn.Module, name: str, given: Kind) -> Kind:
    """The kind of ``model(given, ...)``."""
    if type(model).__module__.startswith(("torch.nn.modules", "downslope.core")) and not isinstance(
        model, (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    ):
        return _module(model, name, [given])
    try:
        graph = _Tracer().trace(model)
    except Exception:  # noqa: BLE001 (anybody's forward may do what no graph shows)
        why = f"the forward of {type(model).__name__} cannot be followed"
        return Kind(False, True, why=why, proved=False)
    seen: dict[fx.Node, Kind] = {}
    result = CONSTANT
    for node in graph.nodes:
        if node.op == "output":
            result = _of_output(node, seen)
        else:
            seen[node] = _node(node, model, seen, given)
            if _in_place(node) and any(each.touched for each in _operands(node, seen)):
                return seen[node]  # others hold what it changed
    return result


def _of_output(node: fx.Node, seen: dict[fx.Node, Kind]) -> Kind:
    returned = node.args[0]
    if not isinstance(returned, fx.Node):
        return Kind(False, True, why="the output is no single tensor")
    return seen[returned]


def _node(node: fx.Node, model: nn.Module, seen: dict[fx.Node, Kind], given: Kind) -> Kind:
    if node.op == "placeholder":
        return given
    if node.op == "get_attr":
        found: Any = operator.attrgetter(str(node.target))(model)
        trained = isinstance(found, nn.Parameter) and found.requires_grad
        return Kind(True, trained)
    operands = _operands(node, seen)
    if node.op == "call_module":
        return _module(model.get_submodule(str(node.target)), str(node.target), operands)
    return _function(node, operands)


def _operands(node: fx.Node, seen: dict[fx.Node, Kind]) -> list[Kind]:
    """The kinds of what a node is given, one as often as it is given: ``w * w`` has two."""
    found: list[Kind] = []

    def take(each: fx.Node) -> fx.Node:
        found.append(seen[each])
        return each

    fx.map_arg((node.args, node.kwargs), take)
    return found


def _bent(operands: Iterable[Kind]) -> Kind | None:
    return next((each for each in operands if not each.affine), None)


def _module(module: nn.Module, name: str, operands: list[Kind]) -> Kind:
    """The kind of what a module makes of its operands."""
    if bent := _bent(operands):
        return bent
    said = _named(module, name)
    if module.training and isinstance(module, (_BatchNorm, _DropoutNd)) and getattr(module, "p", 1) != 0:
        why = f"{said} makes an example's output hang on chance or on its batch"
        return Kind(False, True, why=why, proved=False)
    if isinstance(module, (_DropoutNd,)):
        return operands[0]
    touched, trains = any(each.touched for each in operands), _trains(module)
    plain = type(module)
    if trains and touched:
        return Kind(False, True, why=f"{said} multiplies weights by weights of a layer before it")
    if trains:
        if _is(plain, _WEIGHTED) and getattr(module, "max_norm", None) is None:
            return Kind(True, True, name if plain is nn.Linear else None)
        norm = isinstance(module, _BatchNorm) and not module.training
        return Kind(True, True) if norm else Kind(False, True, why=f"{said} is not linear in its weights")
    if not touched:
        return CONSTANT
    if _is(plain, _SAME):
        return operands[0]
    if _is(plain, _THROUGH) or isinstance(module, _BatchNorm):
        return Kind(True, True)
    return Kind(False, True, why=f"{said} bends what the weights before it make")


def _is(kind: type[nn.Module], known: tuple[type[nn.Module], ...]) -> bool:
    """Whether a class is one of `known`, or keeps the forward of one."""
    return any(kind is each or (issubclass(kind, each) and kind.forward is each.forward) for each in known)


def _function(node: fx.Node, operands: list[Kind]) -> Kind:
    target = node.target
    if bent := _bent(operands):
        return bent
    if target in _DRAWN and node.kwargs.get("training", True):
        why = f"{_called(target)} makes an output hang on chance or on its batch"
        return Kind(False, True, why=why, proved=False)
    touched = sum(each.touched for each in operands)
    if not touched or target in ("size", "dim", "numel"):
        return CONSTANT
    if target is getattr and str(node.args[1]) in _MEASURES:
        return CONSTANT
    if _in_place(node):
        why = f"{_called(target)} changes in place what the weights make, which is not followed"
        return Kind(False, True, why=why, proved=False)
    if target in _SHAPES:
        return operands[0]
    if target in _LINEAR or target in _SUMS:
        return Kind(True, True)
    alone = touched == 1 or (target is functional.linear and not operands[0].touched)
    if (target in _PRODUCTS and alone) or (target in _QUOTIENTS and operands[0].touched and touched == 1):
        return Kind(True, True)
    if target in _PRODUCTS:
        return Kind(False, True, why=f"{_called(target)} multiplies weights by weights")
    return Kind(False, True, why=f"{_called(target)} bends what the weights before it make")


def _in_place(node: fx.Node) -> bool:
    """Whether a call changes an operand, so that what was known of it holds no more."""
    name = str(getattr(node.target, "__name__", node.target))
    return (name.endswith("_") and not name.endswith("__")) or bool(node.kwargs.get("inplace"))


def _called(target: Callable[..., Any] | str) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))
