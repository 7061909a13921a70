"""Datasets read by other processes give the same bits as read here, whatever happens to the processes."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from downslope.core import workers
from downslope.core.errors import DataError
from downslope.core.sources import Stream
from downslope.core.workers import Readers
from downslope.training.tasks import load_task


class Augmented(Dataset):
    """Examples with noise from each of the global generators."""

    def __init__(self, n: int = 40, dies: bool = False) -> None:
        self.n = n
        self.parent = os.getpid() if dies else None
        self.scale = lambda x: x * 2.0  # no pickle takes this, cloudpickle does

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if self.parent not in (None, os.getpid()) and i == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])  # noqa: NPY002
        return self.scale(noise) + i, i


def read(readers: Readers, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(epoch)).tolist()
    return list(readers.batches(order, 4, 7, epoch))


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_other_processes_read_the_same_bits() -> None:
    here = Readers(Augmented(), 0)
    there = Readers(Augmented(), 2)
    try:
        for epoch in range(2):
            assert same(read(here, epoch), read(there, epoch))
        assert not same(read(here, 0), read(here, 1))
    finally:
        there.close()


TASK = """
import torch
import downslope as ds

SCALE = 3.0

class Own(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return SCALE * torch.full((2,), float(i)) + torch.rand(2), i

def problem():
    return ds.Problem(model="linear", objective="squared_error", train=Own())
"""


def test_the_class_of_a_task_file_is_known_to_other_processes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "own_data.py"
    path.write_text(TASK)
    load_task(str(path))
    dataset = sys.modules["downslope_task_own_data"].Own()
    there = Readers(dataset, 1)
    try:
        assert same(read(there), read(Readers(dataset, 0)))
    finally:
        there.close()
    assert not caplog.messages


def test_a_killed_process_costs_no_batch_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    there = Readers(Augmented(dies=True), 2)
    assert same(read(Readers(Augmented(), 0)), read(there))
    assert there.count == 0
    assert "one of them was killed" in caplog.text


def test_a_dataset_that_cannot_be_sent_is_read_here(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Augmented):
        def __reduce__(self):
            raise TypeError("cannot be copied")

    there = Readers(Stubborn(), 2)
    assert same(read(Readers(Augmented(), 0)), read(there))
    assert "cannot be sent to them: cannot be copied" in caplog.text


@pytest.mark.parametrize(("seconds", "wanted"), [(0.019, 0), (0.021, 1)])
def test_processes_are_asked_only_where_reading_is_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    clock = itertools.count()  # asked before and after each batch
    monkeypatch.setattr(workers, "_now", lambda: next(clock) * seconds)
    readers = Readers(Augmented())
    try:
        assert same(read(Readers(Augmented(), 0)), read(readers))
        assert readers.count == wanted
    finally:
        readers.close()


def test_an_error_in_another_process_is_the_datasets_own_and_names_the_example() -> None:
    class Broken(Augmented):
        def __getitem__(self, i: int):
            if i == 4:
                raise KeyError("no such example")
            return super().__getitem__(i)

    readers = Readers(Broken(), 1)
    try:
        with pytest.raises(
            DataError, match="example 4 of the dataset cannot be read: KeyError: 'no such example'"
        ):
            read(readers)
    finally:
        readers.close()


def test_a_stream_gives_each_example_once_an_epoch() -> None:
    source = Stream(Augmented())
    for epoch in range(2):
        seen = torch.cat([y for _, y in source.epoch(7, 0, epoch)])
        assert sorted(seen.tolist()) == list(range(40))
    assert torch.cat([y for _, y in source.stored(7)]).tolist() == list(range(40))
