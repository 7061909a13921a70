"""Parameters by layer, and operators that do not couple them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.names import did_you_mean
from downslope.terrain.operators.operator import Operator


def layers(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of parameters by the module that owns them, in order; "" for those of the model itself."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def matching(given: Sequence[str], names: Sequence[str]) -> list[int]:
    """Places in `names` that are named: a parameter, a module with all it holds, or a pattern.

    Args:
        given: Such as ``["head", "body.0.weight", "*.bias"]``.
        names: Of the parameters.

    Raises:
        InputError: one of `given` fits nothing.
    """
    found: set[int] = set()
    for each in given:
        fits = [
            i
            for i, name in enumerate(names)
            if name == each or name.startswith(f"{each}.") or fnmatch.fnmatchcase(name, each)
        ]
        if not fits:
            known = [*names, *layers(names)]
            raise InputError(f"no parameter or module {each!r} that is trained{did_you_mean(each, known)}")
        found.update(fits)
    return sorted(found)


class BlockDiagonal:
    """``diag(A_1, ..., A_k)``: operators on parts of a flat vector, without what couples them.

    Args:
        blocks: Name to an operator and the places of its vector in the whole one.
        size: Length of the whole vector; what no block covers is taken to zero.
    """

    def __init__(self, blocks: Mapping[str, tuple[Operator, Tensor]], size: int) -> None:
        self.blocks = dict(blocks)
        self.size = size

    @property
    def exact(self) -> bool:
        """Whether all blocks are."""
        return all(operator.exact for operator, _ in self.blocks.values())

    def product(self, vector: Tensor) -> Tensor:
        """Every block times its part of `vector`."""
        found = torch.zeros_like(vector)
        for operator, places in self.blocks.values():
            found[places] = operator.product(vector[places]).to(found)
        return found
