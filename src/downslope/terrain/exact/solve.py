"""The verb `solve`: where an exact answer exists, it is given, with the proof that it is one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core.asked import check_asked
from downslope.core.errors import DataError, InputError, ModelError, ObjectiveError
from downslope.core.numerals import numeral
from downslope.core.problem import Problem, reference
from downslope.objectives.penalised import Penalised
from downslope.objectives.penalties import L2
from downslope.terrain.exact import bounds, notes
from downslope.terrain.exact.affine import Kind as Shape
from downslope.terrain.exact.affine import kind_of
from downslope.terrain.exact.bounded import bounded
from downslope.terrain.exact.checked import measured
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import length, svd
from downslope.terrain.exact.losses import ConvexLoss, convex_loss
from downslope.terrain.exact.newton import Minimum, White, basis_of, minimise
from downslope.terrain.exact.rounding import told
from downslope.terrain.exact.separable import direction
from downslope.terrain.exact.solution import Certificate, Kind, Solution
from downslope.terrain.exact.triangle import Basis, shortest, triangle

KNOWN = "squared error, Huber's error, logistic loss and cross-entropy"


def solve(problem: Problem, l2: float = 0.0) -> Solution:
    """The exact minimum of a convex problem: ``min_w J(w) + l2/2 |w|^2``, biases free.

    Least squares by QR of the data and the SVD of its triangle, never by the normal equations; Huber's error,
    logistic and softmax regression by Newton's method. The model may be any module that is affine in what it
    trains: a linear layer, one on frozen features, a convolution alone; not two layers in a row. A box as the
    constraint is taken for least squares.

    Args:
        problem: Model, objective and training data; a loader is streamed.
        l2: Strength of the penalty on weights (parameters of two or more dimensions), in [0, inf).

    Returns:
        The minimum with its certificate; `kind` tells one minimum, many, and none attained apart.

    Raises:
        InputError: the problem is not convex, or not one that is solved here; one line with the reason.

    Source: Golub and Van Loan 2013, "Matrix computations", chapter 5; Boyd and Vandenberghe 2004, "Convex
    optimization", sections 9.5 and 10.2.
    """
    check_asked(problem, None)
    strength: Any = l2
    if not isinstance(strength, (int, float)) or not 0 <= strength < math.inf:
        raise InputError(
            f"l2={strength!r}: must lie in [0, inf), it is the strength of the penalty l2/2 |w|^2"
        )
    known = recognise(problem)
    design, strength = Design(known.problem, known.loss, known.shape.layer), known.l2 + float(l2)
    return replace(solved(design, strength), problem=problem)


class Recognised(NamedTuple):
    """A problem that is known to be convex."""

    problem: Problem
    """Without its penalty."""
    loss: ConvexLoss
    shape: Shape
    """How the model is affine in its weights."""
    l2: float
    """Strength of the penalty that its objective has."""


def recognise(problem: Problem, model: nn.Module | None = None) -> Recognised:
    """The convex loss of a problem, and how its model is affine in its weights.

    Args:
        problem: Any.
        model: A model of it, if one is at hand.

    Raises:
        ObjectiveError: the objective is none that is solved here.
        ModelError: the model is not affine in what it trains.
    """
    if problem.maximize:
        raise ObjectiveError("maximize=True: a convex loss has no largest value; solve minimises, use fit")
    risk, l2 = _parted(problem.objective)
    loss = convex_loss(risk)
    if loss is None:
        name = reference(problem.objective) or "output.loss"
        name = name.rpartition(":")[2] if name.partition(":")[0].replace(".", "").isidentifier() else name
        raise ObjectiveError(f"objective {name}: solve knows {KNOWN}; use fit for others")
    if (bent := loss.bent()) is not None:
        raise ObjectiveError(f"{bent}; solve needs weights of 0 and more, use fit")
    model = model or problem.build()
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("every parameter of the model is frozen (requires_grad=False): nothing to solve for")
    shape = kind_of(model)
    if not shape.affine:
        what = "not convex in its weights" if shape.proved else "not known to be convex in its weights"
        raise ModelError(f"{what}: {shape.why}; solve needs a linear model, use fit")
    bare = problem if risk is problem.objective else problem.edit(objective=risk)
    return Recognised(bare, loss, shape, l2)


def _parted(objective: Any) -> tuple[Any, float]:
    """The risk of an objective and the strength of its penalty.

    Raises:
        ObjectiveError: a penalty that is not l2 of all weights.
    """
    if not isinstance(objective, Penalised):
        return objective, 0.0
    for each in objective.terms:
        if not isinstance(each, L2) or each.only is not None:
            raise ObjectiveError(f"penalty {each!r}: solve takes l2 of all weights; use fit for others")
    return objective.objective, sum(each.strength for each in objective.terms)


def solved(design: Design, l2: float) -> Solution:
    """The minimum for a design that stands, inside the constraint of its problem.

    Raises:
        InputError: a constraint that is not solved.
        DataError: the objective overflows, even at the minimum.
    """
    if design.problem.constraint is not None:
        made = bounded(design, l2)
    else:
        made = _least_squares(design, l2) if design.loss.name == "squared error" else _by_newton(design, l2)
    if not math.isfinite(made.objective):
        raise DataError(
            f"the objective at its minimum is {made.objective}: inputs or targets are so large that their "
            "squares overflow float64; divide them by their size"
        )
    return made


def _least_squares(design: Design, l2: float) -> Solution:
    both = triangle(design.rows_with_targets())
    p = design.columns
    r, right = both[:, :p], both[:, p:]
    scale = 2 * design.loss.scale / design.total
    found = basis_of(design, l2, r)
    padded = torch.cat([right * scale**0.5, torch.zeros(len(found.U) - len(right), right.shape[1])])
    theta = found.T @ (found.U.T @ padded)
    theta = shortest(theta, found.null, ~design.free)
    check = measured(design, theta, l2)
    gap, distance = bounds.by_inverse(found.T, told(design, theta, l2, design.flat(check.gradient)))
    certificate = Certificate(
        gradient_norm=check.norm, gap=gap, gap_from="quadratic", distance=distance,
        orthogonality=_cosine(design, theta) if l2 == 0 else None,
    )  # fmt: skip
    ends = Ends(theta, check.objective, check.loss, 0)
    kind: Kind = "strictly-convex" if found.rank == p else "many-minima"
    method = "QR of the data" + ("" if found.rank == p else " and SVD, the shortest weights of all minima")
    return _told(design, l2, found, r, ends, kind, certificate, method)


def _cosine(design: Design, theta: Tensor) -> float | None:
    """Largest cosine between a column of the data and the residual of an output; None of an exact fit."""
    dots, rows = 0.0 * theta, torch.zeros(design.columns, dtype=theta.dtype)
    rest = goal = torch.zeros(theta.shape[1], dtype=theta.dtype)
    for made in design.rows_with_targets():
        a, b = made[:, : design.columns], made[:, design.columns :]
        left = b - a @ theta
        dots, rows, rest = dots + a.T @ left, rows + a.square().sum(0), rest + left.square().sum(0)
        goal = goal + b.square().sum(0)
    if bool((rest <= 1e-26 * goal).any()):
        return None  # the residual is rounding, and points anywhere
    lengths = (rows[:, None] * rest[None, :]).sqrt()
    return float((dots.abs() / torch.where(lengths > 0, lengths, torch.ones_like(lengths))).max())


class Ends(NamedTuple):
    """Where a method ended."""

    theta: Tensor
    objective: float
    loss: float
    steps: int


def _by_newton(design: Design, l2: float) -> Solution:
    r = triangle(block.rows.reshape(-1, block.rows.shape[-1]) for block in design.blocks())
    loss, found = design.loss, basis_of(design, l2, r)
    white = White(design, found, l2)
    least = minimise(white)
    if least.separated:
        return _unattained(design, l2, found, r, least, found.T @ least.psi, complete=True)
    bound = bounds.by_curvature(white, least.psi, least.gradient, least.curvature)
    hard = any(loss.hard(block.target) for block in design.blocks())
    doubtful = loss.name != "Huber's error" and hard and not math.isfinite(bound.gap)
    way = direction(design, design.free | (l2 == 0)) if doubtful else None
    if isinstance(way, Tensor):
        return _unattained(design, l2, found, r, least, way, complete=False)
    theta = shortest(found.T @ least.psi, found.null, ~design.free)
    check = measured(design, theta, l2)
    slope = told(design, theta, l2, design.flat(check.gradient))
    unsure = length(found.T.T.abs() @ slope.slack)
    bound = bounds.by_curvature(white, least.psi, found.T.T @ slope.gradient, least.curvature, unsure)
    certificate = _certificate(design, l2, found, theta, bound, check.objective, check.norm)
    kind = "undecided" if way is False else _kind(design, l2, found, least)
    ends = Ends(theta, check.objective, check.loss, least.steps)
    return _told(design, l2, found, r, ends, kind, certificate, f"{least.steps} Newton steps")


def _kind(design: Design, l2: float, found: Basis, least: Minimum) -> Kind:
    loss, k = design.loss, design.outputs
    unseen = loss.classes and design.layer is not None and k > 1 and (l2 == 0 or bool(design.free.any()))
    if found.rank < design.columns or unseen:
        return "many-minima"
    if loss.name == "Huber's error" and l2 == 0 and not least.curvature > 1e-12:
        return "many-minima"
    return "strictly-convex"


def _certificate(
    design: Design, l2: float, found: Basis, theta: Tensor, bound: bounds.Bound, value: float, norm: float
) -> Certificate:
    dual = bounds.by_duality(design, theta, l2, value)
    gap, source = min((bound.gap, "curvature"), (dual, "duality"))
    stretch = float(svd(found.T)[1][0])
    distance = bound.distance * stretch
    return Certificate(
        gradient_norm=norm, gap=gap, gap_from=source if math.isfinite(gap) else "", distance=distance
    )


def _unattained(
    design: Design, l2: float, found: Basis, r: Tensor, least: Minimum, way: Tensor, *, complete: bool
) -> Solution:
    """No minimum: lower and lower along `way`."""
    theta = way / length(way)
    check = measured(design, found.T @ least.psi, l2)
    value = 0.0 if complete else check.objective
    ends = Ends(theta, value, value, least.steps)
    certificate = Certificate(gradient_norm=check.norm)
    which = "all examples" if complete else "some examples, and none is on the wrong side"
    what, cure = (
        ("biases", "give an example of every class") if l2 else ("weights", "l2=1e-3 gives a minimum")
    )
    said = (
        f"no minimum is attained: a direction separates {which}, so the objective falls for ever as the "
        f"{what} grow along it; {cure}"
    )
    lowest = () if complete else (f"the lowest value found, {numeral(value)}, is close to the infimum",)
    method = "a direction that separates" + ("" if complete else " (linear programme)")
    return _told(design, l2, found, r, ends, "not-attained", certificate, method, (said, *lowest))


def _told(
    design: Design, l2: float, found: Basis, r: Tensor, ends: Ends, kind: Kind, certificate: Certificate,
    method: str, first: tuple[str, ...] = (),
) -> Solution:  # fmt: skip
    return Solution(
        objective=ends.objective, loss=ends.loss, kind=kind, certificate=certificate, method=method, l2=l2,
        steps=ends.steps, rank=_rank(found), columns=design.columns, condition=found.condition,
        notes=(*first, *notes.of_data(design, found, r, l2, kind)),
        weights=design.state(ends.theta), problem=design.problem,
    )  # fmt: skip


def _rank(found: Basis) -> int:
    return notes.rank_of(found)
