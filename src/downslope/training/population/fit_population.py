"""Several recipes on one problem: one run each, trained together where that is exact and faster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from downslope.core.errors import InputError, RecipeError
from downslope.core.problem import Problem
from downslope.core.randomness import ONE_AT_A_TIME
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.training.broadcast import once
from downslope.training.population.company import Company, Way
from downslope.training.population.members import OnEnd, OnEvaluation
from downslope.training.progress import Progress
from downslope.training.recorder import new_folder

WAYS: tuple[Way, ...] = ("auto", "together", "one by one", "processes")


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
    way: Way = "auto",
    workers: int = 1,
    ray: str | None = None,
    on_evaluation: OnEvaluation | None = None,
    on_end: OnEnd | None = None,
) -> list[Run]:
    """Train one member for every recipe and seed.

    A member is what `fit` gives for its recipe and seed alone: the same start, order, dropout and
    augmentation, and the same numbers: to the bit for chains of linear layers, ReLU, batch norm and dropout
    on the CPU under cross-entropy or squared error, else up to the rounding of sums (within 1e-9 in float64
    as long as training is stable). Rounding grows to whole steps where a bias has no other gradient (of a
    convolution before batch norm, of the keys in attention) and the optimizer goes by its sign or size: such
    members part, in the fourth digit of a validation loss or, at high rates, more; ``way="one by one"`` has
    the bits of `fit`. Members whose models have one shape take their steps together where that
    is faster, each with its own hyper-parameters, and each ends by itself; ``run.choices["population"]`` says
    how a member was trained, and why by itself.

    Args:
        problem: One for all, or one for each recipe.
        recipes: The members' recipes.
        seeds: Each recipe is trained with each of them, recipe by recipe; left out, with its own seed.
        folder: Parent of the members' folders; None makes one, False keeps them in memory.
        observe: Share of the time that probes may take, as in `fit`; a member that is observed trains by
            itself.
        progress: Whether to show how far it is.
        label: What the progress line calls it.
        strict: Whether a member that fails ends the population; else it is a run of status "failed", whose
            ``facts["error"]`` says why in one line.
        until: `time.monotonic` by which the population ends: a member that does not fit in is left out, and
            with it those after it.
        way: "auto" measures what is faster for every shape, once for a machine; "together" wherever it is
            exact; "one by one"; "processes" of their own.
        workers: Processes that train besides, in [1, inf), at ``cores / workers`` threads each; 1 is this one
            alone. To them go those that do not go together, to the same bits as here, and as many crews
            as they are of those that do: with "auto" where what they save is more than their start.
        ray: Address of a Ray cluster, in the place of `workers`: "host:port" where this machine is one of
            its nodes, "auto" for the one that runs here or that RAY_ADDRESS names, "ray://host:port" from
            outside, "local" for one of its own on this machine. Its free CPUs train what `workers` would, at
            one thread each; runs and folders come back here.
        on_evaluation: ``(member, step, evaluation) -> bool``, called at every evaluation after the start;
            True ends that member there, with status "stopped".
        on_end: ``(member, run) -> None``, called here as soon as a member has come to its end or failed.

    Returns:
        ``len(recipes) * len(seeds)`` runs, in that order; an interrupted population, or one whose time is
        up, gives what it has.

    Raises:
        RecipeError: as many problems as recipes were needed.
        InputError: what `fit` raises for a member; no recipe, no seed, a way that there is not.
        ClusterError: a cluster that cannot be joined. One that goes away later leaves those that had not
            ended with status "interrupted".
    """
    each = _several(recipes, Recipe, "recipes", "a Recipe or a list of them")
    problems = _several(problem, Problem, "problem", "a Problem or a list of them, one for each recipe")
    problems = problems * len(each) if isinstance(problem, Problem) else problems
    if len(problems) != len(each):
        raise RecipeError(
            f"{len(each)} recipes for {len(problems)} problems: one problem for all, or one for each"
        )
    own = [None] if seeds is None else _several(seeds, object, "seeds", "a list of whole numbers")
    if way not in WAYS:
        raise InputError(f"way={way!r}: must be one of {', '.join(map(repr, WAYS))}")
    several: Any = workers
    if isinstance(several, bool) or not isinstance(several, int) or several < 1:
        raise InputError(f"workers={workers!r}: must be a whole number of at least 1")
    if ray is not None:
        _check_with_ray(ray, way, workers)
    members = [
        (p, r if seed is None else r.edit(seed=seed))
        for p, r in zip(problems, each, strict=True)
        for seed in own
    ]
    root = new_folder(label) if folder is None else folder
    places: list[Path | Literal[False]] = [
        False if root is False else Path(root) / f"member-{index:03d}" for index in range(len(members))
    ]
    with ONE_AT_A_TIME, once(), Progress(label, len(members), shown=progress, unit="runs") as bar:
        return Company(
            members, places,
            observe=observe, strict=strict, until=until, way=way, workers=workers, bar=bar,
            on_evaluation=on_evaluation, on_end=on_end, ray=ray,
        ).train()  # fmt: skip


def _several(given: Any, kind: type, name: str, wanted: str) -> list[Any]:
    """One or several of a kind as a list, of which there is at least one."""
    if kind is not object and isinstance(given, kind):
        return [given]
    if name == "seeds":
        wanted += ", such as range(3); left out, each recipe takes its own"
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"{name}={given!r}: must be {wanted}")
    each = list(cast("Iterable[Any]", given))
    if not each:
        raise InputError(f"{name}={given!r} holds nothing to train: must be {wanted}")
    odd = next((one for one in each if one is None or not isinstance(one, kind)), each)
    if odd is not each:
        raise InputError(f"{name} holds {odd!r}: must be {wanted}")
    return each


def _check_with_ray(ray: str, way: Way, workers: int) -> None:
    if workers > 1:
        raise InputError(f"workers={workers} with ray={ray!r}: give one of them, Ray has its own")
    if way == "one by one":
        raise InputError(f"way='one by one' with ray={ray!r}: nothing would be sent there; leave one out")
    from downslope.training.population.ray_workers import check_reached

    check_reached(ray)
