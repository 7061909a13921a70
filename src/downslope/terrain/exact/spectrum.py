"""Eigenvalues of the Hessian of a convex problem by its weights: what sets the rate of gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import eigenvalues
from downslope.terrain.exact.newton import White
from downslope.terrain.exact.triangle import Basis

FLAT = 1e-12
"""Share of the largest eigenvalue below which a direction is flat."""


def curvatures(design: Design, theta: Tensor, l2: float) -> Tensor:
    """Eigenvalues at `theta`, smallest first, those of flat directions left out.

    Args:
        design: The data.
        theta: Where; of least squares it does not matter.
        l2: Strength of the penalty.
    """
    p = design.columns
    eye, none = torch.eye(p, dtype=torch.float64), torch.zeros(p, 0, dtype=torch.float64)
    plain = Basis(eye, eye, none, p, torch.ones(p), torch.ones(p))
    white = White(design, plain, l2)
    hessian = white.hessian(theta, seen=True)
    found = eigenvalues(hessian)
    return found[found > FLAT * float(found[-1])]
