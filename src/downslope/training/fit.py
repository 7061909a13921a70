"""The verb `fit`: a problem and a recipe become a run."""

from __future__ import annotations

import logging
import re
import sys
import time
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from downslope.core import batches, starts
from downslope.core.asked import check_asked
from downslope.core.errors import InputError, RunFolderError
from downslope.core.problem import Problem
from downslope.core.randomness import ONE_AT_A_TIME
from downslope.core.recipe import Lost, Recipe
from downslope.core.run import ENDED, Run, load_run
from downslope.init import remark
from downslope.training import broadcast, choices, ways
from downslope.training.checkpoint import check_resume, check_same, is_kept
from downslope.training.data_check import check_data
from downslope.training.depth import told as told_depth
from downslope.training.environment import environment
from downslope.training.facts import record
from downslope.training.facts.at_start import record_start
from downslope.training.facts.convexity import convexity
from downslope.training.loop import Loop
from downslope.training.prepare import prepare, probe_price
from downslope.training.recorder import Recorder, new_folder
from downslope.training.state import OnProbe, StepState
from downslope.training.stopping import total_steps
from downslope.training.summary import summarise
from downslope.training.targets import refuse

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
    run = _run_of(problem, recipe, folder, name, resume)
    if callable(recipe.init) and not isinstance(recipe.init, Lost):
        run.facts["init"] = starts.told(recipe.init)
    observe = run.choices.setdefault("observe", observe)
    if terrain:
        run.choices.setdefault("terrain", terrain)
    resumed = resume and run.folder is not None and is_kept(run.folder)
    state, train, valid, batch_size, observer, first = prepare(run, problem, recipe, resumed=resumed)
    if not resume:
        refuse(problem, first[0].output)
    if progress and "optimizer" not in recipe.said:
        sys.stderr.write(f"fit: {recipe}\n")
    if not resume:
        args, kwargs, _ = state.objective.split(state.batch)
        broadcast.tell(state.objective, first[0], args or (kwargs,))
    if progress and not resumed:
        _remark(state)
    if progress and "weights" in run.facts:
        sys.stderr.write(f"fit: {run.facts['weights']['line']}\n")
    if observe > 0 and run.folder is not None and not resume:  # else the problem, or the folder, is at hand
        record_start(run, problem, recipe, state.batch, *first)
    del first  # it holds the graph of a forward pass
    products = sum(each["products"] for each in observer.modules.values())
    threads = run.choices.setdefault("threads", choices.choose_threads(products, state.device))
    with choices.threads(threads):
        length = total_steps(run.recipe or recipe, train, batch_size)
        ways.arrange(state, train, batch_size, products, length, tell=progress)
    if "probe_price" not in run.choices:
        with choices.threads(threads):
            run.choices["probe_price"] = probe_price(state, observer, batch_size) if observe > 0 else 1.0
    recorder = Recorder(run)
    run.facts |= {"modules": observer.modules, "activations": observer.activations}
    for fact, value in run.facts.items():
        recorder.fact(fact, value)
    loop = Loop(
        state,
        recorder,
        train,
        valid,
        batch_size=batch_size,
        times=choices.ProbeTimes(
            run.choices["probe_price"], observe, free=2, total=total_steps(state.recipe, train, batch_size)
        ),
        observer=observer,
        on_probe=on_probe,
        progress=progress,
        seconds=seconds,
    )
    if loop.depths.units:
        recorder.fact("depth", loop.depths.describe())
    if progress and loop.depths.units:
        sys.stderr.write(f"fit: {told_depth(run.facts['depth'], state.recipe)}\n")
    try:
        with choices.threads(threads):
            loop.deadline.begin(time.perf_counter() - started)
            loop.go(resume=resume)
            summarise(loop, started)
            if loop.take.curved is not None:
                loop.take.curved.climbed(recorder)
            if observe > 0 and record(run, "convexity", lambda: convexity(run, state.model)) is not None:
                recorder.fact("convexity", run.facts["convexity"])
    except BaseException as error:
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        took = loop.earlier + time.perf_counter() - started
        run.summary = {"steps": state.step, "seconds": took} | run.summary
        recorder.close()
        if isinstance(error, InputError) and not state.step and not resume:
            recorder.discard()
        raise
    recorder.close()
    return run


_ERROR = re.compile(r"error|loss|(^|_)(rm?s?e|mse|mae|mape|nll|perplexity|wer|cer)($|_)|distance|deviation")
"""Names of metrics of one's own that get better as they fall."""


def _remark(state: StepState) -> None:
    """Say what is to be said of the start, if anything is."""
    args, kwargs, target = state.problem.splitter(state.batch)
    said = remark(state.model, state.recipe.init, batches.Parts(args, kwargs, target))
    if said is not None:
        _log.warning("%s", said)
    if state.recipe.patience is not None and state.problem.valid_source is None:
        _log.warning(
            "patience=%d counts epochs without a better validation metric, and there is no validation data: "
            "nothing stops early",
            state.recipe.patience,
        )
    problem = state.problem
    name = str(getattr(problem.metric, "__name__", ""))
    undecided = problem.metric_goal is None and not hasattr(problem.metric, "goal")
    if undecided and _ERROR.search(name.lower()):
        _log.warning(
            "metric %s: higher counts as better, as of every metric of one's own; metric_goal='min' says "
            "that it is an error",
            name,
        )


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
    if isinstance(run.recipe.optimizer, Lost):
        raise RunFolderError(f"{run.folder}: its optimizer is code that no file holds; start anew with fit")
    return run.recipe


def _run_of(
    problem: Problem,
    recipe: Recipe,
    folder: str | Path | Literal[False] | None,
    name: str | None,
    resume: bool,
) -> Run:
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
    return Run(
        recipe=recipe, problem=problem, folder=place, environment=environment(), described=described,
        choices=chosen,
    )  # fmt: skip
