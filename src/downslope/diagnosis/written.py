"""Losses that a script writes out by hand, logarithmic above all, read off the graph that made them.

The graph tells the candidates: what stands under a logarithm (or a softplus, a logsumexp), and what has no
gradient and is multiplied, picked by or asked for. Which loss they make is not guessed but calculated: only
the form whose value on this batch is that of the loss, digit for digit, counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    softplus,
)

from downslope.diagnosis.chains import leaf_behind, product
from downslope.diagnosis.formulas import bernoulli_of, matching
from downslope.objectives import bernoulli, categorical

NODES = 64
"""Nodes of a graph that are looked at; a loss written out by hand has 5 to 30."""

DIGITS = 6
"""Digits behind the point of a target that is an output less its error, in float32."""

COMPLEMENT = 1e-2
"""What two probabilities may be off a sum of 1 by: an epsilon under each logarithm."""

_LAYERS = ("Addmm", "Mm", "Bmm", "Convolution", "Mkldnn", "Accumulate", "Embedding", "NativeBatchNorm")
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias", "Clone", "ToCopy", "Expand")
_ENDS = ("Addmm", "Mm", "Relu", "Softplus", "Sigmoid", "Softmax", "Tanh", "Hardtanh", "Hardsigmoid")
"""Nodes at the end of a model that are no density."""

_CLAMPS = ("Clamp", "Maximum", "Minimum")


class Head(NamedTuple):
    """What the logarithm is taken of."""

    grad_fn: Any
    """The node that made the output, in front of what the loss does to it."""
    clamped: bool
    """Whether the loss clamps it."""
    shared: bool
    """Whether the loss divides it by its sum over the classes."""


class Written(NamedTuple):
    """A loss that was read."""

    function: Callable[[Tensor, Tensor], Tensor]
    made: Tensor
    """What the function is handed, as values."""
    target: Tensor
    value: Tensor
    """The loss without a factor that is a number."""
    head: Head


def read(loss: Tensor, outputs: Sequence[Any]) -> Written | None:
    """What `loss` is, whose backward pass has not run; None for any other.

    Args:
        loss: A scalar.
        outputs: Nodes of the graph that made the model's outputs: nothing is looked at behind them.

    Raises:
        RuntimeError: the graph keeps its values no more.
    """
    node, factor = unscaled(loss)
    nodes = list(_walk(node, outputs))
    errors = _errors if outputs else _all_errors
    targets = [each for one in nodes for each in _targets(one)]
    whole = loss.detach()
    with torch.no_grad():
        for tried in (_likelihoods, _pairs, _scores, errors):
            for function, made, target, top in tried(nodes, targets):
                for value in (whole, whole / factor) if factor != 1.0 else (whole,):
                    scaled = matching(function, made, target, value, mean=value is whole)
                    if scaled is not None:
                        found = Written(scaled, made, target, value, _head(top, outputs))
                        return found if function is not categorical or _of_classes(found) else None
    return None


def _of_classes(found: Written) -> bool:
    """Whether the likelihood is one of classes: a density may be anything above 0."""
    shares = bool(((found.made.sum(1) - 1).abs() < COMPLEMENT).all())
    return shares or found.head.shared or _is(found.head.grad_fn, *_ENDS)


_Tried = tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, Any]


def _likelihoods(nodes: list[Any], targets: list[Tensor]) -> Iterator[_Tried]:
    """Minus the logarithm of what the class, or the row of shares, was given."""
    for node in nodes:
        if not _is(node, "LogBackward", "XlogyBackward"):
            continue
        u = node._saved_self if _is(node, "LogBackward") else node._saved_other
        top = _parents(node)[0] if _is(node, "LogBackward") else node.next_functions[1][0]
        if u.dim() and u.numel() == len(u):  # picked before the logarithm
            least, top = float(u.min()), _picked(top)
            u = _value(top)
            u = None if u is None else u.clamp_min(least)  # clamped, it may be, after it was picked
        if u is not None and u.dim() == 2 and u.shape[1] > 1:
            yield from ((categorical, u, each, top) for each in targets if _fits(each, u))


def _pairs(nodes: list[Any], targets: list[Tensor]) -> Iterator[_Tried]:
    """The logarithms of a probability and of its complement."""
    logs = [(n, n._saved_self) for n in nodes if _is(n, "LogBackward")]
    logs += [(n, 1 + n._saved_self) for n in nodes if _is(n, "Log1PBackward")]
    logs += [(n, n._saved_other) for n in nodes if _is(n, "XlogyBackward")]
    for node, u in logs:
        top = node.next_functions[1 if _is(node, "XlogyBackward") else 0][0]
        if _is(top, "WhereBackward"):
            inner = next((each for each in _parents(top) if not _opposite(each)), None)
            p = _value(inner)
            if p is not None:
                yield from ((bernoulli, p, y, inner) for y in targets if y.shape == p.shape)
            continue
        if _opposite(top):
            continue
        for _, v in logs:
            if v.shape == u.shape and bool(((u + v - 1).abs() < COMPLEMENT).all()):
                for y in targets:
                    if y.shape == u.shape and y.is_floating_point():
                        yield from ((bernoulli_of(v), u, each, top) for each in (y, 1 - y))


def _scores(nodes: list[Any], targets: list[Tensor]) -> Iterator[_Tried]:
    """A logsumexp or a log-softmax of scores; a softplus, or the logarithm of a sigmoid, of one."""
    for node in nodes:
        top = next(iter(_parents(node)), None)
        if _is(node, "LogSoftmaxBackward"):
            found = [(node, node._saved_result)]
        elif _is(node, "ExpBackward"):
            found = [(top, node._saved_result.log())]
        elif _is(node, "LogsumexpBackward", "SoftplusBackward", "LogSigmoidBackward", "AbsBackward"):
            found = [(top, node._saved_self)]
        elif _is(node, "LogaddexpBackward"):
            both = zip(node.next_functions, (node._saved_self, node._saved_other), strict=True)
            found = [(each[0], z) for each, z in both if each[0] is not None]
        else:
            continue
        for above, z in found:
            if z.dim() == 2 and z.shape[1] > 1:
                yield from ((cross_entropy, z, each, above) for each in targets if _fits(each, z))
            for y in targets:
                if y.shape == z.shape and y.is_floating_point():
                    signs = bool((y.abs() == 1).all())
                    yield from _logistic(z, 0.5 * (y + 1) if signs else y, _unsigned(above))


def _logistic(z: Tensor, y: Tensor, top: Any) -> Iterator[_Tried]:
    for each in (z, -z):
        for wanted in (y, 1 - y):
            if bool(((wanted >= 0) & (wanted <= 1)).all()):
                yield binary_cross_entropy_with_logits, each, wanted, top
    if bool(((y == 0) | (y == 1)).all()):  # the score may be multiplied by the sign of its class before
        yield binary_cross_entropy_with_logits, -z * (2 * y - 1), y, top


def _errors(
    nodes: list[Any], targets: list[Tensor], value: Callable[[Any], Tensor | None] | None = None
) -> Iterator[_Tried]:
    """Squared or absolute differences from a target, where the last activation has kept its result."""
    del targets
    for node in nodes:
        squared = _is(node, "PowBackward0") and getattr(node, "_saved_exponent", None) == 2
        if not (squared or _is(node, "AbsBackward0")) or not _is(_parents(node)[0], "SubBackward0"):
            continue
        less = _parents(node)[0]
        only = len(_parents(less)) == 1 and less._saved_alpha == 1
        made = (value or _value)(_parents(less)[0]) if only else None
        if made is None or made.shape != node._saved_self.shape:
            continue
        shape = made.shape or (1,)  # of a single example there may be no axis
        sign = 1 if less.next_functions[0][0] is not None else -1
        made, off = made.reshape(shape), node._saved_self.double().reshape(shape) * sign
        target = (made.double() - off).round(decimals=DIGITS).to(made.dtype)
        yield mse_loss if squared else l1_loss, made, target, _parents(less)[0]


def _all_errors(nodes: list[Any], targets: list[Tensor]) -> Iterator[_Tried]:
    """The same of a network in no module, whose last layer is calculated once more."""
    return _errors(nodes, targets, _worked_out)


def astray(loss: Tensor) -> Tensor | None:
    """Differences from targets that are not finite though the outputs are: then the targets are not."""
    for node in _walk(loss.grad_fn, ()):
        if not _is(node, "PowBackward0", "AbsBackward0") or not _is(_parents(node)[0], "SubBackward0"):
            continue
        off, made = node._saved_self.detach(), _worked_out(_parents(_parents(node)[0])[0])
        lone = len(_parents(_parents(node)[0])) == 1
        if lone and made is not None and made.shape == off.shape and bool(made.isfinite().all()):
            return off
    return None


def _worked_out(node: Any) -> Tensor | None:
    """What a node made, calculated anew from what is left of it where it is a layer."""
    leaf = leaf_behind(node)
    if leaf is not None:
        return leaf[1](leaf[0].detach())
    made = _value(node)
    if made is not None or node is None:
        return made
    made = product(node)
    bias: Any = None
    if _is(node, "AddmmBackward0") and node._saved_alpha == node._saved_beta == 1:
        bias = node.next_functions[0][0]
    elif _is(node, "AddBackward0") and len(_parents(node)) == 2 and node._saved_alpha == 1:
        made, bias = _worked_out(_parents(node)[0]), _parents(node)[1]
    elif _is(node, *_VIEWS):
        inner = _worked_out(_parents(node)[0])
        shape = tuple(int(n) for n in node._input_metadata[0].shape)
        return None if inner is None or inner.numel() != math.prod(shape) else inner.reshape(shape)
    if made is None or bias is None:
        return made
    beside = _worked_out(bias)
    return None if beside is None else made + beside


# -- the graph --------------------------------------------------------------------------------------------


def _is(node: Any, *names: str) -> bool:
    return node is not None and type(node).__name__.startswith(names)


def _parents(node: Any) -> list[Any]:
    return [] if node is None else [each for each, _ in node.next_functions if each is not None]


def unscaled(loss: Tensor) -> tuple[Any, float]:
    """The graph of `loss` and its factor, where it is multiplied or divided by numbers last."""
    node: Any = loss.grad_fn
    factor = 1.0
    for _ in range(4):
        if not _is(node, "MulBackward0", "DivBackward0") or len(_parents(node)) != 1:
            break
        by = node._saved_other if node._saved_other is not None else getattr(node, "_saved_self", None)
        if by is None or by.dim():
            break
        factor = factor / float(by) if _is(node, "Div") else factor * float(by)
        node = _parents(node)[0]
    return node, factor or 1.0


def form(loss: Tensor) -> tuple[str, ...]:
    """The kinds of its first nodes, which a loss of the same script shares."""
    found: list[str] = []
    queue: list[Any] = [loss.grad_fn]
    while queue and len(found) < 8:
        node = queue.pop(0)
        found.append(type(node).__name__)
        queue += _parents(node)
    return tuple(found)


def _walk(node: Any, outputs: Sequence[Any]) -> Iterator[Any]:
    """The nodes of a loss, those next to it first, up to the model's outputs."""
    queue, seen = [node], set[int]()
    while queue and len(seen) < NODES:
        each = queue.pop(0)
        if each is None or id(each) in seen or _is(each, *_LAYERS):
            continue
        seen.add(id(each))
        yield each
        if not any(each is one for one in outputs):
            queue += _parents(each)


def _targets(node: Any) -> list[Tensor]:
    """What has no gradient and is multiplied by, picks an entry, or asks which of two is meant."""
    if _is(node, "MulBackward0", "XlogyBackward"):
        if len(node.next_functions) != 2 or len(_parents(node)) != 1:
            return []
        first = node.next_functions[0][0] is None
        y = node._saved_self if first or _is(node, "Xlogy") else node._saved_other
        if not isinstance(y, Tensor) or not y.dim():
            return []
        return [y if y.is_floating_point() else y.double()]
    if _is(node, "GatherBackward"):
        return [node._saved_index.reshape(-1)] if node._saved_index.shape[1:] == (1,) else []
    if _is(node, "IndexBackward"):
        labels = node._saved_indices[-1]
        whole = isinstance(labels, Tensor) and labels.dim() == 1 and labels.dtype == torch.int64
        return [labels] if whole and len(node._saved_indices) == 2 else []
    if _is(node, "WhereBackward"):
        asked = node._saved_condition
        return [asked.double(), 1 - asked.double()]
    return []


def _fits(target: Tensor, made: Tensor) -> bool:
    """Whether `target` is a class for every row of `made`, or a row of shares."""
    if target.dim() == 1:
        return not target.is_floating_point() and len(target) == len(made)
    return target.shape == made.shape and bool((target >= 0).all())


def _picked(node: Any) -> Any:
    """What the entries of the classes were picked from, of a node that holds one for each example."""
    for _ in range(6):
        if _is(node, "IndexBackward", "GatherBackward"):
            return _parents(node)[0]
        if _is(node, "MulBackward0") and len(_parents(node)) == 1:
            return _parents(node)[0]
        if not _is(node, *_VIEWS, *_CLAMPS, "SumBackward", "AddBackward0") or len(_parents(node)) != 1:
            return None
        node = _parents(node)[0]
    return None


def _opposite(node: Any) -> bool:
    """Whether a node makes one minus something."""
    for _ in range(4):
        if _is(node, "RsubBackward", "NegBackward"):
            return True
        if _is(node, "SubBackward0") and node.next_functions[0][0] is None:
            return True
        if not _is(node, *_VIEWS, *_CLAMPS, "AddBackward0") or len(_parents(node)) != 1:
            return False
        node = _parents(node)[0]
    return False


def _unsigned(node: Any) -> Any:
    """What stands before a change of sign, which may go by the class."""
    for _ in range(3):
        if not _is(node, "NegBackward", "MulBackward0") or len(_parents(node)) != 1:
            break
        node = _parents(node)[0]
    return node


def _value(node: Any) -> Tensor | None:
    """What a node made, as far as it and those before it have kept enough of it."""
    if node is None:
        return None
    made: Any = getattr(node, "_saved_result", None)
    if made is not None:
        return made.detach()
    if _is(node, "DivBackward0") and node._saved_self is not None and node._saved_other is not None:
        return node._saved_self.detach() / node._saved_other.detach()
    given = cast("Any", getattr(node, "_saved_self", None))
    if _is(node, "ClampBackward1"):
        return given.detach().clamp(node._saved_min, node._saved_max)
    if _is(node, "ClampMinBackward0"):
        return given.detach().clamp(min=node._saved_min)
    if _is(node, "SoftplusBackward0"):
        return softplus(given.detach(), node._saved_beta, node._saved_threshold)
    if _is(node, "AbsBackward0"):
        return given.detach().abs()
    if _is(node, *_VIEWS, "AddBackward0") and len(_parents(node)) == 1:
        inner = _value(_parents(node)[0])
        shape = tuple(int(n) for n in node._input_metadata[0].shape)
        return None if inner is None or inner.numel() != math.prod(shape) else inner.reshape(shape)
    return None


def _head(node: Any, outputs: Sequence[Any]) -> Head:
    """The node that made the output, and what the loss does to it: clamp it, or share it out."""
    clamped = shared = False
    for _ in range(12):
        parents = _parents(node)
        if any(node is one for one in outputs):
            break
        if _is(node, "DivBackward0") and len(parents) == 2 and _is(parents[1], "SumBackward", "AddBackward"):
            shared = True
        elif len(parents) != 1 or not _is(node, *_CLAMPS, *_VIEWS, "AddBackward0"):
            break
        clamped = clamped or _is(node, *_CLAMPS)
        node = parents[0]
    return Head(node, clamped, shared)
