"""The best constant prediction: what a model reaches that ignores its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.objectives.meaning import meaning
from downslope.training.facts.sample import SCORED, precision, sample

WIDEST = 20_000
"""Numbers in a constant prediction beyond which none is sought."""

ENDLESS = 1e6
"""Size of a constant, beside its start, at which the objective counts as having no floor."""

_ROUNDS, _ITERATIONS = 4, 25


def measure(problem: Problem, recipe: Recipe) -> dict[str, float | None] | None:
    """The objective and the metric at the best constant output, in the user's units.

    The constant is fitted by L-BFGS through the objective itself: any number where it expects scores or
    measurements, a point of the simplex where it expects probabilities.

    Returns:
        ``loss`` and ``metric`` on the training part, ``valid_loss`` and ``valid_metric`` of the same
        constant; None where the objective takes the whole model output, or has no floor (it still falls at
        the end).
    """
    if problem.objective is None:
        return None
    model = problem.build(recipe.seed, recipe.init).eval()
    dtype = precision(model)
    batch = sample(problem.train_source, SCORED, dtype)
    args, kwargs, target = problem.splitter(batch)
    few = batches.map_tensors(lambda leaf: leaf[:2], (args, kwargs))
    with torch.no_grad():
        output = unwrap(model)(*few[0], **few[1])
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() == 0:
        return None
    if output[0].numel() > WIDEST or output.shape[0] != batches.length(few):
        return None
    objective = Objective(problem)
    expects = meaning(problem.objective).expects
    count = batches.length(batch)
    row = best_row(lambda made: objective.of(made, target, args).value, expects, output[0], target, count)
    if row is None:
        return None
    scores: dict[str, float | None] = {"valid_loss": None, "valid_metric": None}
    scores["loss"], scores["metric"] = _score(problem, objective, row, batch)
    if problem.valid_source is not None:
        held = sample(problem.valid_source, SCORED, dtype)
        scores["valid_loss"], scores["valid_metric"] = _score(problem, objective, row, held)
    return scores


def best_row(
    objective: Callable[[Tensor], Tensor], expects: str | None, like: Tensor, target: Any, count: int
) -> Tensor | None:
    """The output that is lowest on the average example, the same for every example.

    Args:
        objective: Output of shape (n, ...) to a scalar; `target` and the rest are bound in it.
        expects: What the objective expects of the output; None where that is not known.
        like: One example's output.
        target: Where its mean has the output's form, the search starts there.
        count: n.

    Returns:
        A tensor of the shape of `like`; None where the objective has no floor.
    """
    link = LINKS.get(expects or "", _identity)
    start = _start(like, target) if link is _identity else torch.zeros_like(like)

    def value(free: Tensor) -> Tensor:
        row = link(free)
        return objective(row.expand(count, *row.shape))

    best = _descend(value, start)
    return None if best is None else link(best)


def _score(problem: Problem, objective: Objective, row: Tensor, batch: Any) -> tuple[float, float | None]:
    args, _, target = problem.splitter(batch)
    count = batches.length(batch)
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
    free = start.clone().requires_grad_()
    rule = torch.optim.LBFGS([free], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    best, kept, falling = math.inf, start, math.inf

    def closure() -> Tensor:
        rule.zero_grad()
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
        falling = best - now
        if now < best:
            best, kept = now, free.detach().clone()
        if falling <= 1e-6 * max(abs(best), 1e-12):
            break
    ran_off = float(kept.abs().max()) > ENDLESS * (1.0 + float(start.abs().max()))
    if not math.isfinite(best) or ran_off or falling > 1e-2 * max(abs(best), 1e-12):
        return None
    return kept
