"""Sites of models on data: the sampling noise is that of the examples themselves."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.stateless import _reparametrize_module  # pyright: ignore[reportPrivateUsage]

from downslope.core import batches
from downslope.core.errors import InputError
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem
from downslope.terrain.escapes.sites.site import Inside, Loss, Site, ball
from downslope.terrain.ground import ModelGround
from downslope.terrain.ground.point import EXAMPLES, ground_of
from downslope.terrain.ground.stand import Standing, check_ground, stand
from downslope.terrain.hvp import unflat

_NO_ROOM = (
    "out of memory: a site takes examples and members at once; give fewer of them (examples=64, seeds=10), "
    "or a smaller batch_size"
)


def learnt(
    problem: Problem,
    model: Standing = None,
    *,
    name: str = "model",
    examples: int | Literal["all"] = EXAMPLES,
    inside: float | Inside = 1.0,
    region: str = "",
    seed: int = 0,
) -> Site:
    """The site at a model's weights, on the problem's own examples, in float64.

    All members go through the model at once (`torch.func.vmap`), or one after the other where it cannot be
    vectorised.

    Args:
        problem: What is learnt; its penalties count.
        model: At a critical point: a module, a Run, weights or their path; else the start of `seed`.
        name: Of the site.
        examples: Training examples that the loss is a mean over.
        inside: A radius, in the space of all weights, or a predicate of flat weights.
        region: The predicate in words.
        seed: Of the start, where no model is given.

    Raises:
        InputError: `examples` outside its domain.
        DataError: examples that are not finite.
        ModelError: weights that are not finite, or of another model.
        ObjectiveError: a loss that is not finite, or without a gradient.
    """
    given, _ = stand(problem, model, seed)
    ground = ground_of(problem, given, examples=examples, dtype=torch.float64, seed=seed)
    check_ground(ground)
    held = [piece.batch for piece in ground.pieces]
    if len(held) != 1:
        raise InputError("a site holds its examples in memory at once: give fewer than examples='all'")
    count = batches.length(held[0])
    point = ground.where()
    shape = (ball(point, inside), f"within {inside:g} of it") if not callable(inside) else (inside, region)
    return Site(name, point, _loss(ground, held[0]), count, *shape)


def _loss(ground: ModelGround, whole: Any) -> Loss:
    """The loss of many members, each on its own rows."""
    names = ground.names

    def one(vector: Tensor, rows: Tensor | None) -> Tensor:
        batch = whole if rows is None else batches.map_tensors(lambda each: each[rows], whole)
        weights = dict(zip(names, unflat(vector, ground.params), strict=True))
        with _reparametrize_module(ground.model, weights, tie_weights=True):
            return ground.run(batch).value

    def loss(points: Tensor, rows: Tensor | None) -> Tensor:
        with _plain():
            try:
                return torch.func.vmap(one, in_dims=(0, None if rows is None else 0))(points, rows)
            except (RuntimeError, MemoryError):  # an operation without a vectorised form, or no memory
                own = [None] * len(points) if rows is None else list(rows)
            try:
                return torch.stack([one(point, each) for point, each in zip(points, own, strict=True)])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise InputError(_NO_ROOM) from error

    return loss


@contextlib.contextmanager
def _plain() -> Generator[None]:
    """Attention in operations that have derivatives and vectorised forms, and no word of what has none."""
    backend: Any = torch.backends.mha
    before = backend.get_fastpath_enabled()
    backend.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations that vmap does one by one
            yield
    finally:
        backend.set_fastpath_enabled(before)


def deep_linear(depth: int = 2, width: int = 3, examples: int = 256, seed: int = 0) -> Site:
    """The origin of a deep linear net, where every layer waits for the others.

    At depth 2 the saddle is strict, with curvatures ``-s_i``, the singular values of the correlation of
    inputs and targets; from depth 3 on it has no curvature at all, so that descent leaves it not
    exponentially but after a time of ``1/distance`` (Saxe, McClelland and Ganguli 2014).

    Args:
        depth: Layers, at least 2.
        width: Inputs, outputs, and units of each layer.
        examples: Standard normal inputs, with targets that are ``2, 1, 1/2, ...`` times them, plus noise.
        seed: Of the examples.

    Raises:
        InputError: a depth below 2.
    """
    if depth < 2:
        raise InputError(f"depth={depth}: must be at least 2, one layer is convex")
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, width, generator=draw, dtype=torch.float64)
    gains = 2.0 ** (1 - torch.arange(width, dtype=torch.float64))
    y = x * gains + 0.1 * torch.randn(examples, width, generator=draw, dtype=torch.float64)
    layers = [nn.Linear(width, width, bias=False, dtype=torch.float64) for _ in range(depth)]
    for layer in layers:
        nn.init.zeros_(layer.weight)
    model = nn.Sequential(*layers)
    problem = Problem(model=model, objective="squared_error", train=(x, y))
    return learnt(problem, model, name=f"deep_linear(depth={depth})", examples=examples)


def symmetric_mlp(examples: int = 256, seed: int = 0) -> Site:
    """A network of two equal units: the best network of one unit, its unit split in two halves.

    Fukumizu and Amari 2000, theorem 1: a critical point of a smaller network stays one when a unit is copied
    and its outgoing weight shared out. Descent keeps equal units equal, so that from the point itself it
    never leaves, however long it goes on.

    Args:
        examples: Of a function that needs two units.
        seed: Of the inputs.
    """
    draw = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(examples, 1, generator=draw, dtype=torch.float64)
    y = torch.tanh(2 * (x - 1)) + torch.tanh(2 * (x + 1))
    one = _fitted(x, y)
    inner, outer = nn.Linear(1, 2), nn.Linear(2, 1)
    two = nn.Sequential(inner, nn.Tanh(), outer).double()
    with torch.no_grad():
        inner.weight.fill_(float(one[0]))
        outer.weight.fill_(float(one[1]) / 2)
        inner.bias.fill_(float(one[2]))
        outer.bias.fill_(float(one[3]))
    problem = Problem(model=two, objective="squared_error", train=(x, y))
    return learnt(problem, two, name="symmetric_mlp", examples=examples)


def _fitted(x: Tensor, y: Tensor) -> Tensor:
    """The network of one unit, at its minimum: inner weight, outer weight, inner bias, outer bias."""
    from scipy.optimize import minimize

    def value(p: Tensor) -> Tensor:
        return (p[1] * torch.tanh(p[0] * x + p[2]) + p[3] - y).square().mean()

    def slope(p: Any) -> tuple[float, Any]:
        at = torch.tensor(p, dtype=torch.float64, requires_grad=True)
        level = value(at)
        (g,) = torch.autograd.grad(level, [at])
        return level.item(), g.numpy()

    found: Any = minimize(slope, [0.5, 1.5, 0.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-10})
    return torch.from_numpy(found.x)
