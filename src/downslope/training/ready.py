"""A run before its first step, and from there to its end: what `fit` and a member of a population share."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar, cast

from torch import nn

from downslope.core import batches
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Source
from downslope.training import broadcast, choices, ways
from downslope.training.checkpoint import is_kept
from downslope.training.depth import told as told_depth
from downslope.training.facts import record
from downslope.training.facts.at_start import record_start
from downslope.training.loop import Loop
from downslope.training.prepare import prepare, probe_price
from downslope.training.probes import Observer
from downslope.training.recorder import Recorder
from downslope.training.state import OnProbe, StepState
from downslope.training.stopping import total_steps
from downslope.training.summary import summarise
from downslope.training.targets import refuse

_log = logging.getLogger("downslope")


class Ready(NamedTuple):
    """A run that could begin: everything was tried, nothing is written."""

    state: StepState
    train: Source
    valid: Source | None
    batch_size: int
    observer: Observer
    products: int
    """Multiply-adds of a forward pass on a batch."""
    observe: float
    started: float
    """By `time.perf_counter`."""


def ready(
    run: Run,
    observe: float,
    *,
    started: float,
    resume: bool = False,
    tell: bool = False,
    model: nn.Module | None = None,
) -> Ready:
    """Model, optimizer and data of `run`, its first batch tried; its folder is not touched.

    Args:
        run: As `run_of` gives it.
        observe: Share of the time that probes may take.
        started: When it began, by `time.perf_counter`.
        resume: Whether the run goes on.
        tell: Whether to say what was chosen and what is to be remarked, on standard error.
        model: As `built` made it for `run`; made here if left out.

    Raises:
        InputError: data, objective, model or recipe cannot be used.
    """
    problem, recipe = cast("Problem", run.problem), cast("Recipe", run.recipe)
    observe = run.choices.setdefault("observe", observe)
    resumed = resume and run.folder is not None and is_kept(run.folder)
    state, train, valid, batch_size, observer, first = prepare(
        run, problem, recipe, resumed=resumed, model=model
    )
    if not resume:
        refuse(problem, first[0].output)
    if tell and "optimizer" not in recipe.said:
        sys.stderr.write(f"fit: {recipe}\n")
    if not resume:
        args, kwargs, _ = state.objective.split(state.batch)
        broadcast.tell(state.objective, first[0], args or (kwargs,))
    if tell and not resumed:
        _remark(state)
    if tell and "weights" in run.facts:
        sys.stderr.write(f"fit: {run.facts['weights']['line']}\n")
    if observe > 0 and run.folder is not None and not resume:  # else the problem, or the folder, is at hand
        record_start(run, problem, recipe, state.batch, *first)
    del first  # it holds the graph of a forward pass
    products = sum(each["products"] for each in observer.modules.values())
    return Ready(state, train, valid, batch_size, observer, products, observe, started)


LoopKind = TypeVar("LoopKind", bound=Loop)


def seated(
    made: Ready,
    kind: type[LoopKind],
    *,
    on_probe: OnProbe | None = None,
    progress: bool = False,
    seconds: float | None = None,
    products: int | None = None,
) -> LoopKind:
    """The loop of a run that is ready, at step 0, its folder opened.

    Args:
        made: What `ready` gave.
        kind: The class of the loop.
        on_probe: As in `fit`.
        progress: Whether to show how far it is.
        seconds: Longest time.
        products: Multiply-adds of all that is computed with it in one step; those of the run if left out.
    """
    state, run = made.state, made.state.run
    products = made.products if products is None else products
    threads = run.choices.setdefault("threads", choices.choose_threads(products, state.device))
    total = total_steps(state.recipe, made.train, made.batch_size)
    with choices.threads(threads):
        if products == made.products:
            ways.arrange(state, made.train, made.batch_size, products, total, tell=progress)
        if "probe_price" not in run.choices:
            priced = made.observe > 0
            run.choices["probe_price"] = probe_price(state, made.observer, made.batch_size) if priced else 1.0
    recorder = Recorder(run)
    run.facts |= {"modules": made.observer.modules, "activations": made.observer.activations}
    for fact, value in run.facts.items():
        recorder.fact(fact, value)
    loop = kind(
        state, recorder, made.train, made.valid,
        batch_size=made.batch_size,
        times=choices.ProbeTimes(run.choices["probe_price"], made.observe, free=2, total=total),
        observer=made.observer, on_probe=on_probe, progress=progress, seconds=seconds,
    )  # fmt: skip
    if loop.depths.units:
        recorder.fact("depth", loop.depths.describe())
        if progress:
            sys.stderr.write(f"fit: {told_depth(run.facts['depth'], state.recipe)}\n")
    return loop


def through(loop: Loop, started: float, *, resume: bool = False) -> Run:
    """Take a loop from where it stands to its end, and to its summary.

    Args:
        loop: As `seated` gave it.
        started: When the run began, by `time.perf_counter`.
        resume: Whether to go on from what the folder keeps.

    Raises:
        InputError: what a step or the measurement at the end raises; a run without any step leaves nothing.
    """
    with ending(loop, started, resume=resume), choices.threads(loop.state.run.choices["threads"]):
        loop.deadline.begin(time.perf_counter() - started)
        loop.go(resume=resume)
        concluded(loop, started)
    return loop.state.run


def concluded(loop: Loop, started: float) -> None:
    """The summary of a loop that has come to its end, what is measured there, and all of it written."""
    run, recorder = loop.state.run, loop.recorder
    summarise(loop, started)
    if loop.take.curved is not None:
        loop.take.curved.climbed(recorder)
    observed = run.choices["observe"] > 0
    if observed and record(run, "convexity", lambda: _convexity(run, loop.state.model)) is not None:
        recorder.fact("convexity", run.facts["convexity"])
    recorder.close()


def _convexity(run: Run, model: nn.Module) -> dict[str, Any]:
    from downslope.training.facts.convexity import convexity

    return convexity(run, model)


@contextlib.contextmanager
def ending(loop: Loop, started: float, *, resume: bool = False) -> Generator[None]:
    """A block of a run, which is written as one that failed or was interrupted where the block raises."""
    state, run, recorder = loop.state, loop.state.run, loop.recorder
    try:
        yield
    except BaseException as error:
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        took = loop.earlier + time.perf_counter() - started
        run.summary = {"steps": state.step, "seconds": took} | run.summary
        recorder.close()
        if isinstance(error, InputError) and not state.step and not resume:
            recorder.discard()
        raise


_ERROR = re.compile(r"error|loss|(^|_)(rm?s?e|mse|mae|mape|nll|perplexity|wer|cer)($|_)|distance|deviation")
"""Names of metrics of one's own that get better as they fall."""


def _remark(state: StepState) -> None:
    """Say what is to be said of the start, if anything is."""
    if state.recipe.init is not None:
        from downslope.init import remark

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
