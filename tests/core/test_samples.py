"""A stream is looked at once, however many parts of the program look at it."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from downslope.core import samples
from downslope.core.problem import Problem
from downslope.core.sources import Stream


class Counted(Dataset):
    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 200

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return torch.full((3,), float(i)), i % 4


def test_the_sample_of_a_stream_is_read_once_and_is_its_beginning() -> None:
    data = Counted()
    problem = Problem(model="mlp", objective="cross_entropy", train=Stream(data))
    first = samples.sample(problem)
    assert samples.first_input(problem)[:, 0].tolist() == list(range(200))
    problem.build()
    assert torch.equal(samples.sample(problem)[0], first[0])
    assert data.read == 200


def test_a_large_sample_is_not_kept(monkeypatch) -> None:
    monkeypatch.setattr(samples, "KEPT", 100)
    data = Counted()
    problem = Problem(model="mlp", objective="cross_entropy", train=Stream(data))
    samples.sample(problem)
    samples.sample(problem)
    assert data.read == 400
