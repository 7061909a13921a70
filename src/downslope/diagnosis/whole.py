"""A loss written out by hand as a function of the model's own output, so that it can be asked of others.

What a loss was read from is often not what the model put out, but that within limits, or divided by its sum.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from downslope.diagnosis.formulas import mean_of
from downslope.diagnosis.nodes import is_, parents
from downslope.diagnosis.written import Step, Written
from downslope.objectives import bernoulli
from downslope.training.facts.output import last_node

SAME = 1e-4
"""Relative difference of the loss from that of the model's own output: rounding, and an epsilon of 1e-6."""


def of_outputs(found: Written, nodes: Sequence[Any], outputs: Sequence[Tensor]) -> Written:
    """`found` of the model's own output where it gives the same loss, and else as it is.

    Args:
        found: What was read.
        nodes: Of the graph that made the model's outputs; none where they are not known any more.
        outputs: What the model put out, without a graph.
    """
    head, steps = found.head, found.head.steps
    mine = [each for each in (head.grad_fn, _scores(found)) if any(each is one for one in nodes)]
    if nodes and not mine:
        return found
    if mine:
        found = found._replace(head=head._replace(grad_fn=mine[0]))
    for output in outputs:
        if _holds(found, outputs) or output.numel() != found.made.numel() or not output.is_contiguous():
            continue
        made: Tensor = output.reshape(found.made.shape)
        if _allowed(found, made) and _agrees(made, found):
            return found._replace(function=_whole(found.function, steps), made=made)
    return found


def _scores(found: Written) -> Any:
    """What made the scores before a log-softmax: their cross-entropy is that of what it gives."""
    node = found.head.grad_fn
    if not is_(node, "LogSoftmaxBackward") or found.head.steps:
        return None
    return last_node(cast("Tensor", SimpleNamespace(grad_fn=parents(node)[0])))


def _holds(found: Written, outputs: Sequence[Tensor]) -> bool:
    """Whether the values that were read are the output's own."""
    place = found.made.untyped_storage().data_ptr()
    return any(each.untyped_storage().data_ptr() == place for each in outputs)


def _allowed(found: Written, made: Tensor) -> bool:
    """Whether an output lies where the loss is defined; outside a limit hides what is wrong with it."""
    expects = found.function.__dict__["expects"]
    if expects in ("probability", "probabilities"):
        return bool(((made >= 0) & (made <= 1)).all())
    return expects == "logits" and bool(made.isfinite().all())


def _agrees(made: Tensor, found: Written) -> bool:
    form = bernoulli if found.function.__dict__["expects"] == "probability" else found.form
    with torch.no_grad():
        theirs = float(mean_of(found.form, found.made, found.target))
        ours = float(mean_of(form, _after(made, found.head.steps), found.target))
    return abs(ours - theirs) <= SAME * abs(theirs)


def _after(output: Tensor, steps: Sequence[Step]) -> Tensor:
    for each in steps:
        output = output.clamp(*each) if each else output / output.sum(-1, keepdim=True)
    return output


def _whole(function: Any, steps: Sequence[Step]) -> Any:
    """`function` of what the steps make of an output."""
    if not steps:
        return function

    def value(output: Tensor, target: Tensor) -> Tensor:
        return function(_after(output, steps), target)

    return functools.update_wrapper(value, function)
