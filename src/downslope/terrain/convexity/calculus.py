"""How an objective of one's own bends in the outputs, by the rules that keep convexity.

``f(z, y)`` is followed from its output z on: sums, means and positive factors keep what is convex, a minus
turns it over, squares, absolute values and known losses of what is affine in z are convex (Boyd and
Vandenberghe 2004, section 3.2). Whatever no rule names tells nothing.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from downslope.core.modules import altered
from downslope.terrain.exact.losses import convex_loss, convex_objective

Bend = Literal["constant", "affine", "convex", "concave"]

_KEPT: tuple[Any, ...] = (
    torch.mean, torch.sum, torch.flatten, torch.squeeze, torch.unsqueeze, torch.reshape, operator.getitem,
    "mean", "sum", "flatten", "squeeze", "unsqueeze", "reshape", "view", "double", "float",
)  # fmt: skip
"""Linear in their first argument, with no factor below zero."""

_SUMS: tuple[Any, ...] = (operator.add, torch.add, "add")
_DIFFERENCES: tuple[Any, ...] = (operator.sub, torch.sub, "sub")
_MINUS: tuple[Any, ...] = (operator.neg, torch.neg, "neg")
_EVEN: tuple[Any, ...] = (torch.square, torch.abs, "square", "abs")
_POWERS: tuple[Any, ...] = (operator.pow, torch.pow, "pow")
_FACTORS: tuple[Any, ...] = (operator.mul, torch.mul, "mul", operator.truediv, torch.div, "div")
_TURNED: dict[Bend, Bend] = {"convex": "concave", "concave": "convex"}


def bend_of(objective: Any) -> Bend | None:
    """How an objective bends in the outputs, for any targets; None where the rules do not tell.

    Args:
        objective: ``(output, target) -> scalar``.
    """
    if isinstance(objective, nn.Module) and (altered(objective) or list(objective.parameters())):
        return None
    try:
        graph = fx.Tracer().trace(objective)
    except Exception:  # noqa: BLE001 (anybody's objective may do what no graph shows)
        return None
    seen: dict[Any, Bend] = {}
    for node in graph.nodes:
        if node.op == "output":
            returned = node.args[0]
            return seen.get(returned) if isinstance(returned, fx.Node) else None
        if node.op == "placeholder":
            seen[node] = "constant" if seen else "affine"
        elif node.op in ("call_function", "call_method") and (bend := _called(node, seen)) is not None:
            seen[node] = bend
        else:
            return None  # also where nothing comes of it: it may have changed its operand in place
    return None


def _called(node: fx.Node, seen: dict[Any, Bend]) -> Bend | None:
    target, args = node.target, node.args
    bends: list[Bend | None] = [seen[each] if isinstance(each, fx.Node) else "constant" for each in args]
    beside = [each for each in node.all_input_nodes if each not in args]
    if not bends or any(seen[each] != "constant" for each in beside):
        return None
    first = bends[0]
    if all(each == "constant" for each in bends):
        return "constant"
    if target in _KEPT:
        return first if all(each == "constant" for each in bends[1:]) else None
    if target in _MINUS:
        return _turned(first)
    if len(bends) == 2 and (target in _SUMS or target in _DIFFERENCES) and not node.kwargs:
        return _added(first, bends[1] if target in _SUMS else _turned(bends[1]))
    if target in _EVEN or (target in _POWERS and args[1:] in ((2,), (2.0,))):
        return "convex" if first == "affine" else None
    if target in _FACTORS:
        return _scaled(node, bends)
    return _loss(node, bends) if first == "affine" else None


def _turned(bend: Bend | None) -> Bend | None:
    return None if bend is None else _TURNED.get(bend, bend)


def _added(a: Bend | None, b: Bend | None) -> Bend | None:
    if a is None or b is None or {a, b} == {"convex", "concave"}:
        return None
    order: tuple[Bend, ...] = ("constant", "affine", "convex", "concave")
    return order[max(order.index(a), order.index(b))]


def _scaled(node: fx.Node, bends: list[Bend | None]) -> Bend | None:
    """A factor that is a number, on either side, or a divisor."""
    numbers = [each for each in node.args if isinstance(each, (int, float))]
    if len(node.args) != 2 or len(numbers) != 1 or node.kwargs:
        return None
    divides = node.target in (operator.truediv, torch.div, "div")
    if divides and not isinstance(node.args[1], (int, float)):
        return None
    bend = bends[0] if isinstance(node.args[1], (int, float)) else bends[1]
    return bend if numbers[0] > 0 else _turned(bend) if numbers[0] < 0 else "constant"


def _loss(node: fx.Node, bends: list[Bend | None]) -> Bend | None:
    """A loss of torch's that is convex whatever the targets are."""
    plain: Callable[..., Tensor] | Any = node.target
    owned = getattr(functional, str(getattr(plain, "__name__", "")), None) is plain
    if not owned or len(bends) != 2 or bends[1] != "constant":
        return None
    if any(isinstance(each, fx.Node) for each in node.kwargs.values()):
        return None
    settings = {name: value for name, value in node.kwargs.items() if value is not None}
    made = functools.partial(plain, **settings)
    loss = convex_loss(made)
    if loss is not None:
        return None if loss.classes or loss.yes != 1 else "convex"  # those are convex for some targets alone
    return "convex" if settings.keys() <= {"reduction"} and convex_objective(plain) is not None else None
