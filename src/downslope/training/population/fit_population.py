"""Several recipes on one problem: one run each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from downslope.core.errors import RecipeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.training.broadcast import once
from downslope.training.facts import one_line
from downslope.training.fit import fit
from downslope.training.progress import Progress
from downslope.training.recorder import new_folder


def fit_population(
    problem: Problem | Sequence[Problem],
    recipes: Recipe | Sequence[Recipe],
    seeds: Sequence[int] | None = None,
    *,
    folder: str | Path | Literal[False] | None = False,
    observe: float = 0.0,
    progress: bool = True,
    label: str = "population",
    strict: bool = True,
    until: float | None = None,
) -> list[Run]:
    """Train one member for every recipe and seed.

    A member is what `fit` gives for its recipe and seed alone: they share nothing but the data. Today they
    train one after another.

    Args:
        problem: One for all, or one for each recipe.
        recipes: The members' recipes.
        seeds: Each recipe is trained with each of them, recipe by recipe; left out, with its own seed.
        folder: Parent of the members' folders; None makes one, False keeps them in memory.
        observe: Share of the time that probes may take, as in `fit`.
        progress: Whether to show how far it is.
        label: What the progress line calls it.
        strict: Whether a member that fails ends the population; else it is a run of status "failed", whose
            ``facts["error"]`` says why in one line.
        until: `time.monotonic` by which the population ends: a member that does not fit in is left out, and
            with it those after it.

    Returns:
        ``len(recipes) * len(seeds)`` runs, in that order; an interrupted population, or one whose time is
        up, gives what it has.

    Raises:
        RecipeError: no recipe, or as many problems as recipes were needed.
        InputError: what `fit` raises for a member.
    """
    each = [recipes] if isinstance(recipes, Recipe) else list(recipes)
    problems = [problem] * len(each) if isinstance(problem, Problem) else list(problem)
    if not each or len(problems) != len(each):
        raise RecipeError(
            f"{len(each)} recipes for {len(problems)} problems: one problem for all, or one for each"
        )
    members = [
        (p, r if seed is None else r.edit(seed=seed))
        for p, r in zip(problems, each, strict=True)
        for seed in (seeds or [None])
    ]
    root = new_folder(label) if folder is None else folder
    runs: list[Run] = []
    with once(), Progress(label, len(members), shown=progress) as bar:
        for index, (own, recipe) in enumerate(members):
            place = False if root is False else Path(root) / f"member-{index:03d}"
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            run = _member(own, recipe, place, observe, strict, left)
            if run.facts.get("cut"):
                break
            runs.append(run)
            bar.update(index + 1)
            if run.status == "interrupted":
                break
    return runs


def _member(
    problem: Problem,
    recipe: Recipe,
    folder: Path | Literal[False],
    observe: float,
    strict: bool,
    seconds: float | None,
) -> Run:
    try:
        return fit(problem, recipe, folder=folder, progress=False, observe=observe, seconds=seconds)
    except Exception as error:
        if strict:
            raise
        return Run(problem=problem, recipe=recipe, status="failed", facts={"error": one_line(error)})
