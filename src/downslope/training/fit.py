"""The verb `fit`: a problem and a recipe become a run."""

from __future__ import annotations

import logging
import time
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from downslope.core import starts
from downslope.core.asked import check_asked
from downslope.core.errors import InputError, RunFolderError
from downslope.core.problem import Problem
from downslope.core.randomness import ONE_AT_A_TIME
from downslope.core.recipe import Lost, Recipe
from downslope.core.run import ENDED, Run, load_run
from downslope.training import ways
from downslope.training.checkpoint import check_resume, check_same
from downslope.training.data_check import check_data
from downslope.training.environment import environment
from downslope.training.loop import Loop
from downslope.training.ready import ready, seated, through
from downslope.training.recorder import new_folder
from downslope.training.state import OnProbe

_log = logging.getLogger("downslope")

OBSERVED_SHARE = 0.0075
"""Share of the time that probes may take unless told otherwise."""


def fit(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    folder: str | Path | Literal[False] | None = None,
    name: str | None = None,
    progress: bool = True,
    observe: float = OBSERVED_SHARE,
    on_probe: OnProbe | None = None,
    resume: bool = False,
    seconds: float | None = None,
    terrain: float = 0.0,
) -> Run:
    """Train a fresh model of `problem` as `recipe` says.

    The Run's folder is written while it runs; Ctrl-C ends after the step it is in, with the Run saved.
    Training stops by itself where the loss leaves the finite numbers (status "diverged").

    Args:
        problem: What is to be learnt.
        recipe: How; left out, Adam with its defaults, or that of the run which goes on.
        folder: Where the Run is kept; None makes ``runs/<time>-<name>``, False keeps it in memory.
        name: Of the folder; the problem's own name if left out.
        progress: Whether to show how far it is, on standard error.
        observe: Share of the time that probes may take, in [0, 1); 0 turns them off.
        on_probe: Called with a `StepState` at step 0, at every probed step, and at the end.
        resume: Go on with the run that is in `folder`.
        seconds: Longest time, in (0, inf): the run ends after the step that it is in, as one that is done, so
            that the measurement at its end fits in, and ``run.facts["cut"]`` says so. Schedules keep the
            length that the recipe gives. Where time is short, or fewer examples were trained on than there
            are, the training loss at the end is that of a drawn part of them: ``summary["train_n"]``.
        terrain: Share of the time for measuring the ground under the run, in [0, 1); 0 is off. At the start,
            as often as the share allows, and at the end, on a fixed sample and on copies: training takes the
            same bits. ``run.history`` then has ``sharpness`` (as the method sees it: preconditioned for
            adaptive ones) with ``sharpness_residual``, ``stable_limit``, ``stability_ratio``, ``noise_scale``
            with ``noise_scale_error``, and ``terrain_products``. The first and the last are made even where
            the share is too small for them, which is told. An adaptive method has no scale of its own before
            its first step: what is measured there is ``hessian_sharpness``.

    Returns:
        The Run; ``run.model()`` is the best model on validation data, or the last without.

    Raises:
        InputError: data, objective, model or recipe cannot be used; one line, nothing is left in `folder`.
        RunFolderError: the folder cannot be written, holds a run already, or none to resume.
    """
    check_asked(problem, recipe)
    _check_folder(folder)
    for key, share in (("observe", observe), ("terrain", terrain)):
        if not (_is_number(share) and 0 <= share < 1):
            raise InputError(f"{key}={share!r}: must lie in [0, 1), it is a share of the time; 0 is off")
    if resume and not folder:
        raise InputError(f"resume=True with folder={folder!r}: give the folder of the run to go on with")
    if seconds is not None and not (_is_number(seconds) and seconds > 0):
        raise InputError(f"seconds={seconds!r}: must lie in (0, inf); leave it out for no limit")
    if resume and folder and recipe is None:
        recipe = _recipe_of(load_run(folder))
    with ONE_AT_A_TIME:  # runs in threads share torch's global generators
        return _fit(
            problem, recipe or Recipe(), folder, name, progress, observe, on_probe, resume, seconds, terrain
        )


def _fit(
    problem: Problem,
    recipe: Recipe,
    folder: str | Path | Literal[False] | None,
    name: str | None,
    progress: bool,
    observe: float,
    on_probe: OnProbe | None,
    resume: bool,
    seconds: float | None,
    terrain: float,
) -> Run:
    started = time.perf_counter()
    check_data(problem)
    run = run_of(problem, recipe, folder, name, resume)
    if terrain:
        run.choices.setdefault("terrain", terrain)
    made = ready(run, observe, started=started, resume=resume, tell=progress)
    loop = seated(made, Loop, on_probe=on_probe, progress=progress, seconds=seconds)
    return through(loop, started, resume=resume)


def resume(folder: str | Path, problem: Problem | None = None, *, progress: bool = True) -> Run:
    """Go on with the run in `folder` from its last checkpoint, as if it had never stopped.

    Args:
        folder: A run that was interrupted or killed; one that is done comes back as it is.
        problem: The problem, where it cannot be found from the folder.
        progress: Whether to show how far it is.

    Raises:
        RunFolderError: no run there, or one whose recipe is code that no file holds.
    """
    run = load_run(folder, problem)
    if run.status in ENDED:
        for which in ("last", "best"):  # a run of which no weights can be read is none to come back to
            run.state(which)
        _log.warning("%s: nothing to resume, the run has ended (%s)", folder, run.status)
        return run
    return fit(run.the_problem(), _recipe_of(run), folder=folder, progress=progress, resume=True)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)


def _check_folder(folder: Any) -> None:
    if not (folder is None or folder is False or isinstance(folder, str | Path)):
        raise InputError(f"folder={folder!r}: must be a path, None for a new folder, or False for none")


def _recipe_of(run: Run) -> Recipe:
    if run.recipe is None:
        raise RunFolderError(f"{run.folder}: its recipe is missing (recipe.toml); start anew with fit")
    for key in ("optimizer", "schedule"):
        if isinstance(getattr(run.recipe, key), Lost):
            raise RunFolderError(f"{run.folder}: its {key} is code that no file holds; start anew with fit")
    return run.recipe


def run_of(
    problem: Problem,
    recipe: Recipe,
    folder: str | Path | Literal[False] | None,
    name: str | None = None,
    resume: bool = False,
) -> Run:
    """The run to be, with the choices of the one that goes on; nothing is written.

    Args:
        problem: What.
        recipe: How.
        folder: Where it is kept; None makes a new one, False keeps it in memory.
        name: Of the folder; the problem's own if left out.
        resume: Whether the run in `folder` goes on.

    Raises:
        RunFolderError: the folder holds a run already, or none that can go on as this one.
    """
    described = problem.describe()
    chosen: dict[str, Any] = {}
    if folder is False:
        place = None
    elif folder is None:
        place = new_folder(name or problem.name or "fit")
    else:
        place = Path(folder)
        if not resume and (place / "run.json").exists():
            raise RunFolderError(f"{place} holds a run already: give another folder, or resume it")
        if resume:  # the same choices give the same bits
            former = load_run(place)
            if former.status == "running":
                raise RunFolderError(f"{place}: this run is still going on, in a process that writes it now")
            check_resume(place, former.history)
            check_same(former, recipe, described)
            kept = ("observe", "probe_price", "threads", "terrain", "terrain_price", *ways.KEPT)
            chosen = {key: former.choices[key] for key in kept if key in former.choices}
    run = Run(
        recipe=recipe, problem=problem, folder=place, environment=environment(), described=described,
        choices=chosen,
    )  # fmt: skip
    if callable(recipe.init) and not isinstance(recipe.init, Lost):
        run.facts["init"] = starts.told(recipe.init)
    return run
