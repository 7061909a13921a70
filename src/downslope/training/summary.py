"""What a run says of itself at its end: the model that it hands out, on training and validation data."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from downslope.core import batches
from downslope.core.errors import InputError
from downslope.core.fixed_sample import drawn
from downslope.core.loss import Objective, learnt
from downslope.core.run import OBJECTIVE
from downslope.core.sources import Memory, Source
from downslope.core.weights import copied
from downslope.training.evaluate import BATCH, Evaluation
from downslope.training.loop import Loop
from downslope.training.progress import Progress
from downslope.training.spread import known_errors, penalties
from downslope.training.stopping import Watchman

_log = logging.getLogger("downslope")


def summarise(loop: Loop, started: float) -> None:
    """Put weights and summary into the run of `loop`, which has ended.

    Args:
        loop: Its last model comes back as it was.
        started: When the run began, by `time.perf_counter`.

    Raises:
        InputError: the metric fails on the training data.
    """
    state, run = loop.state, loop.state.run
    which, best_step = handed_out(loop.watchman, state.step, kept=loop.best is not None)
    own, at_last = loop.judged is state.model, which == "best" and best_step == state.step
    last = loop.best if own and at_last and loop.best else copied(loop.judged.state_dict())
    run.weights = {"last": last, "best": loop.best or last}
    if (beside := learnt(state.objective.function)) is not None:
        run.weights[OBJECTIVE] = copied(beside.state_dict())
        if factors := getattr(beside, "factors", None):
            loop.recorder.fact("task_weights", factors)
    if best_step != state.step:
        loop.judged.load_state_dict(run.weights["best"])
    try:
        train, valid = _judged(loop, best_step)
    except InputError:
        if run.status != "diverged":
            raise
        train = valid = Evaluation(math.nan, None, 0, math.nan)  # no metric takes a NaN
    seconds = loop.earlier + time.perf_counter() - started
    run.summary = summary_of(
        train, None if loop.valid is None else valid, state.objective, loop.judged,
        size=loop.train.size, steps=state.step, seconds=seconds, which=which, best_step=best_step,
    )  # fmt: skip
    if best_step != state.step or not own:
        loop.judged.load_state_dict(last)


def handed_out(watchman: Watchman, step: int, *, kept: bool) -> tuple[Literal["best", "last"], int]:
    """Which model a run hands out after `step` steps, and the step that it is of.

    Args:
        watchman: Knows the best step; where every metric was NaN there is none, which is told.
        step: Of the last model.
        kept: Whether any weights were kept as the best.
    """
    if watchman.blind:
        _log.warning("the metric was NaN at every evaluation: the model is the last, not the best")
    if watchman.blind or not kept:
        return "last", step
    return "best", watchman.best_step


def summary_of(
    train: Evaluation,
    valid: Evaluation | None,
    objective: Objective,
    model: nn.Module,
    *,
    size: int | None,
    steps: int,
    seconds: float,
    which: Literal["best", "last"],
    best_step: int,
) -> dict[str, Any]:
    """What a run says of the model that it hands out.

    Args:
        train: The model on training data, with standard errors.
        valid: On validation data, with them; None without such data.
        objective: Its penalties are told beside the risk.
        model: What is handed out, with its weights in place.
        size: Examples of the training data, where they are known.
        steps: Optimizer steps of the run.
        seconds: That it took.
        which: Whether the model is the best or the last.
        best_step: The step that it is of.
    """
    return {
        "train_loss": train.loss,
        "train_metric": train.metric,
        "valid_loss": None if valid is None else valid.loss,
        "valid_metric": None if valid is None else valid.metric,
        **train.columns("train"),
        **({} if valid is None else valid.columns("valid")),
        **known_errors("train", train),
        **({} if valid is None else known_errors("valid", valid)),
        **penalties(objective, model, train.loss),
        **({} if train.n >= (size or 0) else {"train_n": train.n}),
        "steps": steps,
        "seconds": seconds,
        "model": which,
        "best_step": best_step,
    }


def _judged(loop: Loop, step: int) -> tuple[Evaluation, Evaluation | None]:
    """The model of `step` on training and validation data; where it was measured in the end, as it was."""
    known = loop.measured if loop.measured is not None and loop.measured[0] == step else None
    valid = None if loop.valid is None or known is None else known[1]
    count = loop.deadline.judged(loop.seen)
    sizes = [loop.train.size if count is None else count]
    sizes += [loop.valid.size] if valid is None and loop.valid is not None else []
    total = None if None in sizes else sum(each or 0 for each in sizes)
    with Progress("evaluating", total, shown=loop.progress, unit="examples", brief=True) as bar:
        done = 0
        if valid is None and loop.valid is not None:
            valid = loop.evaluation(loop.valid, errors=True, tell=bar.update)
            done = valid.n
            count = loop.deadline.judged(loop.seen)  # that took some of the time
        part = loop.train if count is None else _part(loop.train, count)
        train = loop.evaluation(part, errors=True, tell=lambda n: bar.update(done + n))
    return train, valid


def _part(source: Source, count: int) -> Source:
    """`count` examples of `source` that stand for all of them, the same at every call."""
    if isinstance(source, Memory):
        return Memory(drawn(source, source.batch, count))
    return First(source, count)


class First:
    """The first batches of a pass in the source's own random order, which is the same every time.

    Args:
        source: Of many examples.
        count: Examples; a last batch is taken whole.
    """

    def __init__(self, source: Source, count: int) -> None:
        self.source, self.size = source, count

    def steps(self, batch_size: int) -> int:
        """Batches in one pass."""
        return -(-self.size // batch_size)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """The same batches in any epoch."""
        del seed, epoch
        return self.stored(batch_size)

    def stored(self, batch_size: int) -> Iterator[Any]:
        """The batches, no larger than the source gives them in stored order."""
        fitting = batches.length(next(iter(self.source.stored(min(batch_size, BATCH)))))
        parts = -(-self.size // fitting)
        done = 0
        for batch in self.source.epoch(-(-self.size // parts), 0, 0):
            yield batch
            done += batches.length(batch)
            if done >= self.size:
                return
