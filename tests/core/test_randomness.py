"""Every draw has an address; none depends on what came before."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from downslope.core import randomness


def test_purposes_epochs_and_seeds_give_unrelated_draws() -> None:
    places = [
        randomness.address(seed, purpose, *counters)
        for seed in (0, 1, 2)
        for purpose in ("init", "order", "step", "module")
        for counters in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    ]
    assert len(set(places)) == len(places)
    assert all(0 <= place < 2**63 for place in places)


def test_orders_of_neighbouring_epochs_are_uncorrelated() -> None:
    n = 2000
    a, b = randomness.permutation(n, 0, 0).double(), randomness.permutation(n, 0, 1).double()
    assert sorted(a.tolist()) == list(range(n))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / n**0.5


def test_a_seeded_block_draws_the_same_from_every_library_and_gives_the_state_back() -> None:
    def draws() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    undisturbed = draws()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    with randomness.seeded(3, "init"):
        first = draws()
    with pytest.raises(ZeroDivisionError), randomness.seeded(3, "init"):  # noqa: PT012
        assert draws() == first
        raise ZeroDivisionError
    assert draws() == undisturbed


def test_a_seeded_block_draws_what_torch_draws_of_that_seed() -> None:
    with randomness.seeded(3, "probe", 4):
        inside = torch.rand(5)
    with torch.random.fork_rng():
        torch.manual_seed(randomness.address(3, "probe", 4))
        assert torch.equal(inside, torch.rand(5))
