"""The best constant prediction: what a model reaches that ignores its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import SCORED, drawn, precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import Memory, Source
from downslope.objectives.meaning import meaning
from downslope.optim.ops import LBFGS
from downslope.training.facts.closed_form import closed_form, holds

WIDEST = 20_000
"""Numbers in a constant prediction beyond which none is sought."""

ENDLESS = 1e6
"""Size of a constant, beside its start, at which the objective counts as having no floor."""

FLAT = 1e-7
"""Slope at which a start is the optimum already: where L-BFGS would stop too."""

_ROUNDS, _ITERATIONS = 4, 25


def measure(problem: Problem, recipe: Recipe, like: Tensor | None = None) -> dict[str, float | None] | None:
    """The objective and the metric at the best constant output, in the user's units.

    The constant is that of `closed_form` where the objective has one, else it is fitted by L-BFGS through
    the objective itself: any number where it expects scores or measurements, a point of the simplex where it
    expects probabilities.

    Args:
        problem: Whose objective, metric and data count.
        recipe: Its seed and initialisation give the model whose output is looked at.
        like: One example's output on the CPU, where it is at hand: then no model is made.

    Returns:
        ``loss`` and ``metric`` on the training part, ``valid_loss`` and ``valid_metric`` of the same
        constant; None where the objective takes the whole model output, or has no floor (it still falls at
        the end).
    """
    if problem.objective is None:
        return None
    like = _like(problem, recipe) if like is None else like
    if like is None or not like.is_floating_point() or like.numel() > WIDEST:
        return None
    objective = Objective(problem)
    said = meaning(problem.objective)
    target, args, count = _examples(problem, problem.train_source, objective, like.dtype)

    def value(made: Tensor) -> Tensor:
        return objective.of(made, target, args).value

    row = best_row(value, said.expects, like, target, count, name=said.name)
    if row is None:
        return None
    scores: dict[str, float | None] = {"valid_loss": None, "valid_metric": None}
    scores["loss"], scores["metric"] = _score(problem, objective, row, target, args, count)
    if problem.valid_source is not None:
        held = _examples(problem, problem.valid_source, objective, like.dtype)
        scores["valid_loss"], scores["valid_metric"] = _score(problem, objective, row, *held)
    return scores


def _like(problem: Problem, recipe: Recipe) -> Tensor | None:
    """The untrained model's output for one example; None where it is no tensor with a row for each."""
    model = problem.build(recipe.seed, recipe.init).eval()
    few = sample(problem.train_source, 2, precision(model))
    args, kwargs, _ = problem.splitter(few)
    with torch.no_grad():
        output = unwrap(model)(*args, **kwargs)
    whole = isinstance(output, Tensor) and output.dim() > 0 and output.shape[0] == batches.length(few)
    return output[0] if whole else None


def _examples(
    problem: Problem, source: Source, objective: Objective, dtype: torch.dtype
) -> tuple[Any, tuple[Any, ...], int]:
    """Targets of a sample, the inputs where the objective asks for them, and how many there are."""
    if isinstance(source, Memory) and not objective.wants_inputs:
        target = drawn(source, problem.splitter(source.batch)[2], SCORED)
        return batches.to(target, torch.device("cpu"), dtype), (), min(source.size, SCORED)
    batch = sample(source, SCORED, dtype)
    args, kwargs, target = problem.splitter(batch)
    return target, args or (kwargs,), batches.length(batch)


def best_row(
    objective: Callable[[Tensor], Tensor],
    expects: str | None,
    like: Tensor,
    target: Any,
    count: int,
    *,
    name: str = "",
) -> Tensor | None:
    """The output that is lowest on the average example, the same for every example.

    Args:
        objective: Output of shape (n, ...) to a scalar; `target` and the rest are bound in it.
        expects: What the objective expects of the output; None where that is not known.
        like: One example's output.
        target: Where its mean has the output's form, the search starts there.
        count: n.
        name: Of the objective, by which a formula may be known; "" where it is not known.

    Returns:
        A tensor of the shape of `like`; None where the objective has no floor.
    """
    link = LINKS.get(expects or "", _identity)

    def value(free: Tensor) -> Tensor:
        row = link(free)
        return objective(row.expand(count, *row.shape))

    start = closed_form(name, expects, like, target)
    if start is not None and holds(value, start, name, target):
        return link(start)
    if start is None:
        start = _start(like, target) if link is _identity else torch.zeros_like(like)
    best = _descend(value, start)
    return None if best is None else link(best)


def _score(
    problem: Problem, objective: Objective, row: Tensor, target: Any, args: tuple[Any, ...], count: int
) -> tuple[float, float | None]:
    output = row.expand(count, *row.shape)
    loss = objective.sign * float(objective.of(output, target, args).value)
    if problem.metric is None:
        return loss, None
    try:
        return loss, float(problem.metric(output, target))
    except Exception:  # noqa: BLE001 (a metric may be undefined on a constant)
        return loss, None


def _identity(z: Tensor) -> Tensor:
    return z


def _simplex(z: Tensor) -> Tensor:
    return z.softmax(0)


def _log_simplex(z: Tensor) -> Tensor:
    return z.log_softmax(0)


LINKS: dict[str, Any] = {
    "probability": torch.sigmoid, "probabilities": _simplex, "log-probabilities": _log_simplex,
}  # fmt: skip


def _start(like: Tensor, target: Any) -> Tensor:
    """The mean of the targets where they have the output's form, else zero."""
    zero = torch.zeros_like(like)
    if isinstance(target, Tensor) and target.is_floating_point():
        mean = target.to(like.dtype).mean(0)
        if mean.numel() == zero.numel():
            return mean.reshape(zero.shape).clone()
    return zero


def _descend(value: Any, start: Tensor) -> Tensor | None:
    """The lowest point found, or None where the value goes on falling or leaves the finite numbers."""
    # An output may be a turned view of another, such as (n, classes, steps); L-BFGS wants one without gaps.
    free = start.clone(memory_format=torch.contiguous_format).requires_grad_()
    loss = value(free)
    if loss.requires_grad and bool(torch.isfinite(loss)):
        (slope,) = torch.autograd.grad(loss, free)
        if float(slope.abs().max()) <= FLAT:
            return start
    before = float(loss.detach())
    rule = LBFGS([free], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    best, kept, falling = math.inf, start, math.inf

    def closure() -> Tensor:
        free.grad = None
        loss = value(free)
        if loss.requires_grad:
            loss.backward()
        return loss.detach()

    for _ in range(_ROUNDS):
        rule.step(closure)  # pyright: ignore[reportArgumentType] (torch's own stub asks for a float)
        with torch.no_grad():
            now = float(value(free))
        if not math.isfinite(now):
            break
        falling = (best if math.isfinite(best) else before) - now
        if now < best:
            best, kept = now, free.detach().clone()
        if falling <= 1e-6 * max(abs(best), 1e-12):
            break
    ran_off = float(kept.abs().max()) > ENDLESS * (1.0 + float(start.abs().max()))
    if not math.isfinite(best) or ran_off or falling > 1e-2 * max(abs(best), 1e-12):
        return None
    return kept
