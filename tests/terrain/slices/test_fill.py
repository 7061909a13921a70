"""Points held out beside the nodes of a spline."""

from __future__ import annotations

import numpy as np
import pytest

from downslope.terrain.slices import fill


def rough(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A bowl with kinks: where a relative error hangs on the place."""
    kinks = np.abs(np.sin(9 * x + 4 * y)) + np.abs(np.cos(7 * x - 11 * y))
    return 0.2 + x**2 + 2 * y**2 + 0.003 * kinks


@pytest.mark.parametrize("count", [12, 31, 40, 51, 52, 101])
def test_the_nodes_of_a_coarse_grid_are_nodes_of_every_finer_one(count: int) -> None:
    each = [set(fill.nodes(count, stride)) for stride in fill.STRIDES]
    assert each[0] < each[1] < each[2] < set(range(count))
    assert {0, count - 1} <= each[0]


def test_each_block_is_held_against_the_truth_at_one_point_that_is_no_node() -> None:
    mask = fill.node_mask((51, 40), 3.0)
    held = fill.checks((51, 40), mask)
    assert not (held & mask).any()
    for rows in np.array_split(np.arange(51), fill.SIDE):
        for columns in np.array_split(np.arange(40), fill.SIDE):
            assert held[np.ix_(rows, columns)].sum() == 1
    drawn = {fill.checks((51, 40), mask, seed).tobytes() for seed in range(5)}
    assert len(drawn) == 5  # at one place of each block they would tell of that place alone


def test_the_error_told_is_that_of_the_whole_grid_whatever_the_draw() -> None:
    axis = np.linspace(-1, 1, 51)
    true = rough(axis[:, None], axis[None, :])
    mask = fill.node_mask(true.shape, 3.0)
    guessed = fill.spline([axis, axis], true, 3.0)
    assert guessed is not None
    of_all = np.sqrt((((guessed - true) / true)[~mask] ** 2).mean())
    told = [fill.accuracy(guessed, true, fill.checks(true.shape, mask, seed)).rms for seed in range(40)]
    assert np.median(told) / of_all < 1.2
    assert np.median(told) / of_all > 0.8
    assert np.percentile(told, 95) < 1.5 * of_all
