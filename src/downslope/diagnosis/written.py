"""Losses that a script writes out by hand, logarithmic above all, read off the graph that made them.

The graph tells the candidates: what stands under a logarithm (or a softplus, a logsumexp), and what has no
gradient and is multiplied, picked by or asked for. Which loss they make is not guessed but calculated: only
the form whose value on this batch is that of the loss, digit for digit, counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
)

from downslope.diagnosis.chains import leaf_behind, product
from downslope.diagnosis.formulas import bernoulli_of, matching, nll
from downslope.diagnosis.nodes import (
    CLAMPS,
    VIEWS,
    column,
    is_,
    opposite,
    parents,
    picked,
    unscaled,
    unsigned,
    value_of,
    walk,
)
from downslope.diagnosis.picks import classes, mask_of, targets_of
from downslope.objectives import bernoulli, categorical

DIGITS = 6
"""Digits behind the point of a target that is an output less its error, in float32."""

COMPLEMENT = 1e-2
"""What two probabilities may be off a sum of 1 by: an epsilon under each logarithm."""

_ENDS = ("Addmm", "Mm", "Relu", "Softplus", "Sigmoid", "Softmax", "Tanh", "Hardtanh", "Hardsigmoid")
"""Nodes at the end of a model that are no density."""


Step = tuple[float | None, float | None] | None
"""A clamp, by its ends; None for a division by the sum over the classes."""


class Head(NamedTuple):
    """What the logarithm is taken of."""

    grad_fn: Any
    """The node that made the output, in front of what the loss does to it."""
    clamped: bool
    """Whether the loss clamps it."""
    shared: bool
    """Whether the loss divides it by its sum over the classes."""
    steps: tuple[Step, ...] = ()
    """What the loss does to it, in order."""


class Written(NamedTuple):
    """A loss that was read."""

    function: Callable[[Tensor, Tensor], Tensor]
    made: Tensor
    """What the function is handed, as values."""
    target: Tensor
    value: Tensor
    """The loss without a factor that is a number."""
    head: Head
    form: Any
    """Of the function, before it was scaled as the loss is."""


def read(loss: Tensor, outputs: Sequence[Any]) -> Written | None:
    """What `loss` is, whose backward pass has not run; None for any other.

    Args:
        loss: A scalar.
        outputs: Nodes of the graph that made the model's outputs: nothing is looked at behind them.

    Raises:
        RuntimeError: the graph keeps its values no more.
    """
    node, factor = unscaled(loss)
    nodes = list(walk(node, outputs))
    errors = _errors if outputs else _all_errors
    asked = Asked(
        [each for one in nodes for each in targets_of(one)],
        [each for one in nodes if (each := mask_of(one)) is not None],
        outputs,
    )
    whole = loss.detach()
    with torch.no_grad():
        for tried in (_likelihoods, _pairs, _scores, errors):
            for function, made, target, top in tried(nodes, asked):
                for value in (whole, whole / factor) if factor != 1.0 else (whole,):
                    scaled = matching(function, made, target, value, mean=value is whole)
                    if scaled is not None:
                        found = Written(scaled, made, target, value, _head(top, outputs), function)
                        return found if function is not categorical or _of_classes(found) else None
    return None


def _of_classes(found: Written) -> bool:
    """Whether the likelihood is one of classes: a density may be anything above 0."""
    shares = bool(((found.made.sum(1) - 1).abs() < COMPLEMENT).all())
    return shares or found.head.shared or is_(found.head.grad_fn, *_ENDS)


class Asked(NamedTuple):
    """What a loss may ask for."""

    targets: list[Tensor]
    masks: list[Tensor]
    """Which of them may count."""
    outputs: Sequence[Any]
    """Nodes that made the model's outputs."""

    def classes(self, made: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """`made` beside the classes of its rows."""
        return classes(made, self.targets, self.masks)


_Tried = tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, Any]


def _likelihoods(nodes: list[Any], asked: Asked) -> Iterator[_Tried]:
    """Minus the logarithm of what the class, or the row of shares, was given."""
    for node in nodes:
        if not is_(node, "LogBackward", "XlogyBackward"):
            continue
        u = node._saved_self if is_(node, "LogBackward") else node._saved_other
        top = parents(node)[0] if is_(node, "LogBackward") else node.next_functions[1][0]
        if any(node is each for each in asked.outputs):  # the model puts out logarithms
            yield from ((nll, rows, each, node) for rows, each in asked.classes(u.log()))
            continue
        before = picked(top)
        inner = value_of(before)
        if before is not None and (inner is None or inner.numel() > u.numel()):  # before the logarithm
            least, top = float(u.min()), before
            u = None if inner is None else inner.clamp_min(least)  # clamped, it may be, after it was picked
        if u is not None:
            yield from ((categorical, rows, each, top) for rows, each in asked.classes(u))


def _pairs(nodes: list[Any], asked: Asked) -> Iterator[_Tried]:
    """The logarithms of a probability and of its complement."""
    logs = [(n, n._saved_self) for n in nodes if is_(n, "LogBackward")]
    logs += [(n, 1 + n._saved_self) for n in nodes if is_(n, "Log1PBackward")]
    logs += [(n, n._saved_other) for n in nodes if is_(n, "XlogyBackward")]
    for node, u in logs:
        top = node.next_functions[1 if is_(node, "XlogyBackward") else 0][0]
        if is_(top, "WhereBackward"):
            inner = next((each for each in parents(top) if not opposite(each)), None)
            p = value_of(inner)
            if p is not None:
                yield from ((bernoulli, p, y, inner) for y in asked.targets if y.shape == p.shape)
            continue
        if opposite(top):
            continue
        answers = [y for y in asked.targets if y.shape == u.shape and y.is_floating_point()]
        for _, v in logs:
            if v.shape == u.shape and bool(((u + v - 1).abs() < COMPLEMENT).all()):
                for y in [*answers, *(1 - each for each in answers)]:
                    for mask in (each for each in asked.masks if each.shape == u.shape):
                        yield bernoulli_of(v[mask]), u[mask], y[mask], top
                    yield bernoulli_of(v), u, y, top


def _scores(nodes: list[Any], asked: Asked) -> Iterator[_Tried]:
    """A logsumexp or a log-softmax of scores; a softplus, or the logarithm of a sigmoid, of one."""
    for node in nodes:
        top = next(iter(parents(node)), None)
        if is_(node, "LogSoftmaxBackward"):
            found = [(node, node._saved_result)]
        elif is_(node, "ExpBackward"):
            found = [(top, node._saved_result.log())]
        elif is_(node, "LogsumexpBackward", "SoftplusBackward", "LogSigmoidBackward", "AbsBackward"):
            found = [(top, node._saved_self)]
        elif is_(node, "LogaddexpBackward"):
            both = zip(node.next_functions, (node._saved_self, node._saved_other), strict=True)
            found = [(each[0], z) for each, z in both if each[0] is not None]
        else:
            continue
        own = is_(node, "LogSoftmaxBackward") and any(node is each for each in asked.outputs)
        for above, z in found:
            known = nll if own else cross_entropy
            yield from ((known, rows, each, above) for rows, each in asked.classes(z))
            for y in asked.targets:
                if y.shape == z.shape and y.is_floating_point():
                    signs = bool((y.abs() == 1).all())
                    yield from _logistic(z, 0.5 * (y + 1) if signs else y, unsigned(above))


def _logistic(z: Tensor, y: Tensor, top: Any) -> Iterator[_Tried]:
    for each in (z, -z):
        for wanted in (y, 1 - y):
            if bool(((wanted >= 0) & (wanted <= 1)).all()):
                yield binary_cross_entropy_with_logits, each, wanted, top
    if bool(((y == 0) | (y == 1)).all()):  # the score may be multiplied by the sign of its class before
        yield binary_cross_entropy_with_logits, -z * (2 * y - 1), y, top


def _errors(
    nodes: list[Any], asked: Asked, value: Callable[[Any], Tensor | None] | None = None
) -> Iterator[_Tried]:
    """Squared or absolute differences from a target, where the last activation has kept its result."""
    del asked
    for node in nodes:
        squared = is_(node, "PowBackward0") and getattr(node, "_saved_exponent", None) == 2
        if not (squared or is_(node, "AbsBackward0")) or not is_(parents(node)[0], "SubBackward0"):
            continue
        less = parents(node)[0]
        only = len(parents(less)) == 1 and less._saved_alpha == 1
        made = (value or value_of)(parents(less)[0]) if only else None
        if made is None or made.shape != node._saved_self.shape:
            continue
        shape = made.shape or (1,)  # of a single example there may be no axis
        sign = 1 if less.next_functions[0][0] is not None else -1
        made, off = made.reshape(shape), node._saved_self.double().reshape(shape) * sign
        target = (made.double() - off).round(decimals=DIGITS).to(made.dtype)
        yield mse_loss if squared else l1_loss, made, target, parents(less)[0]


def _all_errors(nodes: list[Any], asked: Asked) -> Iterator[_Tried]:
    """The same of a network in no module, whose last layer is calculated once more."""
    return _errors(nodes, asked, _worked_out)


def astray(loss: Tensor) -> Tensor | None:
    """Differences from targets that are not finite though the outputs are: then the targets are not."""
    for node in walk(loss.grad_fn, ()):
        if not is_(node, "PowBackward0", "AbsBackward0") or not is_(parents(node)[0], "SubBackward0"):
            continue
        off, made = node._saved_self.detach(), _worked_out(parents(parents(node)[0])[0])
        lone = len(parents(parents(node)[0])) == 1
        if lone and made is not None and made.shape == off.shape and bool(made.isfinite().all()):
            return off
    return None


def _worked_out(node: Any) -> Tensor | None:
    """What a node made, calculated anew from what is left of it where it is a layer."""
    leaf = leaf_behind(node)
    if leaf is not None:
        return leaf[1](leaf[0].detach())
    made = value_of(node)
    if made is not None or node is None:
        return made
    made = product(node)
    bias: Any = None
    if is_(node, "AddmmBackward0") and node._saved_alpha == node._saved_beta == 1:
        bias = node.next_functions[0][0]
    elif is_(node, "AddBackward0") and len(parents(node)) == 2 and node._saved_alpha == 1:
        made, bias = _worked_out(parents(node)[0]), parents(node)[1]
    elif is_(node, *VIEWS):
        inner = _worked_out(parents(node)[0])
        shape = tuple(int(n) for n in node._input_metadata[0].shape)
        return None if inner is None or inner.numel() != math.prod(shape) else inner.reshape(shape)
    if made is None or bias is None:
        return made
    beside = _worked_out(bias)
    return None if beside is None else made + beside


def _head(node: Any, outputs: Sequence[Any]) -> Head:
    """The node that made the output, and what the loss does to it: clamp it, or share it out."""
    clamped = shared = False
    steps: list[Step] = []
    for _ in range(12):
        above = parents(node)
        if any(node is one for one in outputs):
            break
        if is_(node, "DivBackward0") and len(above) == 2 and is_(above[1], "SumBackward", "AddBackward"):
            shared = True
            steps.insert(0, None)
        elif len(above) != 1 or not (is_(node, *CLAMPS, *VIEWS, "AddBackward0") or column(node)):
            break
        if is_(node, *CLAMPS):
            clamped = True
            steps.insert(0, (getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)))
        node = above[0]
    return Head(node, clamped, shared, tuple(steps))
