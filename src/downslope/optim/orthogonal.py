"""Newton and Schulz's iteration: a matrix made orthogonal by products alone (Jordan and others 2024)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from downslope.optim.totals import are_finite

__all__ = ["COEFFICIENTS", "EPS", "Space", "iterated", "orthogonal", "orthogonal_all", "precision_of"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of ``x -> a x + b x^3 + c x^5``, steepest at 0 (Jordan and others 2024)."""

EPS = 1e-7
"""The least Frobenius norm that a matrix is divided by; torch.optim.Muon's."""

_FAST = ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16", "sve_bf16")
"""Any of these, and the CPU multiplies bfloat16 faster than float32."""


def orthogonal(
    matrix: Tensor,
    steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = EPS,
    dtype: torch.dtype | None = torch.bfloat16,
) -> Tensor:
    """About ``U V'`` of ``matrix = U S V'``: its singular values end between .65 and 1.2, small ones below.

    ``X = G / |G|_F``, then `steps` times ``A = X X'``, ``X = a X + (b A + c A A) X``: every singular value s
    goes to ``a s + b s^3 + c s^5``, and the singular vectors stay. Five steps multiply the smallest by 485,
    ``a^5``, so those below 1/500 of the norm stay small. A tall matrix takes ``X' X``.

    Args:
        matrix: of two dimensions.
        steps: iterations, from 0 on; 5 is usual.
        coefficients: ``(a, b, c)``.
        eps: the least norm to divide by, in [0, inf).
        dtype: in which to iterate; None: the matrix's own.

    Returns:
        Of the same shape, in `dtype`.

    Differs from: torch.optim.Muon in nothing with bfloat16, bit for bit, but for matrices that oneDNN
        multiplies in another order when they come in batches.
    Source: Jordan and others 2024, the quintic is theirs; Björck and Bowie 1971 for the cubic.
    """
    return orthogonal_all([matrix], steps, coefficients, eps, dtype)[0]


def orthogonal_all(
    matrices: Sequence[Tensor],
    steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = EPS,
    dtype: torch.dtype | None = torch.bfloat16,
    space: Space | None = None,
) -> Tensor:
    """`orthogonal` of matrices of one shape, in one batch: small ones fill all threads together.

    Two batches of matrices and one of their smaller Gram matrices are alive at a time, in `dtype`.

    Args:
        matrices: of one shape, two dimensions each.
        steps: as of `orthogonal`.
        coefficients: as of `orthogonal`.
        eps: as of `orthogonal`.
        dtype: as of `orthogonal`.
        space: memory to work in; what is returned lies in it until the next call.

    Returns:
        The batch, the matrices along its first dimension.
    """
    first, n = matrices[0], len(matrices)
    rooms = (space or Space()).batch(n, first.shape, dtype or first.dtype, first.device)
    x = rooms[0]
    for each, matrix in zip(x.unbind(), matrices, strict=True):
        each.copy_(matrix)
    norms = torch.stack([torch.linalg.vector_norm(each) for each in x.unbind()])
    if not are_finite([norms]):  # squares may overflow where the norm does not
        norms = torch.stack([torch.linalg.vector_norm(each, dtype=torch.float64) for each in x.unbind()])
    x.div_(norms.clamp(min=eps).view(n, 1, 1))
    return iterated(rooms, steps, coefficients)


def iterated(rooms: Sequence[Tensor], steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    """What the iteration makes of a batch of matrices with a norm of at most 1.

    Args:
        rooms: of `Space.batch`, the first with the matrices.
        steps: as of `orthogonal`.
        coefficients: as of `orthogonal`.

    Returns:
        One of the first two rooms.
    """
    a, b, c = coefficients
    x, following, its_gram, gram, polynomial = rooms
    tall = x.size(1) > x.size(2)
    for _ in range(steps):
        left, right = (x.mT, x) if tall else (x, x.mT)
        torch.bmm(left, right, out=gram)
        if c == 0.0:  # torch 2.13 leaves out beta too where alpha is 0, in bfloat16 on the CPU
            torch.mul(gram, b, out=polynomial)
        else:
            torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        left, right = (x, polynomial) if tall else (polynomial, x)
        torch.baddbmm(x, left, right, beta=a, out=following)
        x, following = following, x  # gram is where the following lies: it is spent when that is written
        gram, its_gram = its_gram, gram
    return x


class Space:
    """Memory kept from one use to the next: to ask the system for it anew costs a fourth of a step."""

    def __init__(self) -> None:
        self._held: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._rooms: dict[tuple[object, ...], list[Tensor]] = {}

    def batch(self, n: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """For `n` matrices of a shape, with whatever it holds: two batches of them, the first to begin with;
        a batch of their Gram matrices in the place of each; and one beside both.

        A Gram matrix is spent where the matrices that it gives are written, so it lies there: the less memory
        is worked in, the more of it stays in the cache.
        """
        key = (n, shape, dtype, device)
        if key not in self._rooms:
            whole, small = (n, *shape), (n, min(shape), min(shape))
            x, following, beside = self._take((whole, whole, small), dtype, device)
            grams = [each.view(-1)[: beside.numel()].view(small) for each in (x, following)]
            self._rooms[key] = [x, following, *grams, beside]
        return self._rooms[key]

    def _take(
        self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device
    ) -> list[Tensor]:
        # Each begins where a vector register may.
        sizes = [-(-math.prod(shape) // 32) * 32 for shape in shapes]
        held = self._held.get((dtype, device))
        if held is None or held.numel() < sum(sizes):
            held = self._held[dtype, device] = torch.empty(sum(sizes), dtype=dtype, device=device)
            self._rooms.clear()  # they lie in the memory that this replaces
        starts = itertools.accumulate(sizes, initial=0)
        return [
            held[at : at + math.prod(shape)].view(shape) for at, shape in zip(starts, shapes, strict=False)
        ]


def precision_of(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What products are fast in: bfloat16 where the device has units for it, else float32; float64 for
    matrices of float64, as who asks for it wants its digits.

    It is read off the device, not measured, so that the same machine always takes the same bits.
    """
    if dtype == torch.float64:
        return dtype
    return torch.bfloat16 if device.type != "cpu" or _has_units() else torch.float32


@cache
def _has_units() -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _FAST)
