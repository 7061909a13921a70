"""Functions whose minimum is known, and how far a case has to come down on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from downslope.testing.rules.case import Case, Descent
from downslope.testing.rules.proofs import Proofs, needs

__all__ = ["Descents"]


class Descents(Proofs):
    """One run for each `Descent` of each case, on the backend that the driver chooses, in float64."""

    @needs("descents")
    def test_comes_down_a_function_with_a_known_minimum(self, case: Case, item: Descent) -> None:
        rosenbrock = item.function == "rosenbrock"
        start = torch.tensor([-1.2, 1.0] if rosenbrock else 1.0, dtype=torch.float64)
        x = nn.Parameter((torch.ones(item.shape, dtype=torch.float64).flatten() * start).reshape(item.shape))
        optimizer = case.make([x], None)
        if item.lr is not None:
            optimizer.param_groups[0]["lr"] = item.lr
        value = _rosenbrock if rosenbrock else _quadratic
        for _ in range(item.steps):
            optimizer.zero_grad()
            value(x).backward()
            optimizer.step()
        end = float(value(x.detach()))
        assert end <= item.below, f"f = {end:g} after {item.steps} steps, {item.below:g} is asked for"


def _quadratic(x: Tensor) -> Tensor:
    curvatures = torch.logspace(0.0, 1.0, x.numel(), dtype=x.dtype).reshape(x.shape)
    return 0.5 * (curvatures * x * x).sum()


def _rosenbrock(x: Tensor) -> Tensor:
    a, b = x.flatten()
    return (1.0 - a) ** 2 + 100.0 * (b - a * a) ** 2
