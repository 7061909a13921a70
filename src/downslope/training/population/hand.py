"""What one does who trains members for another process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from downslope.core.problem import Problem
from downslope.core.randomness import ONE_AT_A_TIME
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.training.evaluate import Evaluation
from downslope.training.facts import one_line
from downslope.training.population.members import OnEvaluation
from downslope.training.population.sent import packed, unpack

Ended = Run | Exception | None
"""The run of a member; why it failed; or None where its time was up."""


@dataclass(frozen=True)
class Job:
    """A member to be trained, or several that train together.

    Attributes:
        index: Its place in the population.
        problem: What.
        recipe: How.
        place: Where it is kept; False for nowhere.
        observe: As in `fit`.
        others: Those of its shape that take their steps with it.
    """

    index: int
    problem: Problem
    recipe: Recipe
    place: Path | Literal[False]
    observe: float
    others: tuple[Job, ...] = ()

    @property
    def each(self) -> tuple[Job, ...]:
        """Its members one by one."""
        return (replace(self, others=()), *self.others)

    def placed(self, place: Callable[[int], Path]) -> Job:
        """The same, those that are kept anywhere kept at ``place(index)``."""
        own = self.place if self.place is False else place(self.index)
        return replace(self, place=own, others=tuple(each.placed(place) for each in self.others))


class Order(NamedTuple):
    """A job and all that its numbers hang on: those of the process that asks.

    Attributes:
        job: What is trained.
        seconds: That are left; None without a limit.
        threads: Within an operation.
        dtype: torch's default.
        deterministic: Whether torch may take no other algorithms, and whether it only warns.
        precision: Of products in float32.
        heard: Whether who asks wants to be told of evaluations.
        why: What the run says of how it was trained.
    """

    job: Job
    seconds: float | None
    threads: int
    dtype: torch.dtype
    deterministic: tuple[bool, bool]
    precision: str
    heard: bool
    why: str


def begin() -> None:
    """Make a fresh process one that trains: Ctrl-C is heard within a run, and it ends with who asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def work(sent: bytes, address: Any, secret: bytes) -> bytes:
    """Train what was packed, and ask at `address` on the way; what `sealed` gives of it.

    Args:
        sent: An order.
        address: Where the one who asks listens.
        secret: Proves that it is this program that speaks there.
    """
    try:
        order: Order = unpack(sent)
        with Client(address, authkey=secret) as line:
            line.send((order.job.index, os.getpid()))

            def ask(member: int, step: int, found: Evaluation) -> bool:
                line.send((member, step, found))
                return line.recv()

            found: dict[int, Ended] | Exception = trained(order, ask)
    except Exception as error:  # noqa: BLE001 (raised again by who asked)
        found = error
    return sealed(found)


def trained(order: Order, ask: OnEvaluation) -> dict[int, Ended]:
    """What became of the members of an order, by their places in the population.

    Args:
        order: What, and how the process is set for it.
        ask: Called at every evaluation, if that is wanted.
    """
    from downslope.training.broadcast import once
    from downslope.training.population.company import Company
    from downslope.training.progress import Progress

    each = order.job.each

    def on_evaluation(member: int, step: int, found: Evaluation) -> bool:
        return ask(each[member].index, step, found)

    torch.set_num_threads(order.threads)
    torch.set_default_dtype(order.dtype)
    torch.use_deterministic_algorithms(order.deterministic[0], warn_only=order.deterministic[1])
    torch.set_float32_matmul_precision(order.precision)
    until = None if order.seconds is None else time.monotonic() + order.seconds
    with ONE_AT_A_TIME, once(), Progress("members", len(each), shown=False) as bar:
        company = Company(
            [(job.problem, job.recipe) for job in each], [job.place for job in each],
            observe=order.job.observe, strict=False, until=until,
            way="together" if len(each) > 1 else "one by one", workers=1, bar=bar,
            on_evaluation=on_evaluation if order.heard else None,
        )  # fmt: skip
        company.asked, company.where = order.why, f", {order.why}"
        company.train()
    return {job.index: company.errors.get(place, company.runs.get(place)) for place, job in enumerate(each)}


def sealed(found: dict[int, Ended] | Exception, *more: object) -> bytes:
    """What became of members, or why nothing did, packed for who asked; with more beside it a tuple."""
    told: Any = _portable(found)
    if isinstance(found, dict):
        told = {index: _portable(each) for index, each in found.items()}
    for run in found.values() if isinstance(found, dict) else ():
        if isinstance(run, Run):
            run.problem = run.recipe = None  # who asked has them
    try:
        return packed((told, *more) if more else told)
    except Exception as error:  # noqa: BLE001 (a fact of the user's may refuse in any way)
        return pickle.dumps(RuntimeError(f"its run cannot be sent back: {one_line(error)}"))


def opened(sent: bytes, job: Job) -> tuple[dict[int, Ended], Any]:
    """What `sealed` packed for a job: what became of each member, and what was beside it."""
    content: Any = unpack(sent)
    found, beside = content if isinstance(content, tuple) else (content, None)
    if isinstance(found, Exception):
        return {each.index: found for each in job.each}, beside
    return found, beside


def _portable(error: Any) -> Any:
    """An error, if it can be sent; else one that says the same. What is none as it is."""
    if not isinstance(error, Exception):
        return error
    with contextlib.suppress(Exception):
        error.__traceback__ = error.__cause__ = error.__context__ = None
        again = unpack(packed(error))
        if str(again) == str(error):
            return error
    return RuntimeError(one_line(error))
