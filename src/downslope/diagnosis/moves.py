"""Moves: what is tried about a recipe when its causes are dealt with, or none was found.

The moves are those of a strong random search (learning rate, optimizer, scales, steps) and what else is
usually first tried, each from where the recipe stands: a line search in the logarithm of the rate, by
factors of 3, finds what draws over five decades find, in far fewer runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from downslope.core.edits import (
    Combined,
    Edit,
    Reinitialise,
    SetRecipe,
    StandardiseInputs,
    StandardiseTargets,
    widening,
)
from downslope.core.method import is_named, optimizer_defaults
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.progress import table

STEP = 3.0
"""Factor between learning rates tried; half a decade. Convention."""

WIDE = 30.0
"""The same where no cause is known, and the rate may be far off."""

BATCH = 32
"""Examples a batch in the place of all of them (Masters and Luschi 2018: 2 to 32 are best), or of very
few."""

LONGER = 3
"""Multiple of the steps that is tried where a run was still improving at its end."""

_ADAPTIVE = (
    "adam", "adamw", "rmsprop", "nadam", "radam", "adagrad", "adamax", "adabelief", "adan", "ademamix",
    "lamb", "lars", "prodigy", "cautious_adamw", "cautious_lion", "schedule_free_adamw",
    "muon", "shampoo", "soap",
)  # fmt: skip
_PLAIN = ("sgd",)


def rates(recipe: Recipe, factor: float = STEP) -> list[Edit]:
    """The learning rate `factor` times as high and as low; none where the recipe has no rate of its own."""
    lr = _rate(recipe)
    if not lr:
        return []
    return [SetRecipe({"lr": float(f"{lr * each:.2g}")}, {"lr": recipe.lr}) for each in (factor, 1 / factor)]


def moves(run: Run, problem: Problem, recipe: Recipe, *, far: bool) -> list[Edit]:
    """Edits of `problem` and `recipe` that are worth a look, the likeliest first.

    Args:
        run: The diagnosed run, which knows data, output and metric.
        problem: As it stands, with the edits kept so far.
        recipe: The same.
        far: Whether the cause is not known, or much is left to win: then bolder moves are among them.
    """
    found = rates(recipe)
    if far:
        found += rates(recipe, WIDE)
    found += _methods(recipe, far=far)
    found += _scales(run, problem)
    if far:
        found += _bold(run, problem, recipe)
        found.append(_sound(run, problem, recipe))
    return found


def _sound(run: Run, problem: Problem, recipe: Recipe) -> Edit:
    """Everything that is usual at once, where two causes hide each other."""
    how: dict[str, Any] = {"clip_norm": 1.0} | ({"weight_decay": 0.0} if recipe.weight_decay else {})
    if is_named(recipe.optimizer):
        how |= {"optimizer": "adam", "lr": 3e-3}
    return Combined(
        (Reinitialise("auto"), *_scales(run, problem), *(SetRecipe({k: v}) for k, v in how.items()))
    )


def longer(recipe: Recipe) -> Edit:
    """More of what helps: three times as many epochs or steps."""
    key = "steps" if recipe.steps is not None else "epochs"
    own = getattr(recipe, key) or 20
    return SetRecipe({key: LONGER * own}, {key: own})


def _rate(recipe: Recipe) -> float | None:
    if recipe.lr is not None:
        return recipe.lr
    return optimizer_defaults(recipe.optimizer).get("lr") if is_named(recipe.optimizer) else None


def _methods(recipe: Recipe, *, far: bool) -> Iterator[Edit]:
    """Another method at rates that are usual for it."""
    if not is_named(recipe.optimizer):
        return
    name = str(recipe.optimizer).rpartition(":")[2].lower()
    before = {"optimizer": recipe.optimizer, "lr": recipe.lr}
    if name not in ("adam", "adamw"):
        for lr in (3e-3, 3e-2) if far else (3e-3,):
            yield SetRecipe({"optimizer": "adam", "lr": lr}, before)
    if name in _ADAPTIVE and far:
        yield SetRecipe({"optimizer": "sgd", "lr": 0.03, "momentum": 0.9}, before)
    if name in _PLAIN and not recipe.settings.get("momentum") and far:
        lr = _rate(recipe)
        if lr:
            yield SetRecipe({"momentum": 0.9, "lr": float(f"{0.3 * lr:.2g}")}, {"lr": recipe.lr})


def _scales(run: Run, problem: Problem) -> Iterator[Edit]:
    """Standard scales of inputs and targets, where there is a scale and it is not standard yet."""
    done = {type(each) for each in problem.edits}
    data: Mapping[str, Any] = run.facts.get("data") or {}
    target: Mapping[str, Any] = data.get("target") or {}
    expects = (run.facts.get("output") or {}).get("expects")
    numbers = run.facts.get("features") and str(data.get("dtype", "")).startswith("float")
    if numbers and StandardiseInputs not in done:
        yield StandardiseInputs()
    measured = str(target.get("dtype", "")).startswith("float")
    if target.get("kind") == "real" and expects == "real" and measured and StandardiseTargets not in done:
        yield StandardiseTargets()


def _bold(run: Run, problem: Problem, recipe: Recipe) -> Iterator[Edit]:
    """What is worth a look where no cause is known: other weights, more units, no decay, bounded steps, usual
    batches.
    """
    if not any(isinstance(each, Reinitialise) for each in problem.edits):
        yield Reinitialise("auto")
    if (wider := widening(problem)) is not None:
        yield wider
    if recipe.weight_decay:
        yield SetRecipe({"weight_decay": 0.0}, {"weight_decay": recipe.weight_decay})
    if recipe.clip_norm is None and not table(run, "clips"):
        yield SetRecipe({"clip_norm": 1.0})
    size = problem.train_source.size
    most = recipe.batch_size if isinstance(recipe.batch_size, int) else size
    if size is not None and most is not None and size > BATCH and (most < 8 or 4 * most >= size > 4 * BATCH):
        lr = _rate(recipe)
        yield SetRecipe({"batch_size": BATCH, "lr": lr} if lr else {"batch_size": BATCH},
                        {"batch_size": recipe.batch_size})  # fmt: skip
