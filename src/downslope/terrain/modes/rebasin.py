"""Permutations of hidden units that bring one network next to another, and leave it the same function.

Ainsworth, Hayase and Srinivasa 2023, Git Re-Basin: merging models modulo permutation symmetries, algorithm 1
(weight matching): layer by layer, the assignment of units whose weights agree best, until none changes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from scipy import optimize
from torch import Tensor, nn

from downslope.terrain.slices.slice import Floats

ROUNDS = 50
"""Passes over the layers at most."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_POOLS = ("Pool", "Flatten", "Dropout", "Identity")


@dataclass
class _Layer:
    """A layer with weights, and the normalisation between it and the next."""

    weight: _Weighted
    norms: list[nn.Module] = field(default_factory=list[nn.Module])


def chain(model: nn.Module) -> list[_Layer] | None:
    """The layers of a plain chain of linear, convolution, normalisation and elementwise modules.

    None of any other model: one with a forward of its own, branches, recurrence or attention.
    """
    found: list[_Layer] = []
    for module in _leaves(model):
        if module is None:
            return None
        if isinstance(module, nn.Linear) or (isinstance(module, _CONVOLUTIONS) and module.groups == 1):
            found.append(_Layer(module))
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)):
            if not found or (isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1):
                return None
            found[-1].norms.append(module)
        elif list(module.parameters()) or not _unit_by_unit(module):
            return None
    return found if len(found) > 1 else None


def _leaves(module: nn.Module) -> list[nn.Module | None]:
    if isinstance(module, nn.Sequential):
        return [leaf for child in module for leaf in _leaves(child)]
    return [None] if list(module.children()) else [module]


def _unit_by_unit(module: nn.Module) -> bool:
    """Whether a module without weights treats every unit or channel alike."""
    if isinstance(module, (nn.Softmax, nn.LogSoftmax, nn.GLU, nn.Unflatten, nn.PixelShuffle)):
        return False
    home = type(module).__module__
    return home.startswith("torch.nn.modules.activation") or any(
        each in type(module).__name__ for each in _POOLS
    )


def aligned(model: nn.Module, other: nn.Module, *, seed: int = 0) -> tuple[nn.Module, int] | None:
    """`other` with its hidden units in the order in which they agree with those of `model`.

    Args:
        model: The reference.
        other: Of the same architecture; it is left as it is.
        seed: Of the order in which layers are visited.

    Returns:
        The permuted copy and how many units moved; None where the model is no plain chain.
    """
    moved = copy.deepcopy(other)
    ours, theirs = chain(model), chain(moved)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    count = len(ours) - 1
    orders = [np.arange(_units(layer.weight)) for layer in ours[:-1]]
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for _ in range(ROUNDS):
            changed = False
            for at in generator.permutation(count):
                score = _agreement(ours, theirs, int(at))
                rows, columns = cast("Any", optimize).linear_sum_assignment(score, maximize=True)
                gain = score[rows, columns].sum() - np.trace(score)
                if gain > 1e-9 * (1.0 + float(np.abs(score).max())):
                    _permute(theirs, int(at), columns)
                    orders[at] = orders[at][columns]
                    changed = True
            if not changed:
                break
    return moved, int(sum((order != np.arange(len(order))).sum() for order in orders))


def _units(module: _Weighted) -> int:
    return len(module.weight)


def _agreement(ours: list[_Layer], theirs: list[_Layer], at: int) -> Floats:
    """How well unit i of ours goes with unit j of theirs: inner products of all their weights."""
    total = torch.zeros(_units(ours[at].weight), _units(theirs[at].weight), dtype=torch.float64)
    for a, b in _outgoing(ours[at], theirs[at]):
        total += a.flatten(1).double() @ b.flatten(1).double().T
    a, b = _incoming(ours[at + 1].weight, len(total)), _incoming(theirs[at + 1].weight, len(total))
    total += torch.einsum("ois,ojs->ij", a.double(), b.double())
    return total.cpu().numpy()


def _outgoing(ours: _Layer, theirs: _Layer) -> list[tuple[Tensor, Tensor]]:
    """Weights that belong to the units of a layer."""
    pairs: list[tuple[Tensor, Tensor]] = [(ours.weight.weight, theirs.weight.weight)]
    for a, b in zip([ours.weight, *ours.norms], [theirs.weight, *theirs.norms], strict=True):
        for name in ("bias", "weight"):
            p, q = getattr(a, name, None), getattr(b, name, None)
            if isinstance(p, Tensor) and isinstance(q, Tensor) and p.dim() == 1:
                pairs.append((p[:, None], q[:, None]))
    return pairs


def _incoming(module: _Weighted, units: int) -> Tensor:
    """A layer's weights as (out, units, rest): after a flattening a unit feeds several inputs."""
    weight = module.weight
    return weight.reshape(weight.shape[0], units, -1)


def _permute(layers: list[_Layer], at: int, order: Any) -> None:
    index = torch.from_numpy(np.asarray(order)).to(layers[at].weight.weight.device)
    layer = layers[at]
    for module in (layer.weight, *layer.norms):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.dim():
                tensor.data.copy_(tensor.data[index])
    weight = layers[at + 1].weight.weight
    split = _incoming(layers[at + 1].weight, len(index))
    weight.data.copy_(split[:, index].reshape(weight.shape))
