"""The noisy quadratic of DeepOBS: its published start, its spectrum, the finals of tuned methods."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import downslope as ds
from downslope.testing.problems import quadratic_deep


def test_the_spectrum_is_the_published_one() -> None:
    q = quadratic_deep.hessian()
    found = np.linalg.eigvalsh(q)
    np.testing.assert_allclose(q, q.T, atol=1e-12)
    assert found.min() > 0
    assert ((found[:90] > 0) & (found[:90] < 1)).all()
    assert ((found[90:] > 30) & (found[90:] < 60)).all()


def test_the_turn_is_a_rotation() -> None:
    turn = quadratic_deep._rotation(20, np.random.RandomState(0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(20), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_matrix_and_data_are_those_kept_beside_the_published_curves() -> None:
    folder = os.environ.get("DOWNSLOPE_DATA")
    if not folder:
        pytest.skip("DOWNSLOPE_DATA is not set: it holds the matrix that was published against")
    kept = np.load(Path(folder) / "deepobs_quadratic.npz")
    np.testing.assert_allclose(quadratic_deep.hessian(), kept["Q"], atol=1e-12)
    np.testing.assert_array_equal(quadratic_deep.data(42).numpy(), kept["train"])
    np.testing.assert_array_equal(quadratic_deep.data(43).numpy(), kept["test"])


@pytest.mark.parametrize("method", sorted(quadratic_deep.PUBLISHED))
def test_the_published_final_is_reached(method: str) -> None:
    _, mean, deviation = quadratic_deep.PUBLISHED[method]
    finals = []
    for seed in range(2):
        run = ds.fit(
            quadratic_deep.problem(seed), quadratic_deep.recipe(method), folder=False, progress=False
        )
        losses = run.history.series("valid_loss").values
        assert losses[0] == pytest.approx(quadratic_deep.AT_START, abs=1e-3)
        finals.append(losses[-1])
    assert abs(np.mean(finals) - mean) < 3 * deviation  # ten seeds: bench/published.py
