"""The verb `fit`: a problem and a recipe become a run."""

from __future__ import annotations

import copy
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from downslope.core import batches
from downslope.core.asked import check_asked
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, RunFolderError, told
from downslope.core.loss import Loss, Objective, check_trainable
from downslope.core.problem import Problem
from downslope.core.randomness import ONE_AT_A_TIME
from downslope.core.recipe import Lost, Recipe
from downslope.core.run import Run, load_run
from downslope.core.sources import Loader, Memory, Source
from downslope.core.weights import copied
from downslope.data.gaps import gaps
from downslope.training import choices
from downslope.training.checkpoint import check_resume, check_same
from downslope.training.environment import environment
from downslope.training.evaluate import Evaluation, check_ending
from downslope.training.facts.at_start import Nodes, nodes, record_start
from downslope.training.hints import hint
from downslope.training.loop import Loop
from downslope.training.optimizer import build_optimizer
from downslope.training.probes import Observer
from downslope.training.recorder import Recorder, new_folder
from downslope.training.state import OnProbe, StepState

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
        seconds: Longest time to train, in (0, inf): the run ends after the step that it is in, as one that is
            done, and ``run.facts["cut"]`` says so. Schedules keep the length that the recipe gives.

    Returns:
        The Run; ``run.model()`` is the best model on validation data, or the last without.

    Raises:
        InputError: data, objective, model or recipe cannot be used; one line, nothing is left in `folder`.
        RunFolderError: the folder cannot be written, holds a run already, or none to resume.
    """
    check_asked(problem, recipe)
    _check_folder(folder)
    if not 0 <= observe < 1:
        raise InputError(f"observe={observe!r}: must lie in [0, 1), it is a share of the time; 0 is off")
    if resume and not folder:
        raise InputError(f"resume=True with folder={folder!r}: give the folder of the run to go on with")
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds={seconds!r}: must lie in (0, inf); leave it out for no limit")
    if resume and folder and recipe is None:
        recipe = _recipe_of(load_run(folder))
    with ONE_AT_A_TIME:  # runs in threads share torch's global generators
        return _fit(problem, recipe or Recipe(), folder, name, progress, observe, on_probe, resume, seconds)


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
) -> Run:
    if progress and "optimizer" not in recipe.said:
        sys.stderr.write(f"fit: {recipe}\n")
    started = time.perf_counter()
    _refuse_non_finite(problem)
    run = _run_of(problem, recipe, folder, name, resume)
    observe = run.choices.setdefault("observe", observe)
    state, train, valid, batch_size, observer, first = _prepare(run, problem, recipe)
    if observe > 0 and run.folder is not None and not resume:  # else the problem, or the folder, is at hand
        record_start(run, problem, recipe, state.batch, *first)
    del first  # it holds the graph of a forward pass
    products = sum(each["products"] for each in observer.modules.values())
    threads = run.choices.setdefault("threads", choices.choose_threads(products, state.device))
    if "probe_price" not in run.choices:
        with choices.threads(threads):
            run.choices["probe_price"] = _probe_price(state, observer, batch_size) if observe > 0 else 1.0
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
        times=choices.ProbeTimes(run.choices["probe_price"], observe, free=2),
        observer=observer,
        on_probe=on_probe,
        progress=progress,
        seconds=seconds,
    )
    try:
        with choices.threads(threads):
            loop.go(resume=resume)
            _summarise(loop, started)
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
    if run.status in ("done", "goal", "early-stopped", "diverged"):
        for which in ("last", "best"):  # a run of which no weights can be read is none to come back to
            run.state(which)
        _log.warning("%s: nothing to resume, the run has ended (%s)", folder, run.status)
        return run
    return fit(run.the_problem(), _recipe_of(run), folder=folder, progress=progress, resume=True)


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
            kept = ("observe", "probe_price", "threads")
            chosen = {key: former.choices[key] for key in kept if key in former.choices}
    return Run(
        recipe=recipe, problem=problem, folder=place, environment=environment(), described=described,
        choices=chosen,
    )  # fmt: skip


def _prepare(
    run: Run, problem: Problem, recipe: Recipe
) -> tuple[StepState, Source, Source | None, int, Observer, tuple[Loss, Nodes]]:
    """Model, optimizer and data on the device; the first batch tried before anything is written."""
    device = choices.choose_device(recipe)
    model = problem.build(recipe.seed, recipe.init).to(device)
    precision = choices.choose_precision(recipe, model, device)
    if precision == "float64":
        model = model.double()
    elif recipe.precision == "float32":
        model = model.float()
    recipe = run.recipe = recipe.settled(model)  # groups that hang on the model become data
    optimizer = build_optimizer(recipe, model)
    plan = getattr(optimizer, "plan", None)
    run.choices |= {"device": str(device), "precision": precision}
    dtype = next(model.parameters()).dtype
    train = _on_device(problem.train_source, device, dtype)
    valid = None if problem.valid_source is None else _on_device(problem.valid_source, device, dtype)
    batch_size = _batch_size(recipe, train)
    run.choices["batch_size"] = batch_size
    if isinstance(train, Loader):
        run.choices["own_batch"] = train.batch_size or "of the DataLoader's sampler"
    observer = Observer(model)
    state = StepState(
        run=run, problem=problem, recipe=recipe, model=model, optimizer=optimizer,
        objective=Objective(problem), device=device,
    )  # fmt: skip
    state.batch = _first_batch(state, train, batch_size, dtype)
    first = _try(state, observer)
    if valid is None:  # else a first evaluation tells
        check_ending(problem, model, state.batch, train)
    if plan is not None:
        run.choices["optimizer"] = str(plan())
    return state, train, valid, batch_size, observer, first


def _first_batch(state: StepState, train: Source, batch_size: int, dtype: torch.dtype) -> Any:
    try:
        batch = next(iter(train.epoch(batch_size, state.recipe.seed, 0)))
    except StopIteration:
        raise DataError("the training data gave no batch: it is empty") from None
    return batches.to(batch, state.device, dtype)


def _try(state: StepState, observer: Observer) -> tuple[Loss, Nodes]:
    """One forward pass that leaves no trace: shapes, the objective's scalar, and what modules there are."""
    model = state.model
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]), observer.forward(), nodes(model) as seen:
            loss = state.objective(model, state.batch)
    except DownslopeError:
        raise
    except Exception as error:
        raise _unusable(state, error) from error
    observer.survey()
    check_trainable(model, loss)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return loss, seen


def _unusable(state: StepState, error: Exception) -> ModelError:
    """One line for what model or objective raised on a batch."""
    shapes = [tuple(each.shape) for each in batches.tensors(state.batch)]
    return ModelError(
        f"a batch of shapes {shapes} cannot be put through model and objective {state.objective.label}: "
        f"{told(error)}{hint(error, state.problem, state.batch)}"
    )


def _probe_price(state: StepState, observer: Observer, batch_size: int) -> float:
    """The cost of a probed step in plain steps: measured on a copy of the model, once for its signature."""
    shapes = [tuple(each.shape) for each in batches.tensors(state.batch)]
    key = "probe/" + choices.signature(state.model, shapes, batch_size, str(state.device))

    def measure() -> float:
        try:
            model: nn.Module = copy.deepcopy(state.model)
            objective = copy.deepcopy(state.objective)  # it may count its calls
        except Exception:  # noqa: BLE001 (any module may refuse to be copied; then a cautious guess stands)
            return 4.0
        twin = Observer(model)
        twin.functional = observer.functional

        def plain() -> None:
            model.zero_grad()
            objective(model, state.batch).value.backward()

        def probed() -> None:
            model.zero_grad()
            with twin.forward():
                loss = objective(model, state.batch)
            loss.value.backward()
            twin.gradients()
            twin.weights()
            twin.updates()

        try:
            with torch.random.fork_rng(devices=[]):
                return choices.probe_price(plain, probed)
        except DownslopeError:
            raise
        except Exception as error:  # a model that fails on some of its calls only
            raise _unusable(state, error) from error

    return float(choices.remembered(key, measure))


def _on_device(source: Source, device: torch.device, dtype: torch.dtype) -> Source:
    """Data in memory moves to the device where it fits into half of what is free there."""
    if not isinstance(source, Memory):
        return source
    if device.type == "cuda" and source.bytes > torch.cuda.mem_get_info(device)[0] / 2:
        loader: Any = torch.utils.data.TensorDataset(*batches.tensors(source.batch))
        return Loader(torch.utils.data.DataLoader(loader, batch_size=64, shuffle=True))
    return source.to(device, dtype)


def _batch_size(recipe: Recipe, train: Source) -> int:
    if isinstance(train, Memory):
        return train.size if recipe.batch_size == "full" else min(recipe.batch_size, train.size)
    if not isinstance(train, Loader):
        return (train.size or 64) if recipe.batch_size == "full" else recipe.batch_size
    own = train.batch_size
    if "batch_size" in recipe.said and own != recipe.batch_size and not train.told:
        train.told = True
        _log.warning(
            "the DataLoader's own batches of %s win over the recipe's batch_size %s",
            own or "its sampler", recipe.batch_size,
        )  # fmt: skip
    return own or 1


def _refuse_non_finite(problem: Problem) -> None:
    """Data in memory with a NaN or infinity is refused here; `diagnose` reports it instead.

    Raises:
        DataError: naming the first by file, line and column, or by part, row and column.
    """
    for what, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        if not isinstance(source, Memory):
            continue
        found = next(gaps(source, problem.splitter, what), None)
        if found is not None:
            raise DataError(f"{found.said}; remove such rows, or fill in what is missing, and fit again")


def _summarise(loop: Loop, started: float) -> None:
    state, run = loop.state, loop.state.run
    last = copied(loop.judged.state_dict())
    which = "best" if loop.best is not None else "last"
    if loop.watchman.blind:
        _log.warning("the metric was NaN at every evaluation: the model is the last, not the best")
        which = "last"
    run.weights = {"last": last, "best": loop.best or last}
    if which == "best" and loop.watchman.best_step != state.step:
        loop.judged.load_state_dict(run.weights["best"])
    try:
        train = loop.evaluation(loop.train)
        valid = None if loop.valid is None else loop.evaluation(loop.valid)
    except InputError:
        if run.status != "diverged":
            raise
        train = valid = Evaluation(math.nan, None, 0, math.nan)  # no metric takes a NaN
    loop.judged.load_state_dict(last)
    run.summary = {
        "train_loss": train.loss,
        "train_metric": train.metric,
        "valid_loss": None if valid is None or loop.valid is None else valid.loss,
        "valid_metric": None if valid is None or loop.valid is None else valid.metric,
        "steps": state.step,
        "seconds": loop.earlier + time.perf_counter() - started,
        "model": which,
        "best_step": loop.watchman.best_step if which == "best" else state.step,
    }
