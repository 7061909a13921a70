"""The longer published tasks: shapes and first values; the finals are in bench/published.py."""

from __future__ import annotations

import math
import os

import pytest

from downslope.core.loss import Objective
from downslope.testing.problems import char_gpt, fmnist_2c2d

needs_data = pytest.mark.skipif(
    not os.environ.get("DOWNSLOPE_DATA"), reason="DOWNSLOPE_DATA is not set: it holds images and text"
)


@needs_data
def test_the_text_starts_at_the_loss_of_a_guess_among_its_characters() -> None:
    problem = char_gpt.problem()
    assert (
        sum(p.numel() for p in problem.build().parameters())
        == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    )
    batch = next(iter(problem.train_source.epoch(12, seed=0, epoch=0)))
    loss = Objective(problem)(problem.build(), batch)
    assert float(loss.value.detach()) == pytest.approx(math.log(65), abs=0.1)


@needs_data
def test_clothes_are_parted_as_published() -> None:
    problem = fmnist_2c2d.problem()
    assert (problem.train_source.size, problem.valid_source.size) == (60_000, 10_000)
    assert sum(p.numel() for p in problem.build().parameters()) == 3_274_634
    x, _ = problem.train_source.head(2)
    assert x.shape == (2, 1, 28, 28)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
