"""Splits by groups and of rare classes: nothing of a group on both sides, nothing of a class lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.core.errors import DataError
from downslope.data import split


@given(
    groups=st.lists(st.integers(0, 6), min_size=2, max_size=60).filter(lambda g: len(set(g)) > 1),
    valid=st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 20),
)
def test_no_group_is_on_both_sides_and_no_example_is_lost(groups: list[int], valid: float, seed: int) -> None:
    labels = np.array(groups)
    train, held = split(len(groups), valid=valid, seed=seed, groups=labels)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(groups)))
    assert len(train)
    assert len(held)
    assert not set(labels[train]) & set(labels[held])


def test_many_small_groups_meet_the_share() -> None:
    groups = np.arange(1000) // 5
    train, held = split(1000, valid=0.2, seed=0, groups=groups)
    assert (len(train), len(held)) == (800, 200)
    again = split(1000, valid=0.2, seed=0, groups=groups)[1]
    other = split(1000, valid=0.2, seed=1, groups=groups)[1]
    assert held.tolist() == again.tolist()
    assert set(held.tolist()) != set(other.tolist())


def test_one_group_only_and_labels_beside_groups_are_refused() -> None:
    with pytest.raises(DataError, match="all examples are of one group"):
        split(10, valid=0.2, seed=0, groups=np.zeros(10))
    assert len(split(10, valid=0.0, seed=0, groups=np.zeros(10))[0]) == 10
    with pytest.raises(DataError, match="give one of both"):
        split(10, valid=0.2, seed=0, groups=np.arange(10), labels=np.arange(10))


def test_a_class_of_one_example_stays_in_training() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2])
    for seed in range(20):
        train, held = split(101, valid=0.5, seed=seed, labels=labels)
        assert 100 in train
        assert np.bincount(labels[held]).tolist() in ([25, 25], [26, 25], [25, 26])


def test_classes_of_one_example_each_are_all_kept_for_training() -> None:
    train, held = split(8, valid=0.5, seed=0, labels=np.arange(8))
    assert len(train) == 8
    assert not len(held)
