"""Other splits: what chance wins among many is not kept, what is real is, and whom it costs what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.budget import Budget
from downslope.diagnosis.contest import Arm, Contest
from downslope.diagnosis.other_splits import SPLITS, elsewhere, other_splits, small
from downslope.diagnosis.yardstick import Yardstick

HOW = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=32, epochs=20)


def chance(seed: int) -> ds.Problem:
    """Classes that have nothing to do with the inputs."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(300, 8, generator=draw), torch.randint(0, 4 if seed % 3 else 2, (300,), generator=draw)
    return ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4 if seed % 3 else 2)),
        objective="cross_entropy", metric="accuracy", train=(x[:200], y[:200]), valid=(x[200:], y[200:]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [11])
def test_what_is_ahead_by_chance_from_every_seed_is_not_kept(seed: int) -> None:
    found = ds.repair(chance(seed), HOW.edit(seed=seed), budget="1000000 steps", progress=False, folder=False)
    lucky = [each for each in found.trials if "other splits" in each.reason]
    assert lucky  # certain on these validation examples
    assert all(each.gain.sure and each.verdict == "not confirmed" for each in lucky)
    assert found.kept is None


def test_every_example_is_in_one_part_and_the_parts_keep_their_sizes() -> None:
    x = torch.arange(30.0)[:, None]
    task = ds.Problem(
        model=lambda: nn.Linear(1, 1), objective="mse", train=(x[:20], x[:20]), valid=(x[20:], x[20:])
    )
    found: list[Any] = list(other_splits(task))
    assert len(found) == SPLITS
    held = [tuple(each.valid.batch[0].flatten().tolist()) for each in found]
    assert len(set(held)) == SPLITS
    for each in found:
        parts = [each.train.batch[0], each.valid.batch[0]]
        assert [len(part) for part in parts] == [20, 10]
        assert torch.equal(torch.cat(parts).flatten().sort().values, torch.arange(30.0))
        assert torch.equal(each.train.batch[0], each.train.batch[1])  # rows stay together


def test_data_that_is_not_in_memory_or_not_held_out_is_not_split() -> None:
    x = torch.randn(20, 1)
    alone = ds.Problem(model=lambda: nn.Linear(1, 1), objective="mse", train=(x, x))
    served = DataLoader(TensorDataset(x, x), batch_size=4)
    assert not list(other_splits(alone))
    assert not list(other_splits(alone.edit(train=served, valid=(x, x))))


@pytest.mark.parametrize(
    ("examples", "gain", "want"), [(100, 0.2, True), (100, 0.3, False), (2500, 0.05, False)]
)
def test_a_gain_is_small_beside_what_the_validation_examples_give_and_take(
    examples: int, gain: float, want: bool
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(examples, 2, generator=draw)
    task = ds.Problem(model=lambda: nn.Linear(2, 1), objective="mse", metric="r2", train=(x, x[:, :1]),
                      valid=(x, x[:, :1]))  # fmt: skip
    diagnosis = ds.diagnose(task, HOW.edit(epochs=1), progress=False, folder=False, budget="100 steps")
    contest = Contest(task, HOW, Yardstick(task, diagnosis), Budget("100 steps"), None, 1)
    arm = Arm(contest.control.edit, task, HOW, scores={0: 0.5 + gain, 1: 0.5 + gain})
    contest.control.scores = {0: 0.5, 1: 0.5}
    assert small(contest, arm) is want


def test_a_real_gain_shows_on_other_splits() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=draw)
    task = ds.Problem(model=lambda: nn.Linear(4, 1), objective="mse", metric="r2",
                      train=(x[:200], x[:200, :1]), valid=(x[200:], x[200:, :1]))  # fmt: skip
    slow = HOW.edit(lr=1e-3, epochs=5)
    diagnosis = ds.diagnose(task, slow, progress=False, folder=False, budget="1000 steps")
    contest = Contest(task, slow, Yardstick(task, diagnosis), Budget("1000 steps"), None, 1)
    arm = contest.arm(ds.edits.SetRecipe({"lr": 0.1}))
    found = elsewhere(contest, arm, diagnosis, 0)
    assert found is not None
    assert found.sure
    assert found.pairs == SPLITS
    assert not contest.control.scores  # nothing of it counts as a trial
