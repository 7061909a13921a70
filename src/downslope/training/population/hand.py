"""What one does who trains members for another process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from downslope.training.population.sent import packed, unpack

Ask = Callable[[int, Evaluation], bool]
"""``(step, evaluation) -> bool``: whether who asked for the run ends it there."""


@dataclass(frozen=True)
class Job:
    """A member to be trained.

    Attributes:
        index: Its place in the population.
        problem: What.
        recipe: How.
        place: Where it is kept; False for nowhere.
        observe: As in `fit`.
    """

    index: int
    problem: Problem
    recipe: Recipe
    place: Path | Literal[False]
    observe: float


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

            def ask(step: int, found: Evaluation) -> bool:
                line.send((step, found))
                return line.recv()

            found: Run | Exception | None = trained(order, ask)
    except Exception as error:  # noqa: BLE001 (raised again by who asked)
        found = error
    return sealed(found)


def trained(order: Order, ask: Ask) -> Run | None:
    """The run of an order; None where its time was up.

    Args:
        order: What, and how the process is set for it.
        ask: Called at every evaluation, if that is wanted.
    """
    from downslope.training.broadcast import once
    from downslope.training.population.company import Company
    from downslope.training.progress import Progress

    job = order.job

    def on_evaluation(member: int, step: int, found: Evaluation) -> bool:
        del member
        return ask(step, found)

    torch.set_num_threads(order.threads)
    torch.set_default_dtype(order.dtype)
    torch.use_deterministic_algorithms(order.deterministic[0], warn_only=order.deterministic[1])
    torch.set_float32_matmul_precision(order.precision)
    until = None if order.seconds is None else time.monotonic() + order.seconds
    with ONE_AT_A_TIME, once(), Progress("member", 1, shown=False) as bar:
        company = Company(
            [(job.problem, job.recipe)], [job.place],
            observe=job.observe, strict=True, until=until, way="one by one", workers=1, bar=bar,
            on_evaluation=on_evaluation if order.heard else None,
        )  # fmt: skip
        company.asked = order.why
        return next(iter(company.train()), None)


def sealed(found: Run | Exception | None, *more: object) -> bytes:
    """A run, None where the time was up, or an error, packed for who asked; with more beside it a tuple."""
    if isinstance(found, Exception):
        found = _portable(found)
    if isinstance(found, Run):
        found.problem = found.recipe = None  # who asked has them
    try:
        return packed((found, *more) if more else found)
    except Exception as error:  # noqa: BLE001 (a fact of the user's may refuse in any way)
        return pickle.dumps(RuntimeError(f"its run cannot be sent back: {one_line(error)}"))


def _portable(error: Exception) -> Exception:
    """The error, if it can be sent; else one that says the same."""
    with contextlib.suppress(Exception):
        error.__traceback__ = error.__cause__ = error.__context__ = None
        again = unpack(packed(error))
        if str(again) == str(error):
            return error
    return RuntimeError(one_line(error))
