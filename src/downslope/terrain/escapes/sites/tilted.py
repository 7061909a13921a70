"""A function as a finite sum, so that mini-batches of it are samples and not noise that is added."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.escapes.sites.site import Inside, Site, ball


def tilted(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    *,
    name: str,
    noise: float = 1.0,
    examples: int = 1024,
    inside: float | Inside = 1.0,
    region: str = "",
    seed: int = 0,
) -> Site:
    """A function's site, with each example tilting the ground its own way.

    ``f_i(x) = f(x) + a_i . x`` with ``sum_i a_i = 0`` and ``mean_i a_i a_i' = noise^2 I``, both exactly, so
    that the mean over the examples is f, the gradient of a batch is unbiased, and its covariance is
    ``noise^2/B (n - B)/(n - 1) I`` for a batch of B without replacement from n: none at B = n.

    Args:
        function: From points of shape (..., size) to values of shape (...,).
        point: Where it is critical, shape (size,).
        name: Of the site.
        noise: Standard deviation of one example's gradient along every axis, in [0, inf).
        examples: n, more than the point has coordinates.
        inside: A radius, or a predicate.
        region: The predicate in words.
        seed: Of the tilts.

    Raises:
        InputError: `examples` too few, or a noise below 0.
    """
    point = point.detach().double()
    size = len(point)
    if examples <= size:
        raise InputError(f"examples={examples}: must be more than the {size} coordinates that are tilted")
    if not noise >= 0:
        raise InputError(f"noise={noise}: must lie in [0, inf), it is a standard deviation")
    draw = torch.Generator().manual_seed(seed)
    tilts = torch.randn(examples, size, generator=draw, dtype=torch.float64)
    tilts = torch.linalg.qr(tilts - tilts.mean(0)).Q * (examples**0.5 * noise)

    def loss(points: Tensor, rows: Tensor | None) -> Tensor:
        level = function(points)
        return level if rows is None else level + (tilts[rows].mean(1) * points).sum(1)

    if callable(inside):
        return Site(name, point, loss, examples, inside, region or "inside the region given")
    return Site(name, point, loss, examples, ball(point, inside), f"within {inside:g} of it")
