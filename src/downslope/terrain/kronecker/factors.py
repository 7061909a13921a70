"""The Kronecker factors of one layer's Fisher block, and the ways to solve with them.

    F  ~  A (x) G        A = mean of a a^T over rows,  G = sum of g g^T over rows

a the rows that enter the layer, g the gradients of its output for a target drawn from the model's own
prediction, scaled so that the sum over the examples of ``g g^T`` is the curvature of the mean loss (Martens
and Grosse 2015, section 3; for convolutions Grosse and Martens 2016, section 3; for sequences "expand" and
"reduce" of Eschenhagen et al. 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from downslope.terrain.kronecker.layers import Layer
from downslope.terrain.kronecker.taps import Call

Sharing = Literal["expand", "reduce"]

HELD = 2**24
"""Entries of input rows held at a time: 64 MB in float32; a convolution's patches repeat its input."""


class Rows(NamedTuple):
    """What went through a layer in one pass, all calls together."""

    a: Tensor
    """Shape (groups, examples, positions, inputs)."""
    g: Tensor
    """Shape (groups, examples, positions, outputs)."""


class Factors(NamedTuple):
    """The two factors of each group of a layer."""

    A: Tensor
    """Shape (groups, inputs, inputs)."""
    G: Tensor
    """Shape (groups, outputs, outputs)."""


class Block(NamedTuple):
    """The inverse of a damped block, or its eigenvectors."""

    left: Tensor
    """Inverse of the damped G; with `scale` the eigenvectors of G in columns."""
    right: Tensor
    """Inverse of the damped A; with `scale` the eigenvectors of A in columns."""
    scale: Tensor | None = None
    """The eigenvalues of the block, undamped, shape (groups, outputs, inputs)."""


def rows_of(
    layer: Layer, calls: Sequence[Call], slopes: Sequence[Tensor], sharing: Sharing = "expand"
) -> Iterator[Rows]:
    """The rows of all calls of a layer, in parts of the examples that fit into memory.

    Calls of the same number of examples are positions of the same examples. With "reduce" an example has one
    position: inputs averaged, slopes summed.
    """
    pairs = [
        (call.module, layer.batched(call.module, call.entered).to(g.dtype), layer.batched(call.module, g))
        for call, g in zip(calls, slopes, strict=True)
    ]
    alike = len({len(x) for _, x, _ in pairs}) == 1
    for several in [pairs] if alike else [[pair] for pair in pairs]:
        examples = len(several[0][1])
        size = _held(layer, several)
        for at in range(0, examples, size):
            part = slice(at, at + size)
            a = torch.cat([layer.rows(module, x[part]) for module, x, _ in several], dim=2)
            g = torch.cat([layer.slopes(module, g[part]) for module, _, g in several], dim=2)
            yield Rows(a.mean(2, keepdim=True), g.sum(2, keepdim=True)) if sharing == "reduce" else Rows(a, g)


def _held(layer: Layer, several: Sequence[tuple[Any, Tensor, Tensor]]) -> int:
    """Examples whose rows are held at a time."""
    outputs, inputs = layer.shape
    entries = sum(g[0].numel() for _, _, g in several) * inputs // max(outputs, 1)
    return max(1, HELD // max(entries, 1))


def factors_of(rows: Iterable[Rows]) -> Factors:
    """A and G of the rows of one batch."""
    total, count = [torch.zeros(()), torch.zeros(())], 0
    for part in rows:
        a, g = part.a.flatten(1, 2), part.g.flatten(1, 2)
        total = [old.to(a) + new for old, new in zip(total, (a.mT @ a, g.mT @ g), strict=True)]
        count += a.shape[1]
    return Factors(total[0] / max(count, 1), total[1])


def gradient_of(rows: Iterable[Rows]) -> Tensor:
    """The gradient of W that the rows make up, shape (groups, outputs, inputs)."""
    found = [part.g.flatten(1, 2).mT @ part.a.flatten(1, 2) for part in rows]
    return torch.stack(found).sum(0)


def second_moment(rows: Iterable[Rows], left: Tensor, right: Tensor) -> Tensor:
    """The diagonal of the Fisher block in the basis of the eigenvectors, shape (groups, outputs, inputs).

    ``sum_n (U_G^T (sum_t g_t a_t^T) U_A)**2`` (George et al. 2018, equation 9), example by example.
    """
    total = right.new_zeros(right.shape[0], left.shape[-1], right.shape[-1])
    for part in rows:
        a, g = part.a @ right.unsqueeze(1), part.g @ left.unsqueeze(1)
        if a.shape[2] == 1:
            total += (g.squeeze(2) ** 2).mT @ (a.squeeze(2) ** 2)
            continue
        for one in range(a.shape[1]):
            total += (g[:, one].mT @ a[:, one]) ** 2
    return total


def inverse(factors: Factors, damping: float) -> Block:
    """Inverses of ``A + pi sqrt(damping) I`` and ``G + sqrt(damping) / pi I``.

    With ``pi**2`` the ratio of the mean eigenvalues of A and G, so that the Kronecker product of the two is
    nearest to the block plus ``damping I`` (Martens and Grosse 2015, section 6.3 and equation 18).
    """
    a, g = _mean_eigenvalue(factors.A), _mean_eigenvalue(factors.G)
    tiny = torch.finfo(a.dtype).tiny
    pi = (a.clamp(min=tiny) / g.clamp(min=tiny)).sqrt().clamp(1e-6, 1e6)
    root = damping**0.5
    return Block(_inverse(factors.G, root / pi), _inverse(factors.A, root * pi))


def eigenvectors(factors: Factors) -> Block:
    """The eigenvectors of both factors, and the eigenvalues of their product."""
    linalg: Any = torch.linalg
    a, right = linalg.eigh(factors.A)
    g, left = linalg.eigh(factors.G)
    return Block(left, right, g.clamp(min=0).unsqueeze(-1) * a.clamp(min=0).unsqueeze(-2))


def solve(block: Block, matrix: Tensor, damping: float) -> Tensor:
    """The damped block's inverse times a gradient W, shape (groups, outputs, inputs).

    With eigenvectors the damping is added to the eigenvalues of the product, and no approximation.
    """
    if block.scale is None:
        return block.left @ matrix @ block.right
    turned = block.left.mT @ matrix @ block.right
    return block.left @ (turned / (block.scale + damping)) @ block.right.mT


def _mean_eigenvalue(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).mean(-1)


def _inverse(factor: Tensor, damping: Tensor) -> Tensor:
    linalg: Any = torch.linalg
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    damped = factor + damping.reshape(-1, 1, 1) * eye
    lower, failed = linalg.cholesky_ex(damped)
    if not bool(failed.any()):
        return torch.cholesky_inverse(lower)
    values, vectors = linalg.eigh(factor)  # damping below the rounding of the factor
    floor = torch.finfo(factor.dtype).eps * values.abs().amax(-1, keepdim=True) * factor.shape[-1]
    values = torch.maximum(values + damping.reshape(-1, 1), floor.clamp(min=torch.finfo(factor.dtype).tiny))
    return vectors / values.unsqueeze(-2) @ vectors.mT
