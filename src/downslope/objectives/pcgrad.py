"""PCGrad: gradients of tasks that conflict are projected onto each other's normal plane (Yu et al. 2020).

Gradient surgery for multi-task learning, algorithm 1: for each task i, ``g_i' = g_i``; then for the other
tasks j in random order, where ``g_i' . g_j < 0``: ``g_i' -= (g_i' . g_j) / |g_j|**2 g_j``; the step is taken
along ``sum_i g_i'``. Only parameters that several tasks share take part; those of one task alone get its
gradient as it is. It costs one backward pass for each task, and a copy of the shared gradient for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def combine(
    parts: Mapping[str, Tensor], parameters: Sequence[Tensor], generator: torch.Generator | None = None
) -> None:
    """Write the gradient of the sum of `parts`, with conflicts taken out, to the parameters.

    Args:
        parts: weighted losses of the tasks, with graphs.
        parameters: what is trained; those that no part reaches keep ``grad = None``.
        generator: draws the orders; on the CPU.
    """
    losses = list(parts.values())
    rows: list[tuple[Tensor | None, ...]] = [
        torch.autograd.grad(loss, parameters, retain_graph=i + 1 < len(losses), allow_unused=True)
        for i, loss in enumerate(losses)
    ]
    reached = [sum(row[k] is not None for row in rows) for k in range(len(parameters))]
    shared = [k for k, count in enumerate(reached) if count > 1]
    if shared:
        flat = torch.stack([_flat(row, shared, parameters) for row in rows])
        merged = project(flat, generator).sum(0)
        pieces: Sequence[Tensor] = torch.split(merged, [parameters[k].numel() for k in shared])
        for k, piece in zip(shared, pieces, strict=True):
            parameters[k].grad = piece.view_as(parameters[k]).to(parameters[k].dtype)
    for k, count in enumerate(reached):
        if count == 1:
            parameters[k].grad = next(row[k] for row in rows if row[k] is not None)


def project(gradients: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The gradients of k tasks without what each has against another.

    Args:
        gradients: shape (k, n), a row for each task.
        generator: draws, for each task, the order of the others.

    Returns:
        Shape (k, n).
    """
    k = len(gradients)
    squares = gradients.square().sum(1)
    found = gradients.clone()
    for i in range(k):
        for j in torch.randperm(k, generator=generator).tolist():
            if j == i:
                continue
            # On the device: no value is read, so that a GPU does not wait.
            against = (found[i].dot(gradients[j]) / squares[j].clamp_min(1e-38)).clamp_max(0.0)
            found[i] -= against * gradients[j]
    return found


def _flat(row: Sequence[Tensor | None], shared: Sequence[int], parameters: Sequence[Tensor]) -> Tensor:
    pieces = [row[k] for k in shared]
    return torch.cat(
        [
            (torch.zeros_like(parameters[k]) if piece is None else piece).flatten()
            for k, piece in zip(shared, pieces, strict=True)
        ]
    )
