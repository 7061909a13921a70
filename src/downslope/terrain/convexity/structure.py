"""What the structure of a problem proves of its convexity: loss, model and constraint, each by itself.

A convex function of an affine one is convex, and so are sums with non-negative weights (Boyd and Vandenberghe
2004, section 3.2): a loss that is convex in the outputs, a model that is affine in its trained weights, and a
convex penalty make a convex objective; a convex set keeps the problem convex. That a model is not affine
proves nothing of itself: whether it bends the objective down somewhere is for
`downslope.terrain.convexity.convexity`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from downslope.core.errors import DownslopeError, ModelError, ObjectiveError
from downslope.core.loss import Objective
from downslope.core.problem import Problem, reference
from downslope.core.sources import Memory
from downslope.objectives.penalised import Penalised
from downslope.terrain.convexity.calculus import Bend, bend_of
from downslope.terrain.exact.affine import kind_of
from downslope.terrain.exact.losses import convex_loss, convex_objective
from downslope.terrain.exact.solve import Recognised, recognise
from downslope.terrain.functions.point import Point

HEAD = 64
"""Examples that are looked at of data that is not in memory."""


class Structure(NamedTuple):
    """What can be read off the parts of a problem."""

    convex: bool | None
    """True where it is proved; False where the parts multiply or bend what is trained; None where the parts
    do not tell."""
    why: str = ""
    """What stands in the way."""
    loss: str | None = None
    """The loss, where it is known to be convex in the outputs."""
    known: Recognised | None = None
    """The problem, where its minimum can be computed."""
    certain: bool = False
    """Whether `convex` False is known of the whole, not only of the parts."""


def structure(problem: Problem, model: nn.Module | None = None, *, traced: bool = True) -> Structure:
    """Whether the parts of a problem prove that it is convex.

    Args:
        problem: Any.
        model: A model of it, if one is at hand, in the mode that counts.
        traced: Whether an objective of one's own is called once more, to be followed (`bend_of`).
    """
    if (told := _of_constraint(problem)) is not None:
        return told
    given = problem.build() if model is None else model
    if isinstance(given, Point):
        function, sign = given.function, "" if not problem.maximize else "minus "
        convex = bool(function.convex) and not problem.maximize
        why = "" if convex else f"{sign}{function.name} is not convex"
        certain = not problem.maximize
        return Structure(convex if certain else None, why, function.name if convex else None, None, certain)
    if problem.maximize and not isinstance(problem.objective, Penalised):
        return _of_maximised(problem, given, traced=traced)
    if problem.maximize:
        return Structure(None, "minus an objective with penalties is not known to be convex")
    if (bent := _of_targets(problem)) is not None:
        return Structure(None, bent)
    try:
        known = recognise(problem, given)
    except DownslopeError as error:
        return _of_error(problem, given, error, traced=traced)
    return Structure(True, "", known.loss.name, known)


def _of_maximised(problem: Problem, model: nn.Module, *, traced: bool) -> Structure:
    """What is known of minus the objective, which is what is gone down on."""
    if traced and _bend(problem) in ("affine", "concave"):
        return _of_bend(f"minus objective {_name(problem)}", model)
    if (loss := convex_objective(problem.objective)) is not None:
        return Structure(None, f"maximised, it goes down on minus {loss}, which bends down in the outputs")
    return Structure(None, f"minus objective {_name(problem)} is not known to be convex")


def _of_bend(loss: str, model: nn.Module) -> Structure:
    """What the model makes of a loss that is convex in the outputs."""
    kind = kind_of(model)
    return Structure(True if kind.affine else False if kind.proved else None, kind.why, loss)


def _bend(problem: Problem) -> Bend | None:
    """How the objective bends in the outputs, where it is a function of them, targets and inputs alone."""
    objective = Objective(problem)
    return None if objective.function is None or objective.wants_model else bend_of(problem.objective)


def _name(problem: Problem) -> str:
    return (reference(problem.objective) or "output.loss").rpartition(":")[2]


def _of_targets(problem: Problem) -> str | None:
    """Why the loss is not known to be convex for the problem's targets; None where it is or never is."""
    risk = problem.objective
    while isinstance(risk, Penalised):
        risk = risk.objective
    loss = convex_loss(risk)
    if loss is None or ((loss.name != "logistic loss" or loss.yes == 1) and not loss.classes):
        return None
    source = problem.train_source
    head: Any = source.batch if isinstance(source, Memory) else next(iter(source.stored(HEAD)), None)
    try:
        target: Any = None if head is None else problem.splitter(head)[2]
    except Exception:  # noqa: BLE001 (anybody's split; what is wrong with it is told where it is used)
        return None
    if (bent := loss.bent(target)) is not None:
        return bent
    shares = (
        isinstance(target, Tensor) and target.is_floating_point() and (target.dim() > 1 or not loss.classes)
    )
    if shares and not isinstance(source, Memory):
        return f"not all targets are in memory, and {loss.name} is convex for some only"
    return None


def _of_constraint(problem: Problem) -> Structure | None:
    """What the constraint spoils; None where there is none or it is convex."""
    constraint = problem.constraint
    if constraint is None:
        return None
    inside = getattr(constraint, "convex", None)
    mapped = getattr(constraint, "by", "projection") == "parametrisation"
    if inside is False:
        return Structure(False, f"the set of {constraint} is not convex", certain=True)
    if inside is None or mapped:
        what = "the parametrisation" if mapped else "the set"
        name = str(constraint) if mapped or hasattr(constraint, "convex") else "the constraint"
        return Structure(None, f"{what} of {name} is not known to be convex")
    return None


def _of_error(problem: Problem, model: nn.Module, error: DownslopeError, *, traced: bool) -> Structure:
    """What is left to know where no exact solution is."""
    loss = convex_objective(problem.objective)
    if isinstance(error, ObjectiveError) and loss is not None:
        return _of_bend(loss, model)
    if isinstance(error, ObjectiveError) and traced and _bend(problem) in ("affine", "convex"):
        return _of_bend(f"objective {_name(problem)}", model)
    if isinstance(error, ObjectiveError):
        return Structure(None, f"{str(error).partition(':')[0]} is not known to be convex")
    bent = isinstance(error, ModelError) and str(error).startswith("not convex")
    return Structure(False if bent else None, str(error).partition(";")[0])
