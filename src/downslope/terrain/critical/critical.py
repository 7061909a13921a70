"""Critical points of a loss, of every kind: saddles and maxima too, which descent passes by.

Where `|grad f|^2` is lowest without being zero, the gradient lies in the null space of the Hessian: such
points are no critical points, methods that go down on the norm of the gradient end there often, and papers
have counted them (Frye et al. 2021). Here they are told apart, and only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.terrain import functions
from downslope.terrain.escapes.sites.given import Where, site_of
from downslope.terrain.escapes.sites.site import Site
from downslope.terrain.functions import Function
from downslope.terrain.ground import ground_of

LARGEST = 400
"""Parameters up to which the Hessians of all starts are formed."""


@dataclass(frozen=True)
class CriticalPoints:
    """Critical points, each once, lowest first.

    Attributes:
        points: Shape (found, size).
        losses: Shape (found,).
        eigenvalues: Of the Hessian at each, ascending; shape (found, size).
        slopes: Length of the gradient that is left; shape (found,).
        arrived: Starts that ended at each; shape (found,).
        tried: Starts.
        stalled: Starts that ended where the gradient is not zero: in its own shallows, or out of steps.
    """

    points: Tensor = field(repr=False)
    losses: Tensor = field(repr=False)
    eigenvalues: Tensor = field(repr=False)
    slopes: Tensor = field(repr=False)
    arrived: Tensor = field(repr=False)
    tried: int
    stalled: int

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def index(self) -> Tensor:
        """Share of the eigenvalues below zero, beyond rounding: 0 at a minimum, 1 at a maximum."""
        return (self.eigenvalues < -self._rounding()).double().mean(1)

    @property
    def flat(self) -> Tensor:
        """Share of the eigenvalues that are zero to rounding, as along symmetries of a network."""
        return (self.eigenvalues.abs() <= self._rounding()).double().mean(1)

    def _rounding(self) -> Tensor:
        return 1e-7 * self.eigenvalues.abs().amax(1, keepdim=True)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each by its eigenvalues: "minimum", "maximum", "saddle"; "flat" where all are zero."""
        down: list[float] = cast("Any", self.index).tolist()
        flat: list[float] = cast("Any", self.flat).tolist()
        return tuple(
            "flat" if z == 1 else "minimum" if d == 0 else "maximum" if d + z == 1 else "saddle"
            for d, z in zip(down, flat, strict=True)
        )

    def correlation(self) -> float:
        """Spearman's rank correlation of index and loss; NaN where one of them does not vary."""
        if len(self) < 3 or float(self.index.std()) == 0 or float(self.losses.std()) == 0:
            return float("nan")
        from scipy.stats import spearmanr

        found: Any = spearmanr(self.losses.numpy(), self.index.numpy())
        return float(found.statistic)

    def __str__(self) -> str:
        if not len(self):
            return (
                f"no critical point: {self.stalled} of {self.tried} starts stalled where the slope is not 0"
            )
        counts = Counter(self.kinds)
        told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        return (
            f"{len(self)} critical points from {self.tried} starts ({self.stalled} stalled): {told}; "
            f"loss {float(self.losses.min()):.4g} to {float(self.losses.max()):.4g}, "
            f"index {float(self.index.min()):.2f} to {float(self.index.max()):.2f}"
        )


def critical_points(
    where: Where,
    *,
    starts: Tensor | int = 20,
    along: Sequence[int] = (0, 10, 30, 100, 300),
    lr: float = 0.1,
    examples: int | Literal["all"] | None = None,
    tol: float = 1e-8,
    steps: int = 200,
    seed: int = 0,
) -> CriticalPoints:
    """Critical points found from points along descent, by Newton's method on the gradient's own norm.

    Each start goes down by gradient descent; at each of the steps `along` a copy is sent to where the
    gradient vanishes, by ``p <- p - (H^2 + a I)^-1 H g``, the damping a lowered where `|g|` falls and raised
    where it would not (Levenberg and Marquardt's method for ``grad f = 0``). Which points are found depends
    on where one looks: it is no fair sample of all critical points.

    Args:
        where: As of `escape`: a problem, a function by name, or one of points of shape (..., size).
        starts: How many: fresh starts of a problem, points of a function's domain drawn at random; or the
            points themselves, shape (starts, size).
        along: Steps of descent after which to look, each at least 0.
        lr: Rate of that descent, in [0, inf).
        examples: Of a problem, that the loss is a mean over.
        tol: Length of the gradient, relative to the longest at the starts, below which a point is critical.
        steps: Of Newton's method at most.
        seed: Of the starts.

    Returns:
        The points, each once, with all eigenvalues.

    Raises:
        InputError: an argument outside its domain, a function without a domain and without starts, or a model
            of more than 400 parameters.

    Memory: a Hessian for each start and step along, in float64.

    Source: Dauphin et al. 2014, section 5; Pennington and Bahri 2017, section 5; Frye et al. 2021.
    """
    _check(along, lr, tol, steps)
    site, begun = _begun(where, starts, examples, seed)
    if len(site.point) > LARGEST:
        raise InputError(
            f"critical_points forms Hessians: {len(site.point)} parameters are more than {LARGEST}; "
            "look at one model with ds.survey"
        )
    looked = _descended(site, begun, sorted(set(along)), lr)
    scale = float(_slopes(site, begun).square().sum(1).sqrt().max()) or 1.0
    return _gathered(site, _solved(site, looked, tol * scale, steps), tol * scale)


def _check(along: Sequence[int], lr: float, tol: float, steps: int) -> None:
    if not along or any(each < 0 for each in along):
        raise InputError(f"along={list(along)}: must name steps of descent, each at least 0")
    if not lr >= 0:
        raise InputError(f"lr={lr}: must lie in [0, inf)")
    if not 0 < tol < 1:
        raise InputError(f"tol={tol}: must lie in (0, 1), it is a share of the gradient at the starts")
    if steps < 1:
        raise InputError(f"steps={steps}: must be at least 1")


def _begun(
    where: Where, starts: Tensor | int, examples: int | Literal["all"] | None, seed: int
) -> tuple[Site, Tensor]:
    """What to look on, and from where."""
    if isinstance(starts, int) and starts < 1:
        raise InputError(f"starts={starts}: must be at least 1")
    if isinstance(where, Problem):
        site = site_of(where, examples=examples)
        if isinstance(starts, Tensor):
            return site, starts.double()
        drawn = [ground_of(where, seed=seed + each, examples=1).where().double() for each in range(starts)]
        return site, torch.stack(drawn)
    known = functions.get(where) if isinstance(where, str) else where
    if isinstance(known, Function):
        low, high = torch.tensor(known.domain, dtype=torch.float64).T
        middle = (low + high) / 2
        site = site_of(known.evaluate, point=middle, noise=0.0, examples=len(middle) + 1)
        if isinstance(starts, int):
            draw = torch.Generator().manual_seed(seed)
            chance = torch.rand(starts, len(low), generator=draw, dtype=torch.float64)
            return site, low + (high - low) * chance
        return site, starts.double()
    if isinstance(known, Site):
        if isinstance(starts, Tensor):
            return known, starts.double()
        draw = torch.Generator().manual_seed(seed)
        return known, known.point + torch.randn(starts, len(known.point), generator=draw, dtype=torch.float64)
    if isinstance(starts, int):
        raise InputError("a function without a domain needs starts=, points of shape (starts, size)")
    middle = starts.double().mean(0)
    return site_of(known, point=middle, noise=0.0, examples=len(middle) + 1), starts.double()


def _slopes(site: Site, points: Tensor) -> Tensor:
    at = points.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(site.whole(at).sum(), [at])
    return slope


def _curved(site: Site, points: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and Hessians of all points, shapes (points, size) and (points, size, size)."""
    at = points.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(site.whole(at).sum(), [at], create_graph=True)
        rows = [
            torch.autograd.grad(each.sum(), [at], retain_graph=True, materialize_grads=True)[0]
            if each.requires_grad
            else torch.zeros_like(at)
            for each in slope.unbind(1)
        ]
    hessian = torch.stack(rows, 1).detach()
    return slope.detach(), (hessian + hessian.mT) / 2


def _descended(site: Site, begun: Tensor, along: Sequence[int], lr: float) -> Tensor:
    points, seen = begun, [begun] if along[0] == 0 else []
    for step in range(1, along[-1] + 1):
        points = points - lr * _slopes(site, points)
        if step in along:
            seen.append(points)
    looked = torch.cat(seen)
    return looked[looked.isfinite().all(1)]


def _solved(site: Site, points: Tensor, tol: float, steps: int) -> Tensor:
    """All points at once, each with a damping of its own."""
    slope, hessian = _curved(site, points)
    length = slope.square().sum(1)
    damping = 1e-2 * hessian.square().sum((1, 2))
    linalg: Any = torch.linalg
    for _ in range(steps):
        busy = (length > (1e-3 * tol) ** 2) & (damping < 1e30) & length.isfinite()
        if not bool(busy.any()):
            break
        # By eigenvalues: (H^2 + a I)^-1 H has twice the digits that H^2 would leave.
        values, vectors = linalg.eigh(hessian[busy])
        gains = values / (values.square() + damping[busy, None])
        move = vectors @ (gains[..., None] * (vectors.mT @ slope[busy, :, None]))
        trial = points[busy] - move[..., 0]
        new_slope, new_hessian = _curved(site, trial)
        new_length = new_slope.square().sum(1)
        better = new_length < length[busy]
        place = busy.nonzero()[:, 0]
        damping[place] = torch.where(better, damping[place] / 5, (damping[place] * 4).clamp_min(1e-20))
        taken = place[better]
        points = points.index_copy(0, taken, trial[better])
        slope, hessian = (
            slope.index_copy(0, taken, new_slope[better]),
            hessian.index_copy(0, taken, new_hessian[better]),
        )
        length = length.index_copy(0, taken, new_length[better])
    return points


def _gathered(site: Site, points: Tensor, tol: float) -> CriticalPoints:
    slope, hessian = _curved(site, points)
    left = slope.square().sum(1).sqrt()
    there = (left <= tol).nonzero()[:, 0]
    losses = site.whole(points).detach()
    first: list[int] = []
    arrived: list[int] = []
    for place in (int(i) for i in there[losses[there].argsort()]):
        reach = 1e-5 * (1 + float(points[place].abs().max()))
        twin = next(
            (k for k, i in enumerate(first) if float((points[i] - points[place]).abs().max()) < reach), None
        )
        if twin is None:
            first.append(place)
            arrived.append(1)
        else:
            arrived[twin] += 1
    linalg: Any = torch.linalg
    values: Tensor = linalg.eigvalsh(hessian[first]) if first else torch.empty(0, points.shape[1])
    return CriticalPoints(
        points[first],
        losses[first],
        values,
        left[first],
        torch.tensor(arrived),
        len(points),
        len(points) - len(there),
    )
