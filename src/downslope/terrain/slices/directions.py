"""Directions in the space of the weights, scaled so that slices of different models can be compared.

Li, Xu, Taylor, Studer and Goldstein 2018, Visualizing the loss landscape of neural nets, section 4: a random
Gaussian direction, each filter of it scaled to the length of the model's own filter. A ReLU network computes
the same function when one layer is multiplied by a and the next divided by it; so scaled, its slices are the
same too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]

from downslope.core.errors import InputError
from downslope.core.names import did_you_mean
from downslope.terrain.ground import Ground, ModelGround
from downslope.terrain.hvp import flat, length

Normalise = Literal["filter", "layer", "model", "none"]
NORMALISE: tuple[Normalise, ...] = ("filter", "layer", "model", "none")


class Direction(NamedTuple):
    """A direction of a slice."""

    vector: Tensor
    """Flat, shape (size,); a coordinate of 1 moves the weights by all of it."""
    name: str
    """For the axis."""


class Role(NamedTuple):
    """How a parameter takes part in a random direction."""

    name: str
    still: bool
    """Biases and the parameters of normalisation layers, which stay as they are."""
    swapped: int
    """Groups of a transposed convolution, whose filters lie along the second axis; else 0."""


def random_directions(
    ground: Ground,
    count: int,
    *,
    normalise: Normalise = "filter",
    layers: Sequence[str] = (),
    seed: int = 0,
    notes: list[str] | None = None,
) -> list[Direction]:
    """Random directions, each filter as long as the model's own.

    ``d_f <- d_f |w_f| / |d_f|`` for each filter f, d Gaussian. A filter is what one unit or channel reads:
    a row of a linear layer or of an embedding, an output channel of a convolution (of a transposed one too).
    Biases and the parameters of normalisation layers stay where they are, as in the paper's figures
    (``--xignore biasbn``); a bare vector, which belongs to no layer, counts as one filter.

    Args:
        ground: Where the model stands.
        count: Directions.
        normalise: "filter"; "layer" gives each tensor the length of the model's, "model" the whole
            direction, "none" leaves a Gaussian direction of the whole model's length, biases and all.
        layers: Beginnings of the names of the parameters that move; all where left out.
        seed: Of the draw.
        notes: Gets a sentence for what stays behind.

    Raises:
        InputError: no parameter bears such a name, or nothing would move.

    Differs from: the paper, where later directions are orthogonal to earlier ones only by chance: here within
    each filter of two entries or more; and loss-landscapes, which draws from [0, 1], so that all entries are
    positive and point one way, and moves every bias by its own size.
    """
    roles = roles_of(ground)
    moved = _moved(roles, layers, normalise)
    generator = torch.Generator().manual_seed(seed)
    weights = [p.detach() for p in ground.params]
    found: list[list[Tensor]] = []
    dead = 0
    for _ in range(count):
        drawn: list[Tensor] = []
        for index, (weight, role) in enumerate(zip(weights, roles, strict=True)):
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
            if not moved[index]:
                drawn.append(torch.zeros_like(weight))
                continue
            former = [each[index] for each in found]
            piece, empty = _scaled(noise, weight, role, normalise, former)
            dead += empty if not found else 0
            drawn.append(piece)
        found.append(drawn)
    if dead and notes is not None:
        notes.append(f"{dead} filters of zeros have no length to scale to, and stay zero")
    whole = [flat(each) for each in found]
    if normalise in ("model", "none"):
        size = length(flat([w for w, use in zip(weights, moved, strict=True) if use]))
        whole = [each * (size / length(each)) for each in whole]
    if not all(length(each) > 0 for each in whole):
        raise InputError("every weight that would move is zero: take normalise='none', or another model")
    scaled = "" if normalise == "none" else f", {normalise}-normalised"
    return [Direction(each, f"random direction {i + 1}{scaled}") for i, each in enumerate(whole)]


def roles_of(ground: Ground) -> list[Role]:
    """What each parameter of the ground is."""
    if not isinstance(ground, ModelGround):
        return [Role(name, False, 0) for name in ground.names]
    owners: dict[int, tuple[nn.Module, str]] = {}
    for module in ground.model.modules():
        for own, p in module.named_parameters(recurse=False):
            owners.setdefault(id(p), (module, own))
    found: list[Role] = []
    for p, name in zip(ground.params, ground.names, strict=True):
        module, own = owners[id(p)]
        still = _is_norm(module) or (p.dim() <= 1 and "bias" in own)
        swapped = module.groups if isinstance(module, _ConvTransposeNd) and p.dim() > 2 else 0
        found.append(Role(name, still, swapped))
    if all(role.still for role in found):
        return [role._replace(still=False) for role in found]
    return found


def _is_norm(module: nn.Module) -> bool:
    kinds = (_NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, kinds) or type(module).__name__.endswith("Norm")


def _moved(roles: Sequence[Role], layers: Sequence[str], normalise: str) -> list[bool]:
    for prefix in layers:
        if not any(_within(role.name, prefix) for role in roles):
            homes = sorted({role.name.rpartition(".")[0] for role in roles})
            raise InputError(f"layers: no parameter of {prefix!r}{did_you_mean(prefix, homes)}")
    chosen = [not layers or any(_within(role.name, each) for each in layers) for role in roles]
    moved = [use and (normalise == "none" or not role.still) for use, role in zip(chosen, roles, strict=True)]
    return moved if any(moved) else chosen  # of a bias alone, that


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _scaled(
    noise: Tensor, weight: Tensor, role: Role, normalise: str, former: Sequence[Tensor]
) -> tuple[Tensor, int]:
    """`noise` with the lengths of `weight`, orthogonal to `former`; and how many filters are zero."""
    if normalise in ("model", "none"):
        return noise, 0
    own: Any = filters(weight, role) if normalise == "filter" else weight.reshape(1, -1)
    d: Any = filters(noise, role) if normalise == "filter" else noise.reshape(1, -1)
    if d.shape[1] > len(former):
        for each in former:
            past = filters(each, role) if normalise == "filter" else each.reshape(1, -1)
            square = (past**2).sum(1, keepdim=True)
            d = d - (d * past).sum(1, keepdim=True) / square.clamp_min(1e-30) * past
    sizes = own.norm(dim=1, keepdim=True)
    d = d * (sizes / d.norm(dim=1, keepdim=True).clamp_min(1e-30))
    made = unfiltered(d, weight, role) if normalise == "filter" else d.reshape(weight.shape)
    return made, int((sizes == 0).sum())


def filters(tensor: Tensor, role: Role) -> Tensor:
    """A parameter as one row for each filter; a vector is one row."""
    if tensor.dim() <= 1:
        return tensor.reshape(1, -1)
    if role.swapped:
        groups = role.swapped
        inner = tensor.reshape(groups, tensor.shape[0] // groups, tensor.shape[1], -1)
        return inner.transpose(1, 2).reshape(groups * tensor.shape[1], -1)
    return tensor.reshape(tensor.shape[0], -1)


def unfiltered(rows: Tensor, like: Tensor, role: Role) -> Tensor:
    """What `filters` gave, in the parameter's own shape."""
    if like.dim() > 1 and role.swapped:
        groups = role.swapped
        inner = rows.reshape(groups, like.shape[1], like.shape[0] // groups, -1)
        return inner.transpose(1, 2).reshape(like.shape)
    return rows.reshape(like.shape)


def given_direction(ground: Ground, given: Any, name: str) -> Direction:
    """A direction of the user's: a flat tensor, tensors by name, or one for each parameter.

    Raises:
        InputError: of another size, or not finite.
    """
    if isinstance(given, Tensor):
        vector = given.detach().reshape(-1)
    elif isinstance(given, Mapping):
        named = cast("Mapping[str, Tensor]", given)
        missing = [each for each in ground.names if each not in named]
        if missing:
            raise InputError(f"{name}: no tensor for {missing[0]}; give one for each parameter")
        vector = flat(
            [named[each].detach().to(p) for each, p in zip(ground.names, ground.params, strict=True)]
        )
    else:
        vector = flat([each.detach() for each in cast("Sequence[Tensor]", given)])
    if vector.numel() != ground.size:
        raise InputError(f"{name} has {vector.numel()} entries, the model {ground.size} parameters that move")
    if not bool(vector.isfinite().all()):
        raise InputError(f"{name} is not finite")
    return Direction(vector.to(ground.params[0]), name)
