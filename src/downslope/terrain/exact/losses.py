"""The convex losses that can be minimised exactly, with value, slope and curvature row by row.

``J(Z) = sum_i l(z_i, y_i) / M``; z_i is a row of the output, M the number of entries, of examples, or the sum
of their weights, as the objective has it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.class_targets import IGNORED
from downslope.core.modules import altered
from downslope.objectives.adapters import Aligned, Averaged, Weighted
from downslope.objectives.configured import Configured
from downslope.objectives.penalised import Penalised

Name = Literal["squared error", "Huber's error", "logistic loss", "cross-entropy"]
Average = Literal["entries", "examples", "none"]


class Rows(NamedTuple):
    """The targets of a block of data, as the loss takes them."""

    target: Tensor
    """(n, k): numbers, yes-or-no, or the weight of each class."""
    total: float
    """What this block adds to M; nothing for a sum, of which M is 1."""


@dataclass(frozen=True, kw_only=True)
class ConvexLoss:
    """One of the losses, with its settings.

    Args:
        name: Which.
        delta: Of Huber's error, where it turns linear.
        scale: Factor of the whole (torch's smooth L1 loss is Huber's error over its beta).
        yes: Weight of the yes in the logistic loss.
        weight: Weight of each class in the cross-entropy.
        smoothing: Share of a class's target that is spread over all.
        average: What M counts: all entries (of a cross-entropy the weights of the classes), the examples, or
            nothing where it is a sum.
    """

    name: Name
    delta: float = 1.0
    scale: float = 1.0
    yes: float = 1.0
    weight: tuple[float, ...] | None = None
    smoothing: float = 0.0
    average: Average = "entries"

    @property
    def classes(self) -> bool:
        """Whether the outputs of an example compete, as in the softmax."""
        return self.name == "cross-entropy"

    def rows(self, target: Tensor, shape: tuple[int, int]) -> Rows:
        """Targets of a block in float64 for outputs of `shape`.

        Raises:
            ValueError: they do not fit.
        """
        if not self.classes:
            numbers = target.detach().double().reshape(shape)
            return Rows(numbers, self._total(float(numbers.numel()), shape[0]))
        return self._of_classes(target.detach(), shape)

    def _total(self, entries: float, examples: int) -> float:
        return {"entries": entries, "examples": float(examples), "none": 0.0}[self.average]

    def _of_classes(self, target: Tensor, shape: tuple[int, int]) -> Rows:
        n, k = shape
        factors = torch.ones(k, dtype=torch.float64) if self.weight is None else torch.tensor(self.weight)
        factors = factors.double()
        if tuple(target.shape) == shape:
            shares, total = target.double(), float(n)
        else:
            index = target.reshape(n).long()
            kept = index != IGNORED
            shares = functional.one_hot(index.clamp_min(0), k).double() * kept[:, None]
            total = float((factors[index.clamp_min(0)] * kept).sum())
        even = shares.sum(1, keepdim=True) / k
        mixed = (1 - self.smoothing) * shares + self.smoothing * even
        return Rows(mixed * factors, self._total(total, n))

    def bent(self, target: Any = None) -> str | None:
        """Why the loss bends down in the outputs for some targets; None where it does for none of these.

        Of a cross-entropy it bends by the sum of an example's weighted targets, of a logistic loss by
        ``1 - y + yes y``: with no such factor below zero it is convex.

        Args:
            target: As the objective is given it; left out, the settings alone are looked at.
        """
        if self.weight is not None and min(self.weight) < 0:
            return f"class weight {min(self.weight):g} is below zero, and turns the cross-entropy over"
        if self.yes < 0:
            return f"a yes weighted by {self.yes:g} is below zero, and turns its logistic loss over"
        if not isinstance(target, Tensor) or not target.numel():
            return None
        given = target.detach().double()
        if self.classes and target.is_floating_point() and target.dim() > 1:
            rows = given.movedim(1, -1).flatten(0, -2)
            least = float(self._of_classes(rows, (rows.shape[0], rows.shape[1])).target.sum(1).min())
            if least < -1e-6:
                return f"the targets of an example add up to {least:.3g}, where its cross-entropy bends down"
        if self.name == "logistic loss" and float((1 + (self.yes - 1) * given).min()) < 0:
            far = given[(1 + (self.yes - 1) * given) < 0].flatten()[0]
            return (
                f"for a target of {float(far):g} the logistic loss with yes weighted {self.yes:g} bends down"
            )
        return None

    def outside(self, y: Tensor) -> str | None:
        """What is wrong with targets, (n, k), beyond which the loss may have no lowest value; else None."""
        if self.name == "logistic loss" and bool(((y < 0) | (y > 1)).any()):
            low, high = float(y.min()), float(y.max())
            return (
                f"targets from {low:g} to {high:g}: the logistic loss has a lowest value for those in [0, 1]"
            )
        if self.classes and bool((y < 0).any()):
            return f"a target or class weight below zero ({float(y.min()):.3g}): a cross-entropy takes shares"
        return None

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The sum over rows."""
        match self.name:
            case "squared error":
                return self.scale * (z - y).square().sum()
            case "Huber's error":
                return self.scale * functional.huber_loss(z, y, reduction="sum", delta=self.delta)
            case "logistic loss":
                plus = functional.softplus
                return (self.yes * y * plus(-z) + (1 - y) * plus(z)).sum()
            case "cross-entropy":
                return (y.sum(1) * z.logsumexp(1) - (y * z).sum(1)).sum()

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """Derivative by every output, (n, k)."""
        match self.name:
            case "squared error":
                return 2 * self.scale * (z - y)
            case "Huber's error":
                return self.scale * (z - y).clamp(-self.delta, self.delta)
            case "logistic loss":
                return (1 - y) * z.sigmoid() - self.yes * y * (-z).sigmoid()
            case "cross-entropy":
                return y.sum(1, keepdim=True) * z.softmax(1) - y

    def curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """Second derivative by each output of its own, (n, k); of classes without their coupling."""
        match self.name:
            case "squared error":
                return torch.full_like(z, 2 * self.scale)
            case "Huber's error":
                return self.scale * ((z - y).abs() <= self.delta).to(z.dtype)
            case "logistic loss":
                return (self.yes * y + 1 - y) * z.sigmoid() * (-z).sigmoid()
            case "cross-entropy":
                return y.sum(1, keepdim=True) * z.softmax(1)

    def bends(self, z: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Second derivative times `v`, row by row, (n, k)."""
        if not self.classes:
            return self.curvature(z, y) * v
        p = z.softmax(1)
        return y.sum(1, keepdim=True) * p * (v - (p * v).sum(1, keepdim=True))

    def conjugate(self, a: Tensor, y: Tensor) -> Tensor:
        """The sum over rows of ``sup_z a z - l(z, y)``; `a` a slope that the loss can have."""
        match self.name:
            case "squared error":
                return (a.square() / (4 * self.scale) + a * y).sum()
            case "Huber's error":
                return (a.square() / (2 * self.scale) + a * y).sum()
            case "logistic loss" if self.yes == 1:
                return _entropy(a + y)
            case "logistic loss":  # of certain targets only, see `has_dual`
                return _entropy(a[y == 0]) + self.yes * _entropy(-a[y == 1] / self.yes)
            case "cross-entropy":
                s = y.sum(1, keepdim=True)
                return torch.special.xlogy(a + y, (a + y).clamp_min(0) / s.clamp_min(1e-300)).sum()

    def has_dual(self, y: Tensor) -> bool:
        """Whether `conjugate` knows the loss of these targets."""
        return self.name != "logistic loss" or self.yes == 1 or bool(((y == 0) | (y == 1)).all())

    def hard(self, y: Tensor) -> bool:
        """Whether some targets are certain (0, 1, or one class), so that a minimum may lie at infinity."""
        if self.name == "logistic loss":
            return bool(((y == 0) | (y == 1)).any())
        return self.classes and bool((y == 0).any())


def convex_loss(objective: Any) -> ConvexLoss | None:
    """The loss that an objective computes; None where it is none of these, or not known."""
    settings: dict[str, Any] = {}
    while isinstance(objective, (functools.partial, Aligned, Configured)):
        if isinstance(objective, Aligned):
            objective = objective.objective
            continue
        if isinstance(objective, Configured):
            settings = {key: _tensor(key, value) for key, value in objective.settings.items()} | settings
            objective = objective.function
            continue
        wrapped = cast("functools.partial[Any]", objective)
        if wrapped.args:
            return None
        settings = dict(wrapped.keywords) | settings
        objective = wrapped.func
    if isinstance(objective, Averaged):
        inner = convex_loss(objective.objective)
        return replace(inner, average="examples") if inner and inner.average == "none" else None
    if isinstance(objective, Weighted):
        if objective.kind == "yes":
            return ConvexLoss(name="logistic loss", yes=objective.weights[0])
        return ConvexLoss(name="cross-entropy", weight=objective.weights)
    return _of_module(objective) if isinstance(objective, nn.Module) else _of_function(objective, settings)


def convex_objective(objective: Any) -> str | None:
    """What an objective is called if it is known to be convex in the outputs, solved here or not; else None.

    Penalties of the catalogue (L1, L2, elastic) are convex in the weights, and keep it so.
    """
    if isinstance(objective, Penalised):
        known = all(
            type(each).__module__.startswith("downslope.objectives.penalties") for each in objective.terms
        )
        return convex_objective(objective.objective) if known else None
    if (loss := convex_loss(objective)) is not None:
        return loss.name
    function = objective.function if isinstance(objective, Configured) else objective
    plain = type(function) if isinstance(function, nn.Module) else function
    if isinstance(function, nn.Module) and (
        altered(function) or _negative(getattr(function, "weight", None))
    ):
        return None
    return _KINKED.get(str(getattr(plain, "__name__", ""))) if _of_torch_or_ours(plain) else None


_KINKED = {
    "hinge": "hinge loss", "absolute_error": "absolute error", "L1Loss": "absolute error",
    "l1_loss": "absolute error", "MultiMarginLoss": "hinge loss", "SoftMarginLoss": "logistic loss",
}  # fmt: skip
"""Losses that are convex in the outputs and have no exact answer here."""


def _negative(weight: Any) -> bool:
    return isinstance(weight, Tensor) and bool((weight < 0).any())


def _of_torch_or_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith(("torch.nn", "downslope.objectives"))


def _tensor(key: str, value: Any) -> Any:
    """A setting as torch's own class takes it."""
    return torch.tensor(value) if isinstance(value, tuple) or key == "pos_weight" else value


_FUNCTIONS = {
    "squared_error": nn.MSELoss, "mse_loss": nn.MSELoss, "huber": nn.HuberLoss, "huber_loss": nn.HuberLoss,
    "smooth_l1_loss": nn.SmoothL1Loss, "logistic": nn.BCEWithLogitsLoss,
    "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss, "cross_entropy": nn.CrossEntropyLoss,
}  # fmt: skip


def _of_function(function: Any, settings: Mapping[str, Any]) -> ConvexLoss | None:
    made = _FUNCTIONS.get(str(getattr(function, "__name__", "")))
    if made is None or not _of_torch_or_ours(function):
        return None
    try:
        return _of_module(made(**settings))
    except TypeError:
        return None


def _of_module(module: nn.Module) -> ConvexLoss | None:
    known = (nn.MSELoss, nn.HuberLoss, nn.SmoothL1Loss, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss)
    kind = next((each for each in known if isinstance(module, each)), None)
    reduction: Any = getattr(module, "reduction", None)
    if kind is None or type(module).forward is not kind.forward or reduction not in ("mean", "sum"):
        return None
    if altered(module):
        return None
    mean: Average = "entries" if reduction == "mean" else "none"
    match module:
        case nn.MSELoss():
            return ConvexLoss(name="squared error", average=mean)
        case nn.HuberLoss():
            return ConvexLoss(name="Huber's error", delta=float(module.delta), average=mean)
        case nn.SmoothL1Loss():
            beta = float(module.beta)
            return (
                ConvexLoss(name="Huber's error", delta=beta, scale=1 / beta, average=mean) if beta else None
            )
        case nn.BCEWithLogitsLoss():
            return _logistic(module, mean)
        case nn.CrossEntropyLoss():
            weight = None if module.weight is None else tuple(float(each) for each in module.weight)
            if module.ignore_index != IGNORED:
                return None
            smoothing = float(module.label_smoothing)
            return ConvexLoss(name="cross-entropy", weight=weight, smoothing=smoothing, average=mean)
        case _:
            return None


def _logistic(module: nn.BCEWithLogitsLoss, mean: Average) -> ConvexLoss | None:
    yes = module.pos_weight
    if getattr(module, "weight", None) is not None or (yes is not None and yes.numel() > 1):
        return None
    return ConvexLoss(name="logistic loss", yes=1.0 if yes is None else float(yes), average=mean)


def _entropy(t: Tensor) -> Tensor:
    """The sum of ``t log t + (1 - t) log(1 - t)``."""
    inside = t.clamp(0, 1)
    return (torch.special.xlogy(inside, inside) + torch.special.xlogy(1 - inside, 1 - inside)).sum()
