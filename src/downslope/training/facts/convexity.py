"""Whether the problem of a run is convex, how far it ended from the minimum, and how fast it came there.

For a convex problem the distance is no guess: `downslope.terrain.exact` knows the minimum. It is computed
where that takes a small share of the run's own time. The rate is that of a quadratic with the Hessian at the
minimum: the gap falls by ``q^2`` a step, q the largest modulus of an eigenvalue of the method's linear
recurrence (Polyak 1964; for plain descent ``max |1 - lr lambda|``, ``1 - lr mu`` below the edge).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from downslope.constraints import Box
from downslope.core.method import optimizer_defaults
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.optim.stability import decouples, method_of
from downslope.terrain.convexity.structure import structure
from downslope.terrain.exact.checked import measured
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.newton import DENSE
from downslope.terrain.exact.solve import Recognised, solved
from downslope.terrain.exact.spectrum import curvatures

SHARE = 0.1
"""Share of a run's time that its minimum may take."""

FREE = 0.05
"""Seconds that it may take in any case."""

SPEED = 5e9
"""Multiply-adds a second that one thread is taken to do."""

STEPS = 15
"""Newton's steps that are reckoned with."""

ENOUGH = 20
"""Steps over which a rate is read."""

FLOOR = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-1}
"""Gap, in the minimum's own size, below which losses in this precision are rounding."""

ALIKE = 0.1
"""Relative difference of two rates, in logarithms, below which they are the same."""


def convexity(run: Run, model: nn.Module) -> dict[str, Any]:
    """Measure a run that has ended.

    Args:
        run: With problem, recipe, history and summary.
        model: Its last model.

    Returns:
        ``convex``, ``why`` (what bends it); of a convex one, where it is cheap, ``kind``, ``objective`` (with
        what the recipe's decay adds), ``optimum``, ``gap``, ``l2``, and ``rate``, if theory knows the recipe.
    """
    problem = run.the_problem()
    drawn = [each for each in model.modules() if isinstance(each, _DropoutNd) and each.training and each.p]
    for each in drawn:  # whatever it draws, the output stays affine if it is without
        each.eval()
    try:
        read = structure(problem, model, traced=False)
    finally:
        for each in drawn:
            each.train()
    found: dict[str, Any] = {"convex": read.convex}
    found |= {key: value for key in ("loss", "why") if (value := getattr(read, key))}
    if (known := read.known) is None:
        return found
    l2 = known.l2 + (_coupled(run) or 0.0)
    other = bool(drawn) or problem.augment is not None  # the objective of the steps is not that of the data
    if other or run.status == "diverged" or _coupled(run) is None or not _solved(known, problem):
        return found
    if _price(run, known, model) > max(FREE, SHARE * float(run.summary.get("seconds") or 0.0)):
        return found | {"dear": True}
    design = Design(known.problem, known.loss, known.shape.layer)
    exact = solved(design, l2)
    theta = design.flat([p.detach().double().cpu() for p in _trained(model)])
    ended = measured(design, theta, l2)
    found |= {
        "kind": exact.kind, "objective": ended.objective, "optimum": exact.objective, "l2": l2,
        "gap": ended.objective - exact.objective, "gradient_norm": ended.norm,
    }  # fmt: skip
    if exact.kind in ("strictly-convex", "many-minima") and design.columns * design.outputs <= DENSE:
        at = design.flat([exact.weights[name] for name in design.parameters])
        rate = _rate(run, curvatures(design, at, l2), exact.objective)
        found |= {} if rate is None else {"rate": rate}
    return found


def _solved(known: Recognised, problem: Problem) -> bool:
    """Whether `downslope.terrain.exact` knows the minimum inside the constraint."""
    boxed = isinstance(problem.constraint, Box) and known.loss.name == "squared error"
    return problem.constraint is None or boxed


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _coupled(run: Run) -> float | None:
    """The penalty that the recipe's decay amounts to; None where it amounts to none of all weights."""
    recipe = run.recipe or Recipe()
    if not recipe.weight_decay:
        return None if recipe.groups else 0.0
    name = method_of(recipe.optimizer) if isinstance(recipe.optimizer, str) else None
    apart = name is None or decouples(name, {**optimizer_defaults(recipe.optimizer), **recipe.settings})
    return None if apart or recipe.groups or recipe.decay != "weights" else recipe.weight_decay


def _price(run: Run, known: Recognised, model: nn.Module) -> float:
    """Seconds that the minimum takes, roughly."""
    source = run.the_problem().train_source
    if not isinstance(source, Memory):
        return math.inf
    weights = sum(p.numel() for p in _trained(model))
    k = 1 if known.shape.layer is None else next(p for p in _trained(model)).shape[0]
    columns = weights / k
    passes = weights if known.shape.layer is None else 1
    if known.loss.name == "squared error":
        return source.size * (2 * columns**2 + passes * weights) / SPEED
    pairs = k * (k + 1) / 2 if known.loss.classes else k
    return (source.size * (STEPS * pairs * columns**2 + passes * weights) + STEPS * weights**3) / SPEED


def _rate(run: Run, bends: Tensor, optimum: float) -> dict[str, Any] | None:
    """The rate of theory and the measured one; None for a recipe of which theory says nothing."""
    recipe = run.recipe or Recipe()
    method = _recurrence(recipe) if run.the_problem().constraint is None else None
    full = run.choices.get("batch_size") == run.the_problem().train_source.size
    if method is None or not full or not len(bends):
        return None
    lr, momentum, gain, ahead = method
    q = max(_radius(float(each), lr, momentum, gain, ahead) for each in bends)
    largest, least = float(bends.max()), float(bends.min())
    found: dict[str, Any] = {
        "theory": q * q,
        "plain": not momentum,
        "condition": largest / least,
        "largest": largest,
        "least": least,
    }
    series = run.history.series("train_objective")
    values = series.values if len(series.values) else run.history.series("train_loss").values
    return found | _measured(values, optimum, run, q * q)


def _recurrence(recipe: Recipe) -> tuple[float, float, float, bool] | None:
    """lr, momentum, gain and whether it looks ahead, of a method with constant settings."""
    name = method_of(recipe.optimizer) if isinstance(recipe.optimizer, str) else None
    still = recipe.schedule in (None, "constant") and not recipe.warmup and not recipe.groups
    bare = recipe.clip_norm is None and recipe.clip_value is None and recipe.lr is not None
    if name not in ("gd", "sgd", "momentum", "nesterov") or not still or not bare or recipe.weight_decay:
        return None
    default = 0.9 if name in ("momentum", "nesterov") else 0.0
    momentum = float(recipe.settings.get("momentum", default))
    gain = 1.0 - float(recipe.settings.get("dampening", 0.0)) if momentum else 1.0
    ahead = name == "nesterov" or bool(recipe.settings.get("nesterov"))
    return float(recipe.lr or 0.0), momentum, gain, ahead


def _radius(bend: float, lr: float, momentum: float, gain: float, ahead: bool) -> float:
    """How the distance along an eigenvector of curvature `bend` shrinks in a step."""
    if not momentum:
        return abs(1.0 - lr * bend)
    if ahead:
        matrix = [[1 - lr * bend * (1 + momentum), -lr * momentum**2], [bend, momentum]]
    else:
        matrix = [[1 - lr * gain * bend, -lr * momentum], [gain * bend, momentum]]
    return float(np.abs(np.linalg.eigvals(np.array(matrix))).max())


def _measured(losses: npt.NDArray[np.float64], optimum: float, run: Run, theory: float) -> dict[str, Any]:
    """The factor of the gap a step, read off the last half of what stands above rounding."""
    precision = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(
        str(run.choices.get("precision")), torch.float32
    )
    gaps = losses - optimum
    above = gaps > FLOOR[precision] * max(abs(optimum), 1e-3)
    count = int(np.argmin(above)) if not above.all() else len(gaps)
    if count < ENOUGH:
        return {}
    last = np.log(gaps[count // 2 : count])
    slope = float(np.polyfit(np.arange(len(last)), last, 1)[0])
    factor = math.exp(slope)
    said = "as theory says" if _alike(factor, theory) else "faster" if factor < theory else "slower"
    left = math.log(max(gaps[count - 1], 1e-300) / 1e-6) / -slope if slope < 0 else math.inf
    return {
        "measured": factor,
        "said": said,
        "steps_to_1e-6": max(math.ceil(left), 0) if left < 1e12 else None,
    }


def _alike(measured: float, theory: float) -> bool:
    if not (0 < measured < 1 and 0 < theory < 1):
        return abs(measured - theory) < 1e-3
    return abs(math.log(measured) / math.log(theory) - 1) < ALIKE


def told(found: Mapping[str, Any]) -> str:
    """What was measured, in one line; "" for a problem that is not convex or of which nothing is known."""
    if not found.get("convex"):
        return ""
    if "gap" not in found:
        return "convex: every minimum is the global one" + ("; solve tells it" if found.get("dear") else "")
    if found["kind"] == "not-attained":
        return (
            "convex, but no minimum is attained: the classes can be separated, so the weights grow for ever"
        )
    gap, optimum = found["gap"], found["optimum"]
    line = f"convex: {_digits(gap)} above the minimum {optimum:.6g}"
    rate = found.get("rate") or {}
    if rate.get("theory", 0.0) >= 1:
        edge = f"{2 / rate['largest']:.3g}, which is 2 over its curvature" if rate.get("plain") else ""
        edge = edge or f"what the curvature {rate['largest']:.3g} stands"
        return f"{line}; the learning rate is above {edge}"
    if "measured" not in rate:
        return line
    beside = {
        "as theory says": ", as theory says",
        "faster": f"; theory allows {rate['theory']:.6g} at worst",
        "slower": f", slower than the {rate['theory']:.6g} of theory",
    }
    return f"{line}; the gap falls by {rate['measured']:.6g} a step{beside[rate['said']]}"


def _digits(gap: float) -> str:
    return f"{max(gap, 0.0):.2g}"
