"""Saddle-free Newton: curvature by its size, whatever its sign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.krylov import Krylov
from downslope.terrain.methods.dense import FLAT, dense
from downslope.terrain.methods.escape import converged, leave
from downslope.terrain.methods.method import Here, Method, Step

EXACT = 500
"""Parameters up to which the Hessian is formed and all its eigenvalues are taken."""


class SaddleFreeNewton(Method):
    """``p = p - t (|H| + a I)^-1 g``: every curvature by its size, so that saddles repel in place of drawing.

    Up to 500 parameters |H| is exact; beyond, ``|H|^-1 g`` is taken in the Krylov subspace
    ``span(g, H g, ...)``, in which g lies whole. `a` follows the line search: raised where the step had to be
    cut, lowered where it was whole. At a point without slope the most negative eigenvector is followed.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the line search, in [0, inf).
        damping: Least `a`, in [0, inf).
        subspace: Dimensions of the Krylov subspace, one product each, in [1, inf).
        line_search: "armijo", "strong_wolfe", "more_thuente", or None.
        c1: Of Armijo's condition, in (0, 1/2).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Differs from the paper in the subspace of large models: theirs minimises the loss itself in the span of
    Lanczos vectors, here the step is the formula's projection and the line search does the rest.

    Source: Dauphin, Pascanu, Gulcehre et al. 2014, algorithm 1.
    """

    source = "Dauphin et al. 2014"
    leaves = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 0.0,
        subspace: int = 40,
        line_search: str | None = "armijo",
        c1: float = 1e-4,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "damping": damping, "subspace": subspace, "line_search": line_search, "c1": c1,
        }  # fmt: skip
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """Take the eigenvalues, search, and leave a saddle."""
        here = self.begin(ground)
        step = self.flat_ground(here) or self._searched(ground, here)
        return leave(ground, here, step, self.steepest) if converged(step) else step

    def _searched(self, ground: Ground, here: Here) -> Step:
        own, memory = self.settings, self.memory
        operator = ground.hessian()
        small = ground.size <= EXACT
        values, basis, products = _whole(dense(operator)) if small else _part(operator.product, here, own)
        sizes = values.abs()
        largest = float(sizes.max()) if len(sizes) else 1.0
        shift = max(own["damping"], memory.get("shift", 0.0))
        least = torch.finfo(here.x.dtype).eps ** 0.5 * largest
        inside, norm, reach = basis @ here.gradient, length(here.gradient), memory.get("reach", 1.0)
        flat = float(inside[sizes.to(inside) <= least].square().sum()) > 0.25 * norm * norm
        sizes = sizes.clamp_min(max(least, norm / reach) if flat else least) + shift
        direction = -(basis.T @ (inside / sizes.to(inside)))
        lowest = float(values.min()) if len(values) else 0.0
        said = f"negative curvature ({lowest:.2g})" if lowest < -1e-8 * largest else ""
        said = FLAT.format("the Hessian") if flat else said
        step, share = self.along(ground, here, direction, products=products, said=said, flat=flat)
        if not flat:
            lower = shift / 4 if shift > 1e-6 * largest else 0.0
            memory["shift"] = lower if share >= 0.5 else max(4 * shift, 1e-3 * largest)
        return step


def _whole(matrix: Tensor) -> tuple[Tensor, Tensor, int]:
    """All eigenvalues, eigenvectors as rows, and the products that the matrix took."""
    values, vectors = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(matrix.double()))
    return values, vectors.T.to(matrix), len(matrix)


def _part(product: Any, here: Here, own: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Ritz values and vectors of the Krylov subspace of the gradient."""
    room = min(own["subspace"], len(here.gradient))
    space = Krylov(product, here.gradient, room)
    while not space.full and not space.lost:
        space.grow()
        if space.broken:
            break
    pairs = space.ritz()
    return pairs.values, space.vectors(pairs.coordinates), space.products
