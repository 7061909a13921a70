"""Members in processes of their own: those that cannot go together, on as many cores as they are given."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import torch

from downslope.core.errors import DownslopeError
from downslope.core.run import Run
from downslope.training import choices
from downslope.training.evaluate import Evaluation
from downslope.training.facts import one_line
from downslope.training.population.hand import Job, Order, begin, work
from downslope.training.population.members import OnEvaluation
from downslope.training.population.sent import Parcels, unpack
from downslope.training.stopping import stoppable

IDLE = 300.0
"""Seconds after which a process ends that nobody asks for anything: starting one imports torch."""

TRIES = 2
"""Deaths of its process after which a member is failed: it may be what kills them."""

GRACE = 5.0
"""Seconds that runs have for the step they are in after Ctrl-C, and to be written."""

Ended = Run | Exception | None
"""The run; why it failed; or None where its time was up."""


class WorkerDiedError(DownslopeError):
    """The process that trained a member was killed, and the one that tried again as well."""


class UnsentError(DownslopeError):
    """A member that cannot be sent to another process."""


def run_apart(
    jobs: Sequence[Job],
    workers: int,
    *,
    until: float | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Generator[tuple[int, Ended]]:
    """Train every member in one of `workers` processes, each as `fit` alone does, to the same bits.

    The processes stay for the next population. Each takes ``cores / workers`` threads within an operation,
    and no more than this one has: the bits are those of `fit` at that number. Data are in memory once: each
    large tensor is written to a file, which all processes map. A member whose process is killed is begun
    anew, once. Closing the iterator, or Ctrl-C a second time, ends the processes at work.

    Args:
        jobs: The members.
        workers: How many processes, in [1, inf).
        until: `time.monotonic` by which it ends.
        on_evaluation: As in `fit_population`; it is called in this process.

    Yields:
        Index and outcome of each, as they end; after Ctrl-C what the runs in hand have come to.
    """
    with contextlib.closing(_Foreman(jobs, workers, until, on_evaluation)) as foreman:
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


class _Foreman:
    """Gives out jobs and hears what comes back: all of it in one queue, answered by one thread."""

    def __init__(
        self, jobs: Sequence[Job], workers: int, until: float | None, on_evaluation: OnEvaluation | None
    ) -> None:
        self.jobs = {job.index: job for job in jobs}
        self.waiting = deque(job.index for job in jobs)
        self.fresh = {job.index: job.place is False or not job.place.exists() for job in jobs}
        self.deaths = dict.fromkeys(self.jobs, 0)
        self.workers = min(workers, len(jobs))
        self.until, self.on_evaluation = until, on_evaluation
        self.busy: dict[int, _Hand] = {}
        self.events: queue.SimpleQueue[tuple[str, int, Any]] = queue.SimpleQueue()  # a signal may put into it
        self.ends: float | None = None
        self.parcels = Parcels()
        self.secret = secrets.token_bytes(16)
        self.listener = Listener(authkey=self.secret)
        threading.Thread(target=self._listen, daemon=True).start()
        self.threads = max(1, min(torch.get_num_threads(), choices.cores() // max(1, workers)))

    # -- the way ------------------------------------------------------------------------------------------

    def go(self) -> Generator[tuple[int, Ended]]:
        interrupted = False
        with stoppable(self._stop):  # which raises nowhere: an answer that is not sent holds a run for ever
            while self.waiting or self.busy:
                if self.ends is not None:
                    self._call()
                    if time.monotonic() > self.ends:
                        break
                yield from self._give_out()
                for index, ended in self._next():
                    if self.ends is not None and isinstance(ended, WorkerDiedError):
                        continue
                    interrupted = interrupted or (isinstance(ended, Run) and ended.status == "interrupted")
                    yield index, ended
        if self.ends is not None:
            end_all()
            if not interrupted:
                raise KeyboardInterrupt

    def _next(self) -> Generator[tuple[int, Ended]]:
        """What the next event says; after Ctrl-C it is not waited for long."""
        if not self.busy:
            return
        try:
            event = self.events.get(timeout=None if self.ends is None else 0.2)
        except queue.Empty:
            return
        if event[0] != "stopped":
            yield from self._hear(event)

    def _give_out(self) -> Generator[tuple[int, Ended]]:
        while self.waiting and len(self.busy) < self.workers:
            index = self.waiting.popleft()
            left = None if self.until is None else self.until - time.monotonic()
            if left is not None and left <= 0:
                yield index, None
                continue
            try:
                sent = self.parcels.pack(self._order(self.jobs[index], left))
            except Exception as error:  # noqa: BLE001 (an object of the user's may refuse in any way)
                yield index, UnsentError(f"it cannot be sent to another process: {one_line(error)}")
                continue
            hand = self.busy[index] = _idle.pop() if _idle else _Hand()
            self._submit(hand, index, sent)

    def _submit(self, hand: _Hand, index: int, sent: bytes) -> None:
        try:
            future = hand.pool.submit(work, sent)
        except Exception:  # noqa: BLE001 (one that died while it waited: loky has several names for that)
            hand.end()
            hand = self.busy[index] = _Hand()
            future = hand.pool.submit(work, sent)

        def done(what: object) -> None:
            self.events.put(("done", index, what))

        future.add_done_callback(done)

    def _order(self, job: Job, left: float | None) -> Order:
        return Order(
            job, left, self.threads, torch.get_default_dtype(),
            (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            torch.get_float32_matmul_precision(), self.listener.address, self.secret,
            self.on_evaluation is not None,
        )  # fmt: skip

    def _hear(self, event: tuple[str, int, Any]) -> Generator[tuple[int, Ended]]:
        kind, index, what = event
        if kind == "begun":
            if index in self.busy:
                self.busy[index].pid = what
        elif kind == "evaluated":
            self._answer(index, *what)
        else:
            hand = self.busy.pop(index)
            if what.exception() is not None:
                yield from self._died(index, hand, what.exception())
                return
            _idle.append(hand)
            found: Ended = unpack(what.result())
            if isinstance(found, Run):
                found.problem, found.recipe = self.jobs[index].problem, self.jobs[index].recipe
            yield index, found

    def _answer(self, index: int, line: Connection, step: int, found: Evaluation) -> None:
        ends = self.on_evaluation is not None and bool(self.on_evaluation(index, step, found))
        with contextlib.suppress(OSError):  # it may be dead by now, which its future tells
            line.send(ends)

    def _died(self, index: int, hand: _Hand, error: BaseException) -> Generator[tuple[int, Ended]]:
        """Begin a member anew whose process was killed; of the second death it is failed."""
        hand.end()
        self.deaths[index] += 1
        if self.deaths[index] >= TRIES:
            why = "maybe for want of memory, or by its own code"
            said = f"the process that trained it was killed {TRIES} times, {why}: {_signal(error)}"
            yield index, WorkerDiedError(said)
            return
        place = self.jobs[index].place
        if place is not False and self.fresh[index]:  # what the dead one wrote, and nothing else
            shutil.rmtree(place, ignore_errors=True)
        self.waiting.appendleft(index)

    # -- the end ------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Ctrl-C: within `GRACE` seconds the runs in hand end, and no other begins."""
        self.ends = time.monotonic() + GRACE
        self.events.put(("stopped", -1, None))

    def _call(self) -> None:
        """Stop the runs in hand after the step that they are in, as Ctrl-C does here."""
        self.waiting.clear()
        self.deaths = dict.fromkeys(self.jobs, TRIES)  # nothing is begun anew
        for hand in self.busy.values():
            if hand.pid is not None:  # again and again: before its first step it does not listen
                with contextlib.suppress(ProcessLookupError):
                    os.kill(hand.pid, signal.SIGINT)

    def close(self) -> None:
        """End the processes that are still at work, and what listens to them."""
        for hand in self.busy.values():
            hand.end()
        self.busy.clear()
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
                self.events.put(("begun", index, pid))
                threading.Thread(target=self._follow, args=(index, line), daemon=True).start()

    def _follow(self, index: int, line: Connection) -> None:
        with line, contextlib.suppress(EOFError, OSError):
            while True:
                self.events.put(("evaluated", index, (line, *line.recv())))


def end_all() -> None:
    """End the processes that wait for work."""
    while _idle:
        _idle.pop().end()


def _signal(error: BaseException) -> str:
    """What the operating system told of a death."""
    _, found, codes = str(error).rpartition("exit codes")
    return f"exit code{codes.partition('}')[0].replace('{', ' ').rstrip()}" if found else one_line(error)
