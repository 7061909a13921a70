"""A symmetric matrix that is never formed: what an operator is, and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from downslope.core.errors import InputError


class Operator(Protocol):
    """A symmetric linear operator on flat vectors, shape (size,)."""

    @property
    def size(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def exact(self) -> bool:
        """False where products are differences of gradients."""
        ...

    def product(self, vector: Tensor) -> Tensor:
        """The matrix times `vector`, shape (size,)."""
        ...


class Weighted:
    """``sum_i w_i A_i`` of operators of one size.

    Args:
        terms: Operator and weight.

    Raises:
        InputError: none, or sizes that differ.
    """

    def __init__(self, terms: Sequence[tuple[Operator, float]]) -> None:
        sizes = {each.size for each, _ in terms}
        if len(sizes) != 1:
            raise InputError(f"a sum of operators needs at least one, all of one size; given {sorted(sizes)}")
        self.terms = list(terms)
        self.size = sizes.pop()

    @property
    def exact(self) -> bool:
        """Whether all are."""
        return all(each.exact for each, _ in self.terms)

    def product(self, vector: Tensor) -> Tensor:
        """The sum times `vector`."""
        (first, weight), *others = self.terms
        total = weight * first.product(vector)
        for each, weight in others:
            total += weight * each.product(vector)
        return total
