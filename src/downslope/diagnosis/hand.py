"""A script's own update of its parameters, in the place of a torch optimizer, and the rate of its steps.

Where an update lies along the gradient it is a step of plain gradient descent, and the rate is its length in
that of the gradient. A momentum, a decay or a rate for each parameter leads aside: then no rate is told.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGEST = 1_000_000
"""Numbers of which the rate is measured; the smallest parameters first."""

ASIDE = 1e-3
"""Part of an update across the gradient, in the update, up to which it lies along it. Convention; that of
plain descent in float32 is below 1e-5, beside what rounding the weights adds."""

COARSE = 4.0
"""Size of an update in its rounding under which it is the rounding that says whether it lies aside."""

ROUNDED = 2.0
"""The same of what lies aside of the gradient, up to which that is rounding; 1 is the most that one does."""

TOLD = 0.1
"""Error of a rate in the rate up to which it is told: one digit."""

USUALLY = 0.8
"""Share of the measured steps that have to lie along the gradient for plain descent. Convention."""


class Hand(torch.optim.Optimizer):
    """Stands for an update that a script writes out: it holds its parameters and takes no step itself.

    Args:
        parameters: What is updated.

    Attributes:
        rates: Rate of every step that was measured; NaN where it did not lie along the gradient.
    """

    def __init__(self, parameters: list[Tensor]) -> None:  # torch's own would tell of an optimizer
        self.param_groups = [{"params": parameters, "lr": math.nan}]
        self.rates: list[float] = []
        self.state = defaultdict(dict)  # a step that is written out keeps none

    @property
    def parameters(self) -> list[Tensor]:
        """What is updated; it may be added to."""
        return self.param_groups[0]["params"]

    def moved(self, rate: float | None) -> None:
        """A step was measured; None where it was too small to tell its rate."""
        if rate is not None:
            self.rates.append(rate)
            self.param_groups[0]["lr"] = rate

    def cleared(self) -> bool:
        """Whether no gradient is left, of the smallest parameters."""
        few = sorted(self.parameters, key=Tensor.numel)[:8]
        return all(p.grad is None or not bool(p.grad.any()) for p in few)

    def described(self) -> dict[str, Any]:
        """As `settings.settings_of` describes an optimizer; with a rate where it could be measured."""
        found: dict[str, Any] = {"name": "by hand", "by_hand": True, "groups": 1}
        along = [rate for rate in self.rates if math.isfinite(rate)]
        if along and len(along) >= USUALLY * len(self.rates):
            found |= {"name": "sgd by hand", "lr": along[0]}
        return found


class _Row(NamedTuple):
    parameter: Tensor
    before: Tensor
    gradient: Tensor
    """The script's own, which it may clip before the update, and clear after it."""
    kept: Tensor
    version: int


class Update:
    """One update, from the end of a backward pass to where the parameters are found changed."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def begin(self, parameters: list[Tensor]) -> None:
        """The gradients of the step are there."""
        self._rows.clear()
        numbers = 0
        for p in sorted(parameters, key=Tensor.numel):
            numbers += p.numel()
            if self._rows and numbers > LARGEST:
                break
            g = p.grad
            if g is not None and g.layout is torch.strided and p.is_floating_point():
                version = g._version  # pyright: ignore[reportPrivateUsage] (the only count of changes)
                self._rows.append(_Row(p, p.detach().clone(), g, g.detach().clone(), version))

    def exchange(self, new: Mapping[int, Tensor]) -> None:
        """The update made new tensors: those of these ids are followed by others."""
        self._rows = [row._replace(parameter=new.get(id(row.parameter), row.parameter)) for row in self._rows]

    def end(self) -> float | None:
        """The parameters were updated.

        Returns:
            The rate, to the digits that rounding leaves, three at most; NaN for an update that does not lie
            along the gradient; None where that cannot be told.
        """
        rows, self._rows = self._rows, []
        steps, gradients, errors = list[Tensor](), list[Tensor](), list[Tensor]()
        for row in rows:
            if (gradient := _used(row)) is None:
                return None
            before = row.before.double().flatten().cpu()
            step = row.parameter.detach().double().flatten().cpu() - before
            half = torch.finfo(row.before.dtype).eps / 2
            steps.append(step)
            gradients.append(gradient.double().flatten().cpu())
            errors.append(half * (before.abs() + 2.0 * step.abs()))
        return _rate(torch.cat(steps), torch.cat(gradients), torch.cat(errors)) if rows else None


def _rate(step: Tensor, g: Tensor, error: Tensor) -> float | None:
    """Least squares of ``step = -rate g``, every number weighted by what rounding may do to it, `error`."""
    size = float(g.square().sum())
    if not (math.isfinite(size) and size > 0 and bool(torch.isfinite(step).all()) and bool(step.any())):
        return None
    error = error.clamp_min(float(error[error > 0].min()))
    weighted = float((g / error).square().sum())
    rate = -float((step * g / error.square()).sum()) / weighted
    aside = step + g * rate
    if _norm(step) > COARSE * _norm(error):
        straight = _norm(aside) <= ASIDE * _norm(step) + _norm(error)
    else:
        straight = float((aside / error).square().mean()) <= ROUNDED**2
    if not straight or rate <= 0:
        return math.nan
    wrong = 1.0 / (rate * math.sqrt(weighted))
    return float(f"{rate:.{min(max(int(-math.log10(wrong)), 1), 3)}g}") if wrong <= TOLD else None


def _norm(x: Tensor) -> float:
    return float((x * x).sum().sqrt())


def _used(row: _Row) -> Tensor | None:
    """The gradient that the update was made with; None where it was changed and is gone."""
    changes = row.gradient._version - row.version  # pyright: ignore[reportPrivateUsage]
    if not changes and torch.equal(row.gradient, row.kept):
        return row.kept
    if bool(row.gradient.any()):
        return row.gradient.detach()
    return row.kept if changes <= 1 else None
