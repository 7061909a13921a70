"""Members in processes of their own: those that cannot go together, on as many cores as they are given."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import signal
import threading
from collections.abc import Generator, Sequence
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import torch

from downslope.training import choices
from downslope.training.facts import one_line
from downslope.training.population.foreman import Event, Foreman
from downslope.training.population.hand import Ended, Job, Order, begin, opened, work
from downslope.training.population.members import OnEvaluation
from downslope.training.population.sent import Parcels

IDLE = 300.0
"""Seconds after which a process ends that nobody asks for anything: starting one imports torch."""


def run_apart(
    jobs: Sequence[Job],
    workers: int,
    *,
    until: float | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Generator[tuple[int, Ended]]:
    """Train every job in one of `workers` processes: a member as `fit` alone does, to the same bits, several
    of one job together.

    The processes stay for the next population. Each takes ``cores / workers`` threads within an operation,
    and no more than this one has: the bits are those of `fit` at that number. Data are in memory once: each
    large tensor is written to a file, which all processes map. A member whose process is killed is begun
    anew by itself, once. Closing the iterator, or Ctrl-C a second time, ends the processes at work.

    Args:
        jobs: The members.
        workers: How many processes, in [1, inf).
        until: `time.monotonic` by which it ends.
        on_evaluation: As in `fit_population`; it is called in this process.

    Yields:
        Index and outcome of each, as they end; after Ctrl-C what the runs in hand have come to.
    """
    foreman = Foreman(jobs, Processes(jobs, workers), until, on_evaluation)
    with contextlib.closing(foreman):
        yield from foreman.go()


class _Hand:
    """One process; an executor of its own, so that a death is that of one member for certain."""

    def __init__(self) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        self.pool: Any = ProcessPoolExecutor(max_workers=1, timeout=IDLE, initializer=begin)
        self.pid: int | None = None

    def end(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self.pool.shutdown(wait=True, kill_workers=self.pid is None)


_idle: list[_Hand] = []
"""Processes that wait for the next population."""


class Processes:
    """`Hands` that are processes of this machine, joblib's loky."""

    why = "in a process of its own"

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()  # a signal may put into it
        every = [each for job in jobs for each in job.each]
        self.fresh = {job.index: job.place is False or not job.place.exists() for job in every}
        self.workers = min(workers, len(every))
        self.threads = max(1, min(torch.get_num_threads(), choices.cores() // max(1, workers)))
        self.busy: dict[int, _Hand] = {}
        self.parcels = Parcels()
        self.secret = secrets.token_bytes(16)
        self.listener = Listener(authkey=self.secret)
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def room(self) -> int:
        """Processes that wait, or that may be started."""
        return self.workers - len(self.busy)

    def pack(self, order: Order) -> bytes:
        """An order; its large tensors as files."""
        return self.parcels.pack(order)

    def give(self, index: int, sent: bytes) -> None:
        """Begin a job in a process that waits, or in a new one."""
        hand = self.busy[index] = _idle.pop() if _idle else _Hand()
        try:
            future = hand.pool.submit(work, sent, self.listener.address, self.secret)
        except Exception:  # noqa: BLE001 (one that died while it waited: loky has several names for that)
            hand.end()
            hand = self.busy[index] = _Hand()
            future = hand.pool.submit(work, sent, self.listener.address, self.secret)

        def done(what: Any) -> None:
            error = what.exception()
            self.events.put(("done", index, what.result()) if error is None else ("died", index, error))

        future.add_done_callback(done)

    def opened(self, job: Job, what: Any) -> dict[int, Ended]:
        """The runs, or why there are none; their process waits for the next."""
        _idle.append(self.busy.pop(job.index))
        return opened(what, job)[0]

    def buried(self, job: Job, what: Any) -> str:
        """Forget the process, and what it wrote where nothing was before."""
        self.busy.pop(job.index).end()
        for each in job.each:
            if each.place is not False and self.fresh[each.index]:
                shutil.rmtree(each.place, ignore_errors=True)
        return _signal(what)

    def unbegun(self, index: int) -> None:
        """A new process is started where one had died: this does not happen."""

    def stop(self, indices: Sequence[int]) -> None:
        """Ctrl-C for each."""
        for index in indices:
            pid = self.busy[index].pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)

    def dismiss(self) -> None:
        """End those that wait."""
        end_all()

    def close(self, busy: Sequence[int]) -> None:
        """End the processes that are still at work, and what listens to them."""
        for index in busy:
            self.busy.pop(index).end()
        with contextlib.suppress(OSError), Client(self.listener.address, authkey=self.secret) as line:
            line.send(None)
        self.parcels.tidy()

    # -- what is told on the way --------------------------------------------------------------------------

    def _listen(self) -> None:
        with self.listener:
            while True:
                try:
                    line = self.listener.accept()
                    said = line.recv()
                except Exception:  # noqa: BLE001 (somebody else who knocks, or one that died as it spoke)
                    continue
                if said is None:
                    line.close()
                    return
                index, pid = said
                hand = self.busy.get(index)
                if hand is not None:
                    hand.pid = pid
                threading.Thread(target=self._follow, args=(index, line), daemon=True).start()

    def _follow(self, index: int, line: Connection) -> None:
        with line, contextlib.suppress(EOFError, OSError):
            while True:
                self.events.put(("evaluated", index, (partial(_answer, line), *line.recv())))


def idle() -> int:
    """How many processes wait for work."""
    return len(_idle)


def end_all() -> None:
    """End the processes that wait for work."""
    while _idle:
        _idle.pop().end()


def _answer(line: Connection, ends: bool) -> None:
    with contextlib.suppress(OSError):  # it may be dead by now, which its future tells
        line.send(ends)


def _signal(error: BaseException) -> str:
    """What the operating system told of a death."""
    _, found, codes = str(error).rpartition("exit codes")
    return f"exit code{codes.partition('}')[0].replace('{', ' ').rstrip()}" if found else one_line(error)
