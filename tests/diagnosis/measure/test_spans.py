"""What a part of a sequence's steps tells of the target, taken together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from downslope.diagnosis.measure import spans

EARLY = [True] * 20 + [False] * 20
"""Of 40 steps the first half."""


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words(n: int = 200) -> Tensor:
    return torch.randint(100, (n, 40), generator=draw(0))


def test_words_that_stand_anywhere_tell_together_what_no_step_tells() -> None:
    x = words()
    x[:, 8:20] = x[:, 20:] = 0
    y = ((x[:, :8] > 0) & (x[:, :8] < 50)).sum(1).gt(4).long()
    found = spans.measure(x, y, EARLY)
    assert found is not None
    assert found["lost"] > 0.6 > found["limit"]
    assert found["others"] == 0.0  # padding is the same in all
    turned = spans.measure(x.flip(1), y, EARLY)
    assert turned is not None
    assert turned["lost"] == 0.0
    assert turned["others"] == pytest.approx(found["lost"])


def test_a_sum_of_marked_numbers_is_told_by_products() -> None:
    """The adding problem of Hochreiter and Schmidhuber (1997), both marks in the first half."""
    values, marks = torch.rand(200, 40, generator=draw(1)), torch.zeros(200, 40)
    marks[torch.arange(200), torch.randint(10, (200,), generator=draw(2))] = 1
    marks[torch.arange(200), 10 + torch.randint(10, (200,), generator=draw(3))] = 1
    found = spans.measure(torch.stack([values, marks], 2), (values * marks).sum(1), EARLY)
    assert found is not None
    assert found["lost"] > 0.9
    assert found["others"] < 0.3


def test_a_symbol_at_one_step_is_told_by_its_place() -> None:
    x = torch.randint(8, (400, 40), generator=draw(4))
    found = spans.measure(x, x[:, -1], EARLY)
    assert found is not None
    assert found["others"] > 0.5 > found["lost"]


def test_noise_tells_nothing_nor_does_a_batch_that_comes_again() -> None:
    worst = 0.0
    for seed in range(12):
        for x in (torch.randint(30, (120, 40), generator=draw(seed)), torch.randn(120, 40, 2)):
            y = torch.randint(2 + seed % 3, (120,), generator=draw(seed + 50))
            for target in (y, torch.randn(120, generator=draw(seed))):
                twice = spans.measure(torch.cat([x, x]), torch.cat([target, target]), EARLY)
                assert twice is not None
                worst = max(worst, twice["lost"], twice["others"])
    assert worst < 0.4


def test_what_cannot_be_told_is_not_claimed() -> None:
    x, y = words(), torch.randint(2, (200,), generator=draw(5))
    assert spans.measure(x[:50], y[:50], EARLY) is None  # too few
    assert spans.measure(x[:1].expand(200, -1), y, EARLY) is None  # one example, 200 times
    assert spans.measure(x, torch.zeros(200).long(), EARLY) is None
    assert spans.measure(x, (torch.arange(200) < 3).long(), EARLY) is None  # a class too rare
    assert spans.measure(x, y, EARLY[:-1]) is None
    assert spans.measure(x.float(), y, EARLY) is None
    assert spans.of_profile(x, y, [1.0] * 40) is None
    assert spans.of_profile(x, y, [1e-9] * 20 + [1.0] * 20) == spans.measure(x, y, EARLY)
