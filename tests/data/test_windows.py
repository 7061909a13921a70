"""Windows over tokens: every token once an epoch, the next token as target, the same for the same address."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch

from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import as_source
from downslope.data import Windows
from downslope.training.fit import fit


def numbered(n: int, block: int) -> Windows:
    """Windows over tokens that are their own places."""
    return Windows(torch.arange(n), block, n)


@pytest.mark.parametrize(("n", "block"), [(1000, 7), (64, 8), (65, 64), (66, 64), (500, 1)])
def test_each_token_is_used_at_most_once_an_epoch_and_few_are_left_out(n: int, block: int) -> None:
    source = numbered(n, block)
    for epoch in range(5):
        used = Counter(int(i) for x, _ in source.epoch(3, 0, epoch) for i in x.flatten())
        assert set(used.values()) == {1}
        assert n - len(used) <= 2 * block
        middle = set(range(block, n - 2 * block))
        assert middle <= set(used)


def test_the_target_is_the_token_that_follows() -> None:
    source = numbered(300, 16)
    for batches in (source.epoch(4, 1, 2), source.stored(4)):
        for x, y in batches:
            assert x.dtype == y.dtype == torch.int64
            assert torch.equal(y, x + 1)


def test_stored_order_begins_at_the_start_and_repeats() -> None:
    source = numbered(103, 10)
    x = torch.cat([x for x, _ in source.stored(4)])
    assert torch.equal(x.flatten(), torch.arange(100))


def test_an_epoch_can_be_repeated_and_another_begins_elsewhere() -> None:
    source = numbered(5000, 50)
    one, again = ([x for x, _ in source.epoch(8, 3, 1)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    phases = {int(min(x.min() for x, _ in source.epoch(8, 3, epoch))) for epoch in range(20)}
    assert len(phases) > 10
    assert max(phases) < 50


def test_the_promised_steps_are_taken() -> None:
    source = numbered(1000, 7)
    for size in (1, 3, 64, 10_000):
        assert all(sum(1 for _ in source.epoch(size, 0, e)) == source.steps(size) for e in range(4))


def test_tokens_are_kept_in_one_byte_where_that_is_enough() -> None:
    assert Windows(torch.arange(256), 4, 256).tokens.dtype == torch.uint8
    assert Windows(torch.arange(257), 4, 257).tokens.dtype == torch.int32


def test_evaluation_keeps_the_outputs_of_a_large_vocabulary_small() -> None:
    source = Windows(torch.zeros(40_000, dtype=torch.int64), 64, 4000)
    assert max(x.numel() * 4000 for x, _ in source.stored(1024)) <= 2**22


@pytest.mark.parametrize("block", [0, 10, 11])
def test_a_block_that_does_not_fit_is_refused(block: int) -> None:
    with pytest.raises(DataError, match=rf"block={block}: must lie in \[1, 9\]"):
        Windows(torch.arange(10), block, 10)


class Bigrams(torch.nn.Module):
    """A table of logits for each token: its optimum is known by counting."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(3, 3)
        torch.nn.init.zeros_(self.table.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


def test_fit_reaches_the_entropy_of_the_next_token_that_counting_gives() -> None:
    draw = torch.Generator().manual_seed(0)
    chain = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.05, 0.05, 0.9]])
    tokens = [0]
    for _ in range(4000):
        tokens.append(int(torch.multinomial(chain[tokens[-1]], 1, generator=draw)))
    source = Windows(torch.tensor(tokens), 20, 3)
    assert as_source(source, "train") is source
    problem = Problem(model=Bigrams, objective="cross_entropy", train=source)
    run = fit(problem, Recipe(optimizer="adam", lr=0.1, epochs=60), folder=False, progress=False)
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    for a, b in pairwise(tokens):
        pairs[a, b] += 1
    entropy = -(pairs * (pairs / pairs.sum(1, keepdim=True)).log()).sum() / pairs.sum()
    assert run.summary["train_loss"] == pytest.approx(float(entropy), abs=2e-3)
