"""One setting of one optimizer, with all that it has to agree with; and what every proof is made on.

    Case(
        "mu .9",
        lambda params, backend: Momentum(params, lr=0.1, momentum=0.9, backend=backend),
        heavy_ball,                                     # the paper once more, in float64 on numpy arrays
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, foreach=False),
        hand=(0.8, 0.72),                               # p after g = 2 and g = -1 from p = 1, by hand
        paper=lambda x: {"b": x.mu * x.b + x.g, ...},   # see `symbolic`
        invariances=("rotation", "translation"),        # see `invariance`
        equals={"SGD": lambda params, backend: SGD(params, lr=0.1, momentum=0.9, backend=backend)},
        descents=(Descent("quadratic", 100, 1e-6), Descent("rosenbrock", 500, 0.5)),
    )

Only the first two are needed, and one of `recurrence`, `joint` and `peer`; a proof whose field is empty is
not collected for the case.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.optim import Optimizer
from downslope.optim.plan import BACKENDS

__all__ = [
    "SHAPES",
    "STEPS",
    "TOLERANCE",
    "Array",
    "Case",
    "Descent",
    "Hand",
    "Invariance",
    "Make",
    "assert_close",
    "gradients",
    "parameters",
    "run",
]

Array = npt.NDArray[np.float64]

Make = Callable[[list[nn.Parameter], str | None], Optimizer]
"""(parameters, backend) to the optimizer; the backend None means the fastest that fits."""

Invariance = Literal["scale", "sign", "odd", "rotation", "translation"]
"""See `downslope.testing.rules.invariance`."""

SHAPES = ((5, 3), (7,), (), (2, 3, 4))
STEPS = 100

# Relative to the largest element, after 100 steps; the largest seen are 2.6e-6 and 3.5e-15 (seeds 0 to 19).
TOLERANCE: Mapping[torch.dtype, float] = {torch.float32: 5e-6, torch.float64: 1e-13}

# After `STEPS_OF_16_BITS` steps, beside float64 from the same numbers: some roundings of 2**-9 a step.
TOLERANCE_OF_16_BITS = 2.0**-5
STEPS_OF_16_BITS = 5


@dataclass(frozen=True, eq=False)
class Hand:
    """Steps calculated by hand, on paper or from exact fractions, of one parameter."""

    after: Sequence[Any]
    """The parameter after each step: numbers, or nested lists of them."""
    start: Any = 1.0
    gradients: Sequence[Any] = (2.0, -1.0)
    """As many as there are in `after`."""
    tolerance: float = 1e-9
    """Half of a unit of the last digit that was written down, relative to the largest."""


@dataclass(frozen=True, eq=False)
class Descent:
    """How far a case has to come down on a function that is known."""

    function: Literal["quadratic", "rosenbrock"]
    """``sum(a x**2) / 2`` from x = 1, the curvatures a from 1 to 10; or Rosenbrock's from (-1.2, 1), 24.2."""
    steps: int
    below: float
    """What f has to be after them; the rate is the case's own unless `lr` says otherwise."""
    lr: float | None = None
    shape: tuple[int, ...] = (2,)
    """Of the one parameter; Rosenbrock's has two elements."""


@dataclass(frozen=True, eq=False)
class Case:
    """One setting of one optimizer, with what it must agree with. Cases are told apart by identity."""

    name: str
    make: Make
    recurrence: Callable[[Array, Sequence[Array]], Array] | None = None
    """(parameter, its gradient at every step) to the parameter after them: the paper, in float64."""
    peer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None
    """Another implementation with the same settings, most often torch's."""
    joint: Callable[[list[Array], Sequence[Sequence[Array | None]]], list[Array]] | None = None
    """In place of `recurrence` where parameters hang together (scope "global"): (parameters, for each step
    the gradient of each, None where it has none) to the parameters after them."""
    hand: Hand | Sequence[float] | None = None
    """Steps by hand; a pair is p after g = 2 and then g = -1, from p = 1."""
    paper: Callable[[Any], Mapping[str, Any]] | None = None
    """The paper's step as an expression: symbols to new values by name, of which one is ``p``. See
    `symbolic`."""
    invariances: tuple[Invariance, ...] = ()
    """What the steps must not depend on, or must follow. See `invariance`."""
    equals: Mapping[str, Make] = field(default_factory=dict[str, Make])
    """Other optimizers, by name, which must take the very same steps: the identities of the method."""
    descents: tuple[Descent, ...] = ()
    """Where it must come down, and how far."""
    tolerance: Mapping[torch.dtype, float] = field(default_factory=dict[torch.dtype, float])
    """In place of `TOLERANCE` where the method magnifies rounding; the reason belongs beside it."""
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    """Of the parameters: a method of matrices may want others."""
    exchanges: bool = True
    """Whether its state_dict and the peer's stand for one another."""
    sixteen_bits: bool = True
    """Whether bfloat16 parameters step within `TOLERANCE_OF_16_BITS`; not where one rounding turns a step
    round (a sign)."""

    def backends(self) -> list[str]:
        """The backends that can step this case on the CPU, `reference` first."""
        found: list[str] = []
        for backend in _for_cpu(BACKENDS):
            try:
                self.make([nn.Parameter(torch.zeros(2, 2))], backend).plan()
            except RecipeError:
                continue
            found.append(backend)
        return found

    def bound(self, dtype: torch.dtype) -> float:
        """The case's tolerance for `dtype`."""
        usual = {**TOLERANCE, torch.bfloat16: TOLERANCE_OF_16_BITS}
        return self.tolerance.get(dtype, usual[dtype])

    def expected(
        self, params: Sequence[Tensor], given: Sequence[Sequence[Tensor | None]]
    ) -> list[Array] | None:
        """Where the recurrence takes `params` under the gradients `given`, or None if the case has none."""
        starts = [_array(p) for p in params]
        rows = [[None if g is None else _array(g) for g in grads] for grads in given]
        if self.joint is not None:
            return self.joint(starts, rows)
        if self.recurrence is None:
            return None
        columns = [[row[i] for row in rows] for i in range(len(starts))]
        return [
            self.recurrence(p, [g for g in column if g is not None])
            for p, column in zip(starts, columns, strict=True)
        ]


def _for_cpu(backends: Sequence[str]) -> list[str]:
    """Without ``compiled``, which is for GPUs: one build takes longer than all of these tests."""
    return [each for each in backends if each != "compiled"]


def _array(p: Tensor) -> Array:
    return p.detach().double().numpy()


def parameters(
    dtype: torch.dtype, seed: int = 0, shapes: Sequence[tuple[int, ...]] = SHAPES
) -> list[nn.Parameter]:
    """Parameters of several shapes, drawn from N(0, 1)."""
    return [nn.Parameter(each.clone()) for each in _drawn(dtype, 1, seed, tuple(shapes))[0]]


def gradients(
    dtype: torch.dtype, steps: int = STEPS, seed: int = 1, shapes: Sequence[tuple[int, ...]] = SHAPES
) -> list[list[Tensor]]:
    """For each step, a gradient for each of `parameters`, drawn from N(0, 1); not to be changed in place."""
    return [list(row) for row in _drawn(dtype, steps, seed, tuple(shapes))]


@functools.lru_cache(maxsize=64)
def _drawn(
    dtype: torch.dtype, steps: int, seed: int, shapes: tuple[tuple[int, ...], ...]
) -> list[list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype) for shape in shapes]
        for _ in range(steps)
    ]


def run(optimizer: torch.optim.Optimizer, given: Sequence[Sequence[Tensor | None]]) -> None:
    """Steps with the gradients `given`, one list for each step; None leaves a parameter without one."""
    params: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for grads in given:
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()


def assert_close(found: Sequence[Tensor], wanted: Sequence[Any], tolerance: float) -> None:
    """Asserts that each of `found` is the `wanted` one, relative to its largest element, or to 1."""
    for i, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        target = _array(theirs) if isinstance(theirs, Tensor) else np.asarray(theirs)
        value = _array(ours)
        error = float(np.abs(value - target).max()) / max(float(np.abs(target).max()), 1.0)
        # Not `error > tolerance`: that would let NaN pass.
        assert error <= tolerance, f"parameter {i} is {error:.3g} off, {tolerance:.3g} is allowed: {value}"
