"""The ground where a run ended: slope, and the extreme curvatures, at its last weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.terrain.hvp import Hessian
from downslope.terrain.lanczos import lanczos

EXAMPLES = 256
"""Examples on which the curvature is measured."""

STEPS = 24
"""Products with the Hessian at most."""


def measure(run: Run, problem: Problem) -> dict[str, Any]:
    """Gradient and curvature of the objective on a sample, in eval mode (no dropout, norms as they are used).

    Returns:
        ``grad_norm``, ``weight_norm``, ``reach`` (a tenth of the weights' norm, or of that of rows of norm 1
        where they are smaller), ``loss``, ``lambda_max`` and ``lambda_min`` with their residuals,
        ``downhill`` (cosine of the gradient with the direction of the smallest curvature), ``products``.
    """
    model = run.model("last").eval()
    batch = sample(problem.train_source, EXAMPLES, precision(model))
    objective = Objective(problem)

    def loss() -> Tensor:
        with randomness.seeded(0, "probe", 0):
            return objective(model, batch).value

    params = [p for p in model.parameters() if p.requires_grad]
    hessian = Hessian(loss, params)
    drawn = torch.randn(hessian.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = drawn.to(hessian.gradient)
    found = lanczos(lambda v: hessian.product(v).to(v), start, steps=STEPS, tol=0.05, which="both")
    gradient: Tensor = hessian.gradient
    slope = math.sqrt(float(torch.dot(gradient.double(), gradient.double())))
    along = abs(float(torch.dot(gradient, found.bottom.vector.to(gradient))))
    weights = math.sqrt(math.fsum(float(p.detach().double().square().sum()) for p in params))
    usual = math.sqrt(sum(p.shape[0] for p in params if p.ndim > 1))
    return {
        "grad_norm": slope, "weight_norm": weights, "reach": 0.1 * max(weights, usual), "loss": hessian.loss,
        "lambda_max": found.top.value, "lambda_max_residual": found.top.residual,
        "lambda_min": found.bottom.value, "lambda_min_residual": found.bottom.residual,
        "downhill": along / max(slope, 1e-300), "products": found.iterations,
    }  # fmt: skip
