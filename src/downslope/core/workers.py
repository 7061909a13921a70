"""Reading a large dataset in other processes, to the same bits as in this one.

Every batch is one piece of work with an address: (seed, epoch, index). Whoever reads it puts the global
generators there first, so augmentation does not depend on how many processes there are, and their number can
be chosen by timing. They are joblib's loky: a script needs no main guard, and a dataset may hold lambdas.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from downslope.core import randomness
from downslope.core.code_file import OF_FILE
from downslope.core.errors import DataError, DownslopeError, told
from downslope.core.examples import collated, example

_log = logging.getLogger("downslope")

SLOW = 0.02
"""Seconds a batch from which other processes are asked: starting one takes about 2 s."""

TIMED = 3
"""Batches that are read here before that is decided."""

MOST = 8
"""Processes at most."""

AHEAD = 2
"""Batches that each process has before it."""

_now = time.perf_counter
_held: Dataset[Any] | None = None


class Readers:
    """Batches of a dataset that has a length.

    Args:
        dataset: Gives examples.
        count: Processes; None decides by timing the first batches, 0 reads in this one.
    """

    def __init__(self, dataset: Dataset[Any], count: int | None = None) -> None:
        self.dataset = dataset
        self.count = count
        self._pool: Any = None
        self._seconds: list[float] = []

    def batches(self, order: Sequence[int], batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """The examples at `order` in batches, each at its address; the last may be smaller."""
        jobs = deque(
            (list(order[start : start + batch_size]), seed, epoch, index)
            for index, start in enumerate(range(0, len(order), batch_size))
        )
        while jobs and not self._wanted(len(jobs)):
            began = _now()
            batch = read(self.dataset, *jobs.popleft())
            self._seconds.append(_now() - began)
            yield batch
        if jobs:
            yield from self._elsewhere(jobs)

    def _wanted(self, left: int) -> bool:
        """Whether the rest is to be read by other processes."""
        if self.count is None and len(self._seconds) >= TIMED:
            each = sorted(self._seconds[:TIMED])[TIMED // 2]
            spare = len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1
            self.count = min(spare, MOST) if each > SLOW else 0
        return bool(self.count) and (self._pool is not None or left > TIMED)

    def _elsewhere(self, jobs: deque[Any]) -> Iterator[Any]:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        pool = self._open()
        running: deque[tuple[Any, Any]] = deque()
        while jobs or running:
            while pool is not None and jobs and len(running) < AHEAD * (self.count or 1):
                running.append((jobs[0], pool.submit(_read_held, *jobs.popleft())))
            job, future = running.popleft() if running else (jobs.popleft(), None)
            try:
                yield read(self.dataset, *job) if future is None else future.result()
            except BrokenProcessPool:
                self._give_up("one of them was killed, maybe for want of memory")
                jobs.extendleft([each for each, _ in reversed(running)])
                running.clear()
                pool = None
                yield read(self.dataset, *job)

    def _open(self) -> Any:
        """The processes, each holding the dataset; None where it cannot be sent to them."""
        if self._pool is None and self.count:
            from joblib.externals.loky import ProcessPoolExecutor, cloudpickle_wrapper

            try:
                by_value()
                sent = pickle.dumps(cloudpickle_wrapper.CloudpickledObjectWrapper(self.dataset))
            except Exception as error:  # noqa: BLE001 - an object of the user's may refuse in any way
                self._give_up(f"the dataset cannot be sent to them: {error}")
                return None
            self._pool = ProcessPoolExecutor(
                max_workers=self.count, initializer=_hold, initargs=(sent,), timeout=60
            )
            _log.info("examples are read by %d other processes", self.count)
        return self._pool

    def _give_up(self, why: str) -> None:
        _log.warning("examples are read in this process, and not in others: %s", " ".join(why.split()))
        self.close()
        self.count = 0

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, kill_workers=True)
            self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Readers:
        del memo
        return Readers(self.dataset, self.count)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()


def by_value() -> Any:
    """The cloudpickle of loky, told to send the user's files whole: no other process could import them."""
    from joblib.externals.loky import cloudpickle_wrapper

    cloudpickle: Any = sys.modules[cloudpickle_wrapper.dumps.__module__]
    for name, module in list(sys.modules.items()):
        if name.startswith(OF_FILE):
            cloudpickle.register_pickle_by_value(module)
    return cloudpickle


def read(dataset: Dataset[Any], places: list[int], seed: int, epoch: int, index: int) -> Any:
    """One batch, the global generators at its address while its examples are read."""
    with randomness.seeded(seed, "augment", epoch, index):
        many: Any = getattr(dataset, "__getitems__", None)
        if not callable(many):
            return collated([example(dataset, i) for i in places], places)
        try:
            examples: Any = many(places)
        except DownslopeError:
            raise
        except Exception as error:
            raise DataError(
                f"examples {_span(places)} of the dataset cannot be read: {told(error)}"
            ) from error
        return collated(examples, places)


def _span(places: Sequence[int]) -> str:
    few = ", ".join(map(str, places[:4]))
    return few if len(places) <= 4 else f"{few}, ..."


def _hold(sent: bytes) -> None:
    global _held  # noqa: PLW0603 - what a process keeps between its pieces of work
    _held = pickle.loads(sent)  # what this very program sent
    torch.set_num_threads(1)


def _read_held(*job: Any) -> Any:
    return read(cast("Dataset[Any]", _held), *job)
