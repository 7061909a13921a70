"""Who gives members to others to be trained, hears what comes back, and begins anew what was lost."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch

from downslope.core.errors import DownslopeError
from downslope.core.run import Run
from downslope.training.evaluate import Evaluation
from downslope.training.facts import one_line
from downslope.training.population.hand import Ended, Job, Order
from downslope.training.population.members import OnEvaluation
from downslope.training.stopping import stoppable

TRIES = 2
"""Deaths of who trained it after which a member is failed: it may be what kills them."""

GRACE = 5.0
"""Seconds that runs have for the step they are in after Ctrl-C, and to be written."""

Event = tuple[str, int, Any]
"""What happened, to which job (by its first member), and more of it.

"evaluated": how to answer, the member, the step, what was found; "done": the runs, packed; "died": what tells
why; "unbegun": it is to be given out again; "room": there may be more; "gone": what is raised, as nobody
trains any more; "stopped": Ctrl-C.
"""


class WorkerDiedError(DownslopeError):
    """Who trained a member died, and who tried again as well."""


class UnsentError(DownslopeError):
    """A member that cannot be sent elsewhere."""


class GoneError(DownslopeError):
    """All who train are gone at once; members that had not ended are as if they had not begun."""


class Hands(Protocol):
    """Those who train. What happens to a member they put into `events`, from any thread."""

    events: queue.SimpleQueue[Event]
    threads: int
    """Within an operation."""
    why: str
    """What a run says of how it was trained."""

    @property
    def room(self) -> int:
        """How many members can be begun now."""
        ...

    def pack(self, order: Order) -> bytes:
        """An order as it is sent; raises what an object of the user's raises that refuses."""
        ...

    def give(self, index: int, sent: bytes) -> None:
        """Begin a job."""
        ...

    def opened(self, job: Job, what: Any) -> dict[int, Ended]:
        """What came back of the members of a job whose hand is free again."""
        ...

    def buried(self, job: Job, what: Any) -> str:
        """Do away with a hand that died, and with what it left; in words how."""
        ...

    def unbegun(self, index: int) -> None:
        """A job was given to a hand that had died before."""
        ...

    def stop(self, indices: Sequence[int]) -> None:
        """End these after the step that they are in, as Ctrl-C does here."""
        ...

    def dismiss(self) -> None:
        """End those that wait for work."""
        ...

    def close(self, busy: Sequence[int]) -> None:
        """Nothing more is asked of them; who is still at work is ended."""
        ...


class Foreman:
    """Gives out jobs and hears what comes back: all of it in one queue, answered by one thread."""

    def __init__(
        self, jobs: Sequence[Job], hands: Hands, until: float | None, on_evaluation: OnEvaluation | None
    ) -> None:
        self.jobs = {job.index: job for job in jobs}
        self.waiting = deque(job.index for job in jobs)
        self.deaths = dict.fromkeys((each.index for job in jobs for each in job.each), 0)
        self.hands, self.until, self.on_evaluation = hands, until, on_evaluation
        self.busy = set[int]()
        self.ends: float | None = None

    def go(self) -> Generator[tuple[int, Ended]]:
        """Index and outcome of each, as they end; after Ctrl-C what the runs in hand have come to.

        Raises:
            Exception: nobody trains any more, and why.
            KeyboardInterrupt: Ctrl-C, and no run shows it.
        """
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
            self.hands.dismiss()
            if not interrupted:
                raise KeyboardInterrupt

    def close(self) -> None:
        """End what is still at work."""
        self.hands.close(tuple(self.busy))
        self.busy.clear()

    def _next(self) -> Generator[tuple[int, Ended]]:
        """What the next event says; after Ctrl-C it is not waited for long."""
        if not self.busy and not self.waiting:
            return
        try:
            event = self.hands.events.get(timeout=None if self.ends is None else 0.2)
        except queue.Empty:
            return
        yield from self._hear(event)

    def _give_out(self) -> Generator[tuple[int, Ended]]:
        while self.waiting and self.hands.room > 0:
            index = self.waiting.popleft()
            each = [job.index for job in self.jobs[index].each]
            left = None if self.until is None else self.until - time.monotonic()
            if left is not None and left <= 0:
                yield from ((one, None) for one in each)
                continue
            try:
                sent = self.hands.pack(self._order(self.jobs[index], left))
            except Exception as error:  # noqa: BLE001 (an object of the user's may refuse in any way)
                refused = UnsentError(f"it cannot be sent elsewhere: {one_line(error)}")
                yield from ((one, refused) for one in each)
                continue
            self.busy.add(index)
            self.hands.give(index, sent)

    def _order(self, job: Job, left: float | None) -> Order:
        return Order(
            job, left, self.hands.threads, torch.get_default_dtype(),
            (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            torch.get_float32_matmul_precision(), self.on_evaluation is not None, self.hands.why,
        )  # fmt: skip

    def _hear(self, event: Event) -> Generator[tuple[int, Ended]]:
        kind, index, what = event
        if kind == "gone":
            raise what
        if index not in self.busy:
            return
        if kind == "evaluated":
            self._answer(*what)
        elif kind == "unbegun":
            self.busy.discard(index)
            self.hands.unbegun(index)
            self.waiting.appendleft(index)
        elif kind == "died":
            yield from self._died(index, what)
        elif kind == "done":
            self.busy.discard(index)
            job = self.jobs[index]
            ended = self.hands.opened(job, what)
            for each in job.each:
                found = ended[each.index]
                if isinstance(found, Run):
                    found.problem, found.recipe = each.problem, each.recipe
                yield each.index, found

    def _answer(self, answer: Callable[[bool], None], member: int, step: int, found: Evaluation) -> None:
        answer(self.on_evaluation is not None and bool(self.on_evaluation(member, step, found)))

    def _died(self, index: int, what: Any) -> Generator[tuple[int, Ended]]:
        """Begin the members anew whose hand died, each by itself; of the second death one is failed."""
        self.busy.discard(index)
        job = self.jobs[index]
        said = self.hands.buried(job, what)
        why = "maybe for want of memory, or by its own code"
        for each in reversed(job.each):
            self.deaths[each.index] += 1
            if self.deaths[each.index] < TRIES:
                self.jobs[each.index] = each
                self.waiting.appendleft(each.index)
                continue
            died = f"the process that trained it died {self.deaths[each.index]} times"
            yield each.index, WorkerDiedError(f"{died}, {why}: {said}")

    def _stop(self) -> None:
        """Ctrl-C: within `GRACE` seconds the runs in hand end, and no other begins."""
        self.ends = time.monotonic() + GRACE
        self.hands.events.put(("stopped", -1, None))

    def _call(self) -> None:
        """Stop the runs in hand, again and again: before its first step none listens."""
        self.waiting.clear()
        self.deaths = dict.fromkeys(self.deaths, TRIES)  # nothing is begun anew
        self.hands.stop(tuple(self.busy))
