"""What the steps of a method must not depend on, or must follow; flags of a case.

| flag | the gradients become | the parameters must |
|---|---|---|
| ``"scale"`` | c g, c > 0 | go the same way: Adam and LAMB at eps 0, Lion, Signum |
| ``"sign"`` | sign(g) times another size for every element | go the same way: signSGD |
| ``"odd"`` | -g, from -p | go the opposite way: every method that is no worse at maxima than at minima |
| ``"rotation"`` | Q g R, from Q p R | be rotated alike, Q and R orthogonal: SGD, Muon, Shampoo at eps 0 |
| ``"translation"`` | the same, from p + c | be shifted alike: every method without decay and trust ratio |

Each holds for the paper's method exactly, so only rounding is allowed for. Rotations are tried on matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.testing.rules.case import Case, assert_close, gradients, parameters, run
from downslope.testing.rules.proofs import Proofs, needs

__all__ = ["Invariances"]

Change = Callable[[Tensor], Tensor]

SCALE = 7.3
STEPS = 30
MATRICES = ((5, 3), (3, 4), (4, 4))
SLACK = 100.0
"""How much more than the case's tolerance: a rotation makes every number anew."""


class Invariances(Proofs):
    """One test for each flag of each case, on `reference`, which the other backends are held to."""

    @needs("invariances")
    def test_steps_follow_the_symmetry_of_the_method(self, case: Case, item: str) -> None:
        shapes = MATRICES if item == "rotation" else case.shapes
        starts: list[Tensor] = [p.detach() for p in parameters(torch.float64, shapes=shapes)]
        given = gradients(torch.float64, STEPS, shapes=shapes)
        before, during = _changes(item, len(starts))
        wanted = [f(p) for f, p in zip(before, _run(case, starts, given), strict=True)]
        moved = [f(p) for f, p in zip(before, starts, strict=True)]
        found = _run(case, moved, [[f(g) for f, g in zip(during, row, strict=True)] for row in given])
        assert_close(found, wanted, SLACK * case.bound(torch.float64))


def _run(case: Case, starts: Sequence[Tensor], given: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    params = [nn.Parameter(p.clone()) for p in starts]
    run(case.make(params, "reference"), given)
    return [p.detach() for p in params]


def _changes(flag: str, n: int) -> tuple[list[Change], list[Change]]:
    """What happens to each parameter, and what to its gradients."""
    draw = torch.Generator().manual_seed(5)

    def same(x: Tensor) -> Tensor:
        return x

    def resized(x: Tensor) -> Tensor:
        return x.sign() * (0.1 + torch.rand(x.shape, generator=draw, dtype=x.dtype))

    def shifted(x: Tensor) -> Tensor:
        return x + 2.5

    simple: dict[str, tuple[Change, Change]] = {
        "scale": (same, lambda g: SCALE * g),
        "sign": (same, resized),
        "odd": (torch.neg, torch.neg),
        "translation": (shifted, same),
    }
    if flag in simple:
        before, during = simple[flag]
        return [before] * n, [during] * n
    turns = [_turn(*shape, draw) for shape in MATRICES]
    return turns, turns


def _turn(rows: int, columns: int, draw: torch.Generator) -> Change:
    def orthogonal(size: int) -> Any:
        return torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))[0]

    left, right = orthogonal(rows), orthogonal(columns)
    return lambda x: left @ x @ right
