"""The answer put back into the model: objective and gradient by torch, apart from how it was found."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import length


class Checked(NamedTuple):
    """What the model itself says."""

    objective: float
    """With the penalty."""
    loss: float
    """Without, in the user's units."""
    gradient: list[Tensor]
    """Of the objective with its penalty, by parameter."""

    @property
    def norm(self) -> float:
        """Length of the gradient."""
        return length(torch.cat([each.reshape(-1) for each in self.gradient]))


def measured(design: Design, theta: Tensor, l2: float) -> Checked:
    """The model with the weights `theta`, through the user's own objective, differentiated by autograd."""
    model = design.model
    design.put(theta)
    parameters = list(design.parameters.values())
    gradient = [torch.zeros_like(each) for each in parameters]
    value = raw = 0.0
    for batch in design.batches():
        found = design.objective(model, batch)
        rows = design.loss.rows(found.target, _shape(found.output, design)).total
        share = rows / design.total if design.loss.average != "none" else 1.0
        if not share:  # nothing counts in it, so that its mean is none
            continue
        for total, each in zip(gradient, torch.autograd.grad(found.value, parameters), strict=True):
            total += share * each
        value += share * float(found.value.detach())
        raw += share * float(design.objective.restored(model, found, batch))
    penalised = [each.detach() for each in parameters if each.dim() > 1]
    penalty = 0.5 * l2 * sum(float(each.square().sum()) for each in penalised)
    for total, each in zip(gradient, parameters, strict=True):
        if each.dim() > 1:
            total += l2 * each.detach()
    return Checked(value + penalty, raw, gradient)


def _shape(output: Tensor, design: Design) -> tuple[int, int]:
    return (output.numel() // design.outputs, design.outputs)
