"""What a step does to the loss: what slope and curvature foretell, and what happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.terrain.ground import Ground
from downslope.terrain.ground.point import EXAMPLES
from downslope.terrain.ground.stand import Standing, ground_at, stand, wide


@dataclass(frozen=True)
class Foretold:
    """One step."""

    lr: float
    """Its length in multiples of the direction."""
    predicted: float
    """Change of the loss by the second-order expansion."""
    actual: float
    """Change of the loss; NaN or infinite where the loss there is."""


@dataclass(frozen=True)
class Expansion:
    """The loss along one direction, to the second order, and as it is; printed it is a table."""

    loss: float
    """At the weights."""
    slope: float
    """``gᵀd``, the derivative along the direction d; of gradient descent ``-gᵀg``."""
    curvature: float
    """``dᵀHd``; of gradient descent ``gᵀHg``."""
    steps: tuple[Foretold, ...]
    """By rate, as they were asked for."""
    exact: bool
    """False where the curvature is a difference of gradients."""
    notes: tuple[str, ...] = ()
    """What was held still so that there is one loss to speak of."""

    @property
    def limit(self) -> float:
        """The rate beyond which the expansion has the loss rise, ``-2 gᵀd / dᵀHd``: a step of gradient
        descent raises it where ``lr gᵀHg > 2 gᵀg``. Infinite where the ground bends down.
        """
        if self.slope >= 0:
            return 0.0
        return -2 * self.slope / self.curvature if self.curvature > 0 else math.inf

    @property
    def best(self) -> float:
        """The rate at which the expansion is lowest: half the limit."""
        return self.limit / 2

    def __str__(self) -> str:
        rows = [("lr", "foretold", "happened")]
        rows += [(f"{s.lr:.3g}", f"{s.predicted:+.3g}", f"{s.actual:+.3g}") for s in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        head = (
            f"loss {self.loss:.4g}, slope {self.slope:.3g} and curvature {self.curvature:.3g} along the step"
        )
        end = f"by the expansion steps up to lr {self.limit:.3g} lower the loss"
        if self.limit == 0.0:
            end = "the slope leads up: no step lowers the loss by it"
        elif math.isinf(self.limit):
            end = "the ground bends down: no limit by the curvature here"
        return "\n".join([head, *lines, end, *self.notes])


def expansion(
    problem: Problem,
    model: Standing = None,
    *,
    lr: float | Sequence[float] | None = None,
    direction: Tensor | Sequence[Tensor] | None = None,
    examples: int = EXAMPLES,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Expansion:
    """What a step changes, foretold to the second order, beside what it does change.

    ``J(θ + lr d) ≈ J(θ) + lr gᵀd + lr²/2 dᵀHd`` with d = -g, a step of gradient descent, unless told
    otherwise: the slope lowers the loss, the curvature raises it, and where ``lr gᵀHg > 2 gᵀg`` the
    curvature wins, however small the rate looks. One gradient, one product with the Hessian, and a loss for
    each rate.

    Args:
        problem: What is learnt; its training loss is what is expanded, penalties included.
        model: Where to stand: a module, a Run (its last model), a state dict or its path; None for the start.
        lr: Rates, in [0, inf); left out five about the limit that the expansion has, or, where it has none,
            steps of a hundredth to the whole of the weights' length.
        direction: Another step's, such as the difference between two sets of weights: a flat tensor, or one
            for each trained parameter.
        examples: Training examples that the loss is taken over, at least 1.
        dtype: Of weights and data; the model's own if left out. In float32 a change is right to 1e-7 of the
            loss.
        seed: Of the start, where no model is given.

    Returns:
        Slope, curvature, and both changes for each rate.

    Raises:
        InputError: a rate below 0, or a direction of another size.
        ModelError: weights that are not finite, or a model of another problem.
        ObjectiveError: a loss that is not finite, or without a gradient.

    Source: Goodfellow, Bengio and Courville 2016, equations 4.9 and 8.10; LeCun et al. 1998, section 4.6.
    """
    check_asked(problem, None)
    given, notes = stand(problem, model, seed)
    ground, _ = ground_at(problem, given, examples=examples, dtype=wide(given, dtype, notes), seed=seed)
    ground.notes[:0] = notes
    return along(ground, lr, direction)


def along(
    ground: Ground,
    lr: float | Sequence[float] | None = None,
    direction: Tensor | Sequence[Tensor] | None = None,
) -> Expansion:
    """`expansion` on a ground that is there already; it stands where it stood afterwards."""
    rates = None if lr is None else [lr] if isinstance(lr, int | float) else list(lr)
    if rates is not None and not all(math.isfinite(each) and each >= 0 for each in rates):
        raise InputError(f"lr={lr!r}: must be a number of at least 0, or several")
    loss, gradient = ground.slope()
    step = -gradient if direction is None else _flat(direction, ground)
    hessian = ground.hessian()
    wide = step.double()
    slope = float(torch.dot(gradient.double(), wide))
    curvature = float(torch.dot(wide, hessian.product(step).double()))
    found = Expansion(loss, slope, curvature, (), hessian.exact, tuple(ground.notes))
    chosen = _rates(found, ground, step) if rates is None else rates
    start = ground.where()
    steps: list[Foretold] = []
    try:
        for rate in chosen:
            ground.put(start + rate * step)
            steps.append(Foretold(rate, rate * slope + rate**2 / 2 * curvature, ground.loss() - loss))
    finally:
        ground.put(start)
    return Expansion(loss, slope, curvature, tuple(steps), hessian.exact, tuple(ground.notes))


def _flat(direction: Tensor | Sequence[Tensor], ground: Ground) -> Tensor:
    parts = [direction] if isinstance(direction, Tensor) else list(direction)
    like = ground.params[0]
    flat = torch.cat([part.detach().reshape(-1).to(like) for part in parts])
    if len(flat) != ground.size:
        raise InputError(
            f"direction: {len(flat)} numbers for {ground.size} trained parameters: give one for "
            "each, in their order"
        )
    return flat


def _rates(found: Expansion, ground: Ground, step: Tensor) -> list[float]:
    if 0 < found.limit < math.inf:
        return [share * found.limit for share in (0.01, 0.1, 0.5, 1.0, 2.0)]
    length = float(step.double().square().sum().sqrt())
    if not length:
        return []
    size = max(float(ground.where().double().square().sum().sqrt()), 1.0) / length
    return [share * size for share in (0.01, 0.1, 1.0)]
