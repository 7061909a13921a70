"""Targets drawn from a model's own prediction: directions in its outputs whose covariance is the true Fisher.

A likelihood ``-log p(y | z)`` of outputs z has the Fisher matrix ``E[s s^T]``, s its gradient by z for a
target y drawn from ``p(y | z)``, whatever the labels are (Martens 2020, section 5). What the objective makes
of each row of a batch (a mean, masks, weights of classes) is read off its curvature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.counted import counts, unstated
from downslope.core.errors import ObjectiveError
from downslope.core.growth import SUM, growth
from downslope.core.loss import Loss, Objective
from downslope.objectives.composite import Composite
from downslope.objectives.meaning import meaning
from downslope.objectives.objective import class_axis, is_index
from downslope.objectives.penalised import Penalised

_GAUSSIAN = {"squared_error", "MSELoss", "mse_loss"}
_POISSON = {"PoissonNLLLoss", "poisson_nll_loss"}
ALLOWED = (
    "squared_error, cross_entropy, logistic, categorical, bernoulli, torch's losses of these, or composites"
)


class Directions(NamedTuple):
    """Cotangents of outputs; through the model's Jacobian they give a gradient of the parameters."""

    outputs: list[Tensor]
    """With their graph."""
    cotangents: list[Tensor]
    """Of each, in its shape."""


class _Row(NamedTuple):
    """One output tensor under one likelihood."""

    family: str
    """"gaussian" (any whose curvature is the Fisher, entry by entry), "bernoulli", "categorical"."""
    output: Tensor
    root: Tensor
    """Square root of each row's share of the mean, broadcast over the classes."""
    axis: int
    """Of the classes."""
    probabilities: Tensor | None
    """Of the classes, or of yes."""
    link: str
    """What the output is: "logits", "log" or "value"."""


class Prediction:
    """What a model predicts on one batch, as a distribution of targets.

    Args:
        loss: Of the batch, with its graph.
        objective: That gave it.

    Raises:
        ObjectiveError: the objective is no likelihood that is known, or is climbed.
    """

    def __init__(self, loss: Loss, objective: Objective) -> None:
        if objective.sign < 0:
            raise ObjectiveError(
                "maximize=True: a likelihood that is climbed has no known distribution of targets; write it "
                f"as a loss that goes down ({ALLOWED}), or take fisher='empirical'"
            )
        found = [_row(*each) for each in _tasks(objective.function, loss.output, loss.target)]
        self._rows = [each for each in found if each.output.requires_grad]

    def drawn(self, generator: torch.Generator | None = None) -> Directions:
        """One target for every row: cotangents of mean covariance F.

        Args:
            generator: Of the CPU, where the draws are made; torch's own if left out.
        """
        drawn = [_drawn(each, generator).to(each.output.dtype) for each in self._rows]
        return Directions([each.output for each in self._rows], drawn)

    def exact(self) -> Iterator[Directions]:
        """Cotangents of which the sum of ``u u^T``, row by row, is F: as many as a row has outputs."""
        for row in self._rows:
            for cotangent in _exact(row):
                yield Directions([row.output], [cotangent.to(row.output.dtype)])


def _tasks(function: Any, output: Any, target: Any) -> Iterator[tuple[Any, Any, Any, float]]:
    """Objective, output, target and weight of each task."""
    while isinstance(function, Penalised):
        function = function.objective
    if not isinstance(function, Composite):
        yield function, output, target, 1.0
        return
    factors = function.factors
    for key, own, its, wanted in function.pairs(output, target):
        yield own, its, wanted, factors[key]


def _row(function: Any, output: Any, target: Any, weight: float) -> _Row:
    known = meaning(function)
    family, link = _family(known.name, known.expects, function)
    if family is None or not isinstance(output, Tensor) or not isinstance(target, Tensor):
        raise ObjectiveError(
            f"objective {known.name} is no likelihood from which targets can be drawn: allowed are "
            f"{ALLOWED}; take fisher='empirical' for the labels' own gradients, or lbfgs or newton-cg, which "
            "go down on any function"
        )
    z = output.detach()
    if family == "gaussian":
        share = _curvature(lambda leaf: function(leaf, target), z, torch.ones_like(z))
        return _Row(family, output, _root(weight * share), 0, None, link)
    if family == "bernoulli":
        p = torch.sigmoid(z) if link == "logits" else z
        return _Row(family, output, _root(weight * _share_of_yes(function, z, target, p, link)), 0, p, link)
    ours = getattr(function, "expects", None) is not None
    axis = class_axis(z, target, known.name) if ours and is_index(target) else min(1, z.dim() - 1)
    p = z.softmax(axis) if link == "logits" else z.exp() if link == "log" else z
    share = _share_of_class(function, z, target, p, link, axis)
    return _Row(family, output, _root(weight * share), axis, p, link)


def _family(name: str, expects: str | None, function: Any) -> tuple[str | None, str]:
    """Family and link of an objective, by what it is called and what it expects."""
    if name in _GAUSSIAN or (name in _POISSON and getattr(function, "log_input", True)):
        return "gaussian", "logits"
    return {
        "logits": ("categorical", "logits") if name in _SOFTMAX else (None, ""),
        "logit": ("bernoulli", "logits") if name in _SIGMOID else (None, ""),
        "probabilities": ("categorical", "value"),
        "probability": ("bernoulli", "value"),
        "log-probabilities": ("categorical", "log") if name in _LOG else (None, ""),
    }.get(expects or "", (None, ""))


_SOFTMAX = {"cross_entropy", "CrossEntropyLoss"}
_SIGMOID = {"logistic", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits"}
_LOG = {"NLLLoss", "nll_loss"}


def _share_of_class(function: Any, z: Tensor, target: Tensor, p: Tensor, link: str, axis: int) -> Tensor:
    """C of each row, where its curvature is ``c (diag p - p p^T)``; one entry along `axis`."""
    if link == "logits":
        at = (p * (1 - p)).argmax(axis, keepdim=True)
        probe = torch.zeros_like(z).scatter_(axis, at, 1.0)
        bent = _curvature(lambda leaf: function(leaf, target), z, probe).gather(axis, at)
        variance = (p * (1 - p)).gather(axis, at)
        return torch.where(variance > 0, bent / variance.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
    slope = _slope(lambda leaf: function(leaf, target), z)
    return -(slope if link == "log" else slope * p).sum(axis, keepdim=True)


def _share_of_yes(function: Any, z: Tensor, target: Tensor, p: Tensor, link: str) -> Tensor:
    """C of each entry, where its Fisher information is that of a yes or no, c times."""
    bent = _curvature(lambda leaf: function(leaf, target), z, torch.ones_like(z))
    if link == "logits":
        variance = p * (1 - p)
        return torch.where(variance > 0, bent / variance.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
    slope = _slope(lambda leaf: function(leaf, target), z)
    yes = p * (1 - p) * (bent - slope / (1 - p))  # c y / p; from slope and curvature by p
    return yes * p + (slope + yes) * (1 - p)


def _root(share: Tensor) -> Tensor:
    return share.clamp(min=0).sqrt()


def _slope(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(leaf), leaf)[0]


def _curvature(function: Callable[[Tensor], Tensor], z: Tensor, vector: Tensor) -> Tensor:
    """The Hessian by the outputs, times `vector`."""
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(function(leaf), leaf, create_graph=True)[0]
        return torch.autograd.grad(slope, leaf, vector, materialize_grads=True)[0]


def _drawn(row: _Row, generator: torch.Generator | None) -> Tensor:
    p = row.probabilities
    if p is None:
        return row.root * _random(row.output, torch.randn, generator)
    if row.family == "bernoulli":
        score = p - (_random(row.output, torch.rand, generator) < p).to(p)
        return row.root * (score if row.link == "logits" else score / (p * (1 - p)).clamp(min=_tiny(p)))
    moved = p.movedim(row.axis, -1)
    flat = moved.reshape(-1, moved.shape[-1])
    edges = flat.cumsum(-1)
    level = _random(flat[:, :1], torch.rand, generator) * edges[:, -1:]
    at = (edges <= level).sum(-1, keepdim=True).clamp(max=flat.shape[-1] - 1)
    hit = torch.zeros_like(flat).scatter_(-1, at, 1.0).reshape(moved.shape).movedim(-1, row.axis)
    return row.root * _score(row, p, hit)


def _score(row: _Row, p: Tensor, hit: Tensor) -> Tensor:
    """The gradient of ``-log p(y)`` by the output, `hit` one at y."""
    if row.link == "logits":
        return p - hit
    return -hit if row.link == "log" else -hit / p.clamp(min=_tiny(p))


def _exact(row: _Row) -> Iterator[Tensor]:
    p = row.probabilities
    if row.family == "categorical" and p is not None:
        for each in range(p.shape[row.axis]):
            hit = torch.zeros_like(p)
            hit.select(row.axis, each).fill_(1.0)
            yield row.root * p.select(row.axis, each).unsqueeze(row.axis).sqrt() * _score(row, p, hit)
        return
    spread = row.root
    if p is not None:
        variance = (p * (1 - p)).sqrt()
        spread = row.root * (variance if row.link == "logits" else 1 / variance.clamp(min=_tiny(p)))
    entries = spread.reshape(len(spread), -1) if spread.dim() else spread.reshape(1, 1)
    for each in range(entries.shape[1]):
        one = torch.zeros_like(entries)
        one[:, each] = entries[:, each]
        yield one.reshape(spread.shape)


def _random(like: Tensor, draw: Callable[..., Tensor], generator: torch.Generator | None) -> Tensor:
    """Drawn on the CPU, so that a seed gives the same numbers on every machine."""
    return draw(like.shape, dtype=torch.float64, generator=generator).to(like.detach())


def _tiny(p: Tensor) -> float:
    return torch.finfo(p.dtype).eps ** 2


def empirical(loss: Loss, objective: Objective) -> Directions:
    """The labels' own gradients, as directions whose sum of ``u u^T``, row by row, is the empirical Fisher.

    Differs from the true Fisher: it is no curvature away from a model that fits (Kunstner et al. 2019).
    """
    rows = batches.length(loss.target if batches.tensors(loss.target) else loss.output)
    summed = objective.function is not None and counts(objective.function) is None
    if isinstance(loss.output, Tensor) and not objective.wants_inputs and unstated(objective.function):
        summed = (growth(objective, loss.output.detach(), loss.target, ()) or 1.0) >= SUM
    value = loss.risk.reshape(())
    return Directions([value], [torch.full_like(value, 1.0 if summed else max(rows, 1) ** 0.5)])
