"""The graph of a loss as its own nodes tell it: of what kind they are, and what they have kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor
from torch.nn.functional import softplus

NODES = 64
"""Nodes of a graph that are looked at; a loss written out by hand has 5 to 30."""

_LAYERS = ("Addmm", "Mm", "Bmm", "Convolution", "Mkldnn", "Accumulate", "Embedding", "NativeBatchNorm")
VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias", "Clone", "ToCopy", "Expand")
CLAMPS = ("Clamp", "Maximum", "Minimum")


def is_(node: Any, *names: str) -> bool:
    """Whether a node is of one of these kinds."""
    return node is not None and type(node).__name__.startswith(names)


def parents(node: Any) -> list[Any]:
    """The nodes that made what it was given, of what has a gradient."""
    return [] if node is None else [each for each, _ in node.next_functions if each is not None]


def unscaled(loss: Tensor) -> tuple[Any, float]:
    """The graph of `loss` and its factor, where it is multiplied or divided by numbers last."""
    node: Any = loss.grad_fn
    factor = 1.0
    for _ in range(4):
        if not is_(node, "MulBackward0", "DivBackward0") or len(parents(node)) != 1:
            break
        by = node._saved_other if node._saved_other is not None else getattr(node, "_saved_self", None)
        if by is None or by.dim():
            break
        factor = factor / float(by) if is_(node, "Div") else factor * float(by)
        node = parents(node)[0]
    return node, factor or 1.0


def form(loss: Tensor) -> tuple[str, ...]:
    """The kinds of its first nodes, which a loss of the same script shares."""
    found: list[str] = []
    queue: list[Any] = [loss.grad_fn]
    while queue and len(found) < 8:
        node = queue.pop(0)
        found.append(type(node).__name__)
        queue += parents(node)
    return tuple(found)


def walk(node: Any, outputs: Sequence[Any]) -> Iterator[Any]:
    """The nodes of a loss, those next to it first, up to the model's outputs."""
    queue, seen = [node], set[int]()
    while queue and len(seen) < NODES:
        each = queue.pop(0)
        if each is None or id(each) in seen or is_(each, *_LAYERS):
            continue
        seen.add(id(each))
        yield each
        if not any(each is one for one in outputs):
            queue += parents(each)


def column(node: Any) -> bool:
    """Whether a node takes the only entry along an axis."""
    if not is_(node, "SelectBackward0"):
        return False
    return math.prod(node._saved_self_sym_sizes) == math.prod(node._input_metadata[0].shape)


def picked(node: Any) -> Any:
    """What the entries of the classes were picked from, of a node that holds one for each example."""
    for _ in range(6):
        if is_(node, "IndexBackward", "GatherBackward"):
            return parents(node)[0]
        if is_(node, "MulBackward0") and len(parents(node)) == 1:
            return parents(node)[0]
        if not is_(node, *VIEWS, *CLAMPS, "SumBackward", "AddBackward0") or len(parents(node)) != 1:
            return None
        node = parents(node)[0]
    return None


def opposite(node: Any) -> bool:
    """Whether a node makes one minus something."""
    for _ in range(4):
        if is_(node, "RsubBackward", "NegBackward"):
            return True
        if is_(node, "SubBackward0") and node.next_functions[0][0] is None:
            return True
        if not is_(node, *VIEWS, *CLAMPS, "AddBackward0") or len(parents(node)) != 1:
            return False
        node = parents(node)[0]
    return False


def unsigned(node: Any) -> Any:
    """What stands before a change of sign, which may go by the class."""
    for _ in range(3):
        if not is_(node, "NegBackward", "MulBackward0") or len(parents(node)) != 1:
            break
        node = parents(node)[0]
    return node


def value_of(node: Any) -> Tensor | None:
    """What a node made, as far as it and those before it have kept enough of it."""
    if node is None:
        return None
    made: Any = getattr(node, "_saved_result", None)
    if made is not None:
        return made.detach()
    if is_(node, "DivBackward0") and node._saved_self is not None and node._saved_other is not None:
        return node._saved_self.detach() / node._saved_other.detach()
    given = cast("Any", getattr(node, "_saved_self", None))
    if is_(node, "ClampBackward1"):
        return given.detach().clamp(node._saved_min, node._saved_max)
    if is_(node, "ClampMinBackward0"):
        return given.detach().clamp(min=node._saved_min)
    if is_(node, "SoftplusBackward0"):
        return softplus(given.detach(), node._saved_beta, node._saved_threshold)
    if is_(node, "AbsBackward0"):
        return given.detach().abs()
    if is_(node, *VIEWS, "AddBackward0") and len(parents(node)) == 1:
        inner = value_of(parents(node)[0])
        shape = tuple(int(n) for n in node._input_metadata[0].shape)
        return None if inner is None or inner.numel() != math.prod(shape) else inner.reshape(shape)
    return None


_JOINED = ("Stack", "Cat")
_COMBINED = ("Add", "Sub", "Mul", "Div")


def made_of(node: Any, outputs: Sequence[Any]) -> bool:
    """Whether `node` is one of `outputs` behind functions of one argument, joins, sums and products.

    No layer stands between them. Of what is joined one part is enough, such as a score beside a constant one;
    of a sum or a product, such as the difference of two scores, every part with a gradient has to be.
    """
    left = NODES

    def leads(each: Any) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or any(each is one for one in outputs):
            return left >= 0
        given = parents(each)
        if is_(each, *_JOINED):
            return any(leads(one) for one in given)
        if is_(each, *_LAYERS) or not given:
            return False
        return (len(given) == 1 or is_(each, *_COMBINED)) and all(leads(one) for one in given)

    return leads(node)
