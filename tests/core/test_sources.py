"""Sources: tensors in memory, Datasets, DataLoaders. Each example once an epoch, at an address."""

from __future__ import annotations

import random
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from downslope.core import randomness, sources
from downslope.core.errors import DataError
from downslope.core.sources import Away, Loader, Memory, Stream, as_source

N = 10


class Rows(Dataset[Any]):
    """Example i is (i, i)."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index)]), index


class Jittered(Rows):
    """Now and then an example is flipped, as an augmentation does."""

    def __init__(self, draw: Any = lambda: float(torch.rand(()))) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return (x + 100 if self.draw() < 0.5 else x), y


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for index in range(N):
            yield torch.tensor([float(index)]), index


def targets(batches_of: Any) -> list[int]:
    return [int(i) for batch in batches_of for i in batch[1]]


def inputs(batches_of: Any) -> list[float]:
    return [float(i) for batch in batches_of for i in batch[0]]


def test_an_epoch_in_memory_has_each_example_once_in_the_order_of_its_address() -> None:
    source = Memory((torch.arange(N), torch.arange(N)))
    order = randomness.permutation(N, 5, 2)
    assert targets(source.epoch(3, 5, 2)) == order.tolist()
    assert targets(source.epoch(3, 5, 3)) != order.tolist()
    assert sorted(targets(source.epoch(3, 5, 3))) == list(range(N))
    assert targets(source.stored(3)) == list(range(N))
    assert source.steps(3) == 4


def test_the_way_of_gathering_does_not_change_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Memory((torch.arange(N), torch.arange(N)))
    at_once = [batch[0].tolist() for batch in source.epoch(4, 1, 0)]
    monkeypatch.setattr(sources, "SHUFFLE_LIMIT", 0)
    assert [batch[0].tolist() for batch in source.epoch(4, 1, 0)] == at_once


def test_a_dataset_that_fits_is_kept_in_memory_and_batched_as_any_tensors() -> None:
    source = as_source(Rows(), "train")
    assert isinstance(source, Memory)
    assert targets(source.epoch(3, 7, 0)) == randomness.permutation(N, 7, 0).tolist()
    assert isinstance(as_source(TensorDataset(torch.zeros(3, 1), torch.zeros(3)), "train"), Memory)


def test_a_dataset_that_does_not_fit_streams_at_the_batch_size_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 8)
    source = as_source(Rows(), "train")
    assert isinstance(source, Stream)
    assert source.steps(4) == 3
    assert [len(batch[1]) for batch in source.epoch(4, 7, 0)] == [4, 4, 2]
    assert targets(source.epoch(4, 7, 0)) == randomness.permutation(N, 7, 0).tolist()
    assert targets(source.stored(4)) == list(range(N))


@pytest.mark.parametrize(
    "draw",
    [lambda: float(torch.rand(())), random.random, lambda: float(np.random.rand())],  # noqa: NPY002
    ids=["torch", "python", "numpy"],
)
def test_a_dataset_that_augments_is_not_frozen_and_draws_by_address(draw: Any) -> None:
    source = as_source(Jittered(draw), "train")
    assert isinstance(source, Stream)
    first = inputs(source.epoch(3, 0, 0))
    torch.rand(7)
    random.random()
    assert inputs(source.epoch(3, 0, 0)) == first
    assert inputs(source.epoch(3, 0, 1)) != first
    other_epoch = [
        i
        for i, x in zip(targets(source.epoch(3, 0, 1)), inputs(source.epoch(3, 0, 1)), strict=True)
        if x > 50
    ]
    flipped = [i for i, x in zip(targets(source.epoch(3, 0, 0)), first, strict=True) if x > 50]
    assert sorted(flipped) != sorted(other_epoch)


def test_an_iterable_dataset_is_batched() -> None:
    source = as_source(Endless(), "train")
    assert source.size is None
    assert source.steps(4) is None
    assert [len(batch[1]) for batch in source.epoch(4, 0, 0)] == [4, 4, 2]


@pytest.mark.parametrize("own", [False, True], ids=["global", "own generator"])
def test_a_dataloader_keeps_its_batch_size_and_shuffles_by_address(own: bool) -> None:
    generator = torch.Generator() if own else None
    source = as_source(DataLoader(Jittered(), batch_size=4, shuffle=True, generator=generator), "train")
    assert isinstance(source, Loader)
    assert source.steps(64) == 3
    first = [(b[0].tolist(), b[1].tolist()) for b in source.epoch(64, 3, 1)]
    torch.rand(3)
    again = []
    for batch in source.epoch(64, 3, 1):  # what the step draws in between must not matter
        torch.rand(5)
        again.append((batch[0].tolist(), batch[1].tolist()))
    assert again == first
    assert [len(y) for _, y in first] == [4, 4, 2]
    assert sorted(i for _, y in first for i in y) == list(range(N))
    assert [b[1].tolist() for b in source.epoch(64, 3, 2)] != [y for _, y in first]
    assert [b[1].tolist() for b in source.epoch(64, 4, 1)] != [y for _, y in first]


def test_reading_leaves_the_global_random_states_as_they_were() -> None:
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002
    source = as_source(Jittered(), "train")
    list(source.epoch(3, 0, 0))
    list(as_source(DataLoader(Jittered(), shuffle=True), "train").epoch(1, 0, 0))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[index] # noqa: NPY002


def test_a_librarys_own_mapping_reaches_the_loop_as_a_dict() -> None:
    loader = DataLoader(
        Rows(), batch_size=5, collate_fn=lambda rows: UserDict(x=torch.stack([r[0] for r in rows]))
    )
    assert all(type(batch) is dict for batch in as_source(loader, "train").epoch(1, 0, 0))


@pytest.mark.parametrize(
    ("data", "shapes"),
    [
        ((np.zeros((4, 2)), np.zeros(4, dtype=np.uint16)), [(4, 2), (4,)]),
        (([[1.0, 2.0], [3.0, 4.0]], [0, 1]), [(2, 2), (2,)]),
        ((np.zeros((2, 3)), [[1.0], [2.0]]), [(2, 3), (2, 1)]),
        (((np.zeros((3, 2)), torch.zeros(3, 5)), [1, 2, 3]), [(3, 2), (3, 5), (3,)]),
        ({"x": [[1, 2], [3, 4], [5, 6]], "labels": [0, 1, 0]}, [(3, 2), (3,)]),
        ((torch.zeros(3, 2),), [(3, 2)]),
    ],
)
def test_arrays_lists_and_nested_inputs_become_tensors(data: Any, shapes: list[tuple[int, ...]]) -> None:
    source = as_source(data, "train")
    assert isinstance(source, Memory)
    assert [tuple(leaf.shape) for leaf in sources.batches.tensors(source.batch)] == shapes


def test_data_frames_are_read_by_position() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=[7, 8])
    source = as_source((frame, pandas.Series([0, 1], index=[7, 8])), "train")
    assert isinstance(source, Memory)
    assert source.batch[0].tolist() == [[1.0, 3.0], [2.0, 4.0]]


class Empty(Rows):
    def __len__(self) -> int:
        return 0


class Words(Rows):
    def __getitem__(self, index: int) -> Any:
        return object(), index


@pytest.mark.parametrize(
    "bad",
    [
        (torch.zeros(0, 2), torch.zeros(0)),
        (torch.zeros(3, 2), torch.zeros(2)),
        None, 5, b"bytes", (np.array(["a"]), np.array([1])), ([[1.0], [2.0, 3.0]], [0, 1]), (object(), 1),
        Empty(), Words(), DataLoader(Empty()),
    ],
)  # fmt: skip
def test_unusable_data_is_told_in_one_line(bad: Any) -> None:
    with pytest.raises(DataError) as told:
        as_source(bad, "train")
    assert str(told.value).startswith("train")
    assert "\n" not in str(told.value)


def test_a_path_is_read_by_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "\n".join(f"{i},{2 * i}.5" for i in range(20)), encoding="utf-8")
    loaded = sources.read_path(path, "b")
    source = as_source(loaded.train, "train")
    assert isinstance(source, Memory)
    x, y = source.batch
    assert torch.equal(2 * x.squeeze(-1).double() + 0.5, y.double().squeeze())


def test_examples_that_the_device_does_not_hold_come_in_the_same_batches() -> None:
    held = Memory((torch.arange(20.0)[:, None], torch.arange(20)))
    away = Away(held)
    assert (away.size, away.steps(6)) == (held.size, held.steps(6))
    for ours, theirs in ((away.epoch(6, 1, 2), held.epoch(6, 1, 2)), (away.stored(6), held.stored(6))):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a[0], b[0])
            assert torch.equal(a[1], b[1])
