"""What one step of a method did, and where it began."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

PRECISE = "converged: no step lowers the loss within rounding"

LEVEL = "converged: the gradient is zero"


class Step(NamedTuple):
    """What one step did."""

    loss: float
    """Before the step."""
    evaluations: int
    """Losses and gradients that it took, a gradient with its loss counted once; the graph that products with
    curvature go back through is another."""
    products: int
    """Products with a curvature operator."""
    accepted: bool = True
    """False where no point below was found, and the parameters stay as they were."""
    said: str = ""
    """Why, or what was met on the way: negative curvature, a line search that failed."""
    converged: bool = False
    """Whether no step would lower the loss by more than rounding."""


class Here(NamedTuple):
    """Where a step begins."""

    x: Tensor
    """Flat, shape (size,)."""
    value: float
    gradient: Tensor
    evaluations: int
    """1, or 0 where the last step ended here and knows it."""


def subject(said: str) -> str:
    """What a step's words are about, without its figures: the same for all words of one kind."""
    return said.partition("(")[0].partition(":")[0].strip()


def usual(said: str) -> bool:
    """Whether these are words of any healthy run, which need no telling."""
    return "converged" in said or said.startswith("negative curvature")
