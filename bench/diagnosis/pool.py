"""Cases in processes of their own: a crash or a case that hangs costs that case and no other."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Record = dict[str, Any]


def _serve(pipe: Connection) -> None:
    from bench.diagnosis.work import work

    while True:
        given = pipe.recv()
        if given is None:
            return
        pipe.send(work(*given))


@dataclass
class _Worker:
    process: Any = None
    pipe: Any = None
    name: str | None = None
    since: float = 0.0

    def start(self) -> None:
        context = mp.get_context("spawn")  # a forked child of torch dies in OpenMP
        ours, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe = ours

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.process = self.pipe = self.name = None


def records(
    names: Sequence[str],
    todo: tuple[str, ...],
    twins: dict[str, Record],
    *,
    jobs: int,
    limit: float,
    blank: Callable[[str], Record],
) -> Iterator[Record]:
    """The record of every case as it is done.

    Args:
        names: Ids of cases, in order.
        todo: What to do with each, beyond training.
        twins: What is known of twins; whoever consumes the records may add to it.
        jobs: Processes.
        limit: Seconds that a case may take.
        blank: Id to the record of a case that was lost.
    """
    left = list(reversed(names))
    workers = [_Worker() for _ in range(jobs)]
    try:
        while left or any(worker.name for worker in workers):
            for worker in workers:
                if worker.name is None and left:
                    if worker.process is None:
                        worker.start()
                    worker.name, worker.since = left.pop(), time.monotonic()
                    worker.pipe.send((worker.name, todo, twins))
            busy = [worker for worker in workers if worker.name is not None]
            ready = set(wait([worker.pipe for worker in busy], timeout=1.0))
            for worker in busy:
                assert worker.name is not None
                if worker.pipe in ready:
                    try:
                        found = worker.pipe.recv()
                        worker.name = None
                        yield found
                    except (EOFError, OSError):
                        yield blank(worker.name) | {"error": "the process died"}
                        worker.stop()
                elif time.monotonic() - worker.since > limit:
                    yield blank(worker.name) | {"error": f"not done after {limit:.0f} s"}
                    worker.stop()
    finally:
        for worker in workers:
            worker.stop()
