"""Rounding by chance: right on average, exact where nothing is to be rounded, the same bits for a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from downslope.core import randomness
from downslope.optim.rounding import Draws, Streams, bits, rounded

HALVES = [torch.bfloat16, torch.float16]


def draws_at(seed: int, group: int, place: int, draw: int) -> Draws:
    state = {"draws": torch.tensor(draw - 1)}
    return Draws(int(Streams(seed, group, [place], [state]).following()[0]))


def by_chance(x: Tensor, dtype: torch.dtype, draw: int = 1) -> Tensor:
    return rounded(x, dtype, draws_at(0, 0, 0, draw).of(0, x))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("value", [1.0003, -3.14159, 1e-3, 65000.7, -7e-6, 3e-8])
def test_the_mean_is_the_number_itself_and_only_its_neighbours_occur(
    dtype: torch.dtype, value: float
) -> None:
    n = 400_000
    x = torch.full((n,), value)
    found = by_chance(x, dtype).double()
    below, above = sorted(set(found.tolist()))
    assert below < x[0].item() < above
    assert torch.nextafter(torch.tensor(below, dtype=dtype), torch.tensor(math.inf, dtype=dtype)) == above
    error = (found.mean() - x[0].double()).item() / (above - below)
    assert abs(error) < 4 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_exact_infinite_or_no_number_stays(dtype: torch.dtype) -> None:
    exact = torch.randn(5000).to(dtype)
    assert torch.equal(by_chance(exact.float(), dtype), exact)
    odd = torch.tensor([math.inf, -math.inf, 0.0, -0.0])
    assert by_chance(odd, dtype).tolist() == [math.inf, -math.inf, 0.0, -0.0]
    low = torch.tensor([0x7F800001, 0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)  # all are NaN
    assert by_chance(low, dtype).isnan().all()


def test_the_largest_number_does_not_become_infinite_by_chance() -> None:
    x = torch.full((10_000,), 65510.0)  # the nearest float16 is 65504, the largest
    assert (by_chance(x, torch.float16) == 65504).all()


def test_bits_are_even_and_streams_do_not_resemble_one_another() -> None:
    n = 1 << 18
    words = [
        bits(n, draws_at(0, 0, place, draw).key, torch.device("cpu")) for place in (0, 1) for draw in (1, 2)
    ]
    words.append(words[0].roll(1))
    columns = torch.stack([((w >> k) & 1).double() for w in words[:4] for k in range(32)])
    assert (columns.mean(1) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(n)
    centred = columns - 0.5
    others = (centred @ centred.T / n * 4 - torch.eye(len(columns))).abs().max()
    assert others < 6 / math.sqrt(n)
    neighbours = torch.stack([((words[4] >> k) & 1).double() for k in range(32)]) - 0.5
    assert ((neighbours * centred[:32]).mean(1) * 4).abs().max() < 5 / math.sqrt(n)


def test_keys_of_many_tensors_are_the_addresses_of_each() -> None:
    states = [{"draws": torch.tensor(n)} for n in (0, 7, 1 << 40)]
    streams = Streams(5, 2, [3, 0, 9], states)
    for step in (1, 2):
        found = streams.following()
        places = zip((3, 0, 9), (0, 7, 1 << 40), strict=True)
        assert found.tolist() == [randomness.address(5, "step", 2, at, n + step) for at, n in places]
    assert [int(state["draws"]) for state in states] == [2, 9, (1 << 40) + 2]
    assert streams.stand(states)
    assert not streams.stand([{**state, "draws": state["draws"].clone()} for state in states])


def test_a_piece_draws_what_the_whole_would_draw_there() -> None:
    x = torch.randn(200_000)
    draws = draws_at(3, 1, 2, 5)
    whole = draws.of(1, x)
    parts = [draws.of(1, x[a : a + 70_001], a) for a in range(0, len(x), 70_001)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(draws_at(3, 1, 2, 6).of(1, x), whole)
    assert not torch.equal(draws_at(3, 1, 3, 5).of(1, x), whole)
    assert not torch.equal(draws_at(4, 1, 2, 5).of(1, x), whole)
    assert not torch.equal(draws.of(3, x), whole)
