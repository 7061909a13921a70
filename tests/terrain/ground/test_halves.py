"""Two halves of a batch compared: as by hand, and by how it falls with the size of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from downslope.terrain.ground import Ground
from downslope.terrain.ground.halves import Halves, halves


def ground(rows: torch.Tensor, p: torch.Tensor) -> Ground:
    return Ground([(lambda: 0.5 * (rows @ p - 1).square().mean(), 1.0)], [p])


def test_they_differ_by_what_their_matrices_say() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(8, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    found = halves(ground(a, p), ground(b, p))
    ga, gb = -a.mean(0).numpy(), -b.mean(0).numpy()
    along = (ga + gb) / 2
    u, v = (np.asarray(m.T @ m / 8) @ along for m in (a, b))
    assert found.slope == pytest.approx(np.linalg.norm(ga - gb) / np.linalg.norm(along))
    assert found.curvature == pytest.approx(np.linalg.norm(u - v) / np.linalg.norm((u + v) / 2))


def test_four_times_the_examples_halve_the_difference_and_the_batch_that_is_needed_says_so() -> None:
    draw = torch.Generator().manual_seed(1)
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    means: list[float] = []
    for size in (50, 200):
        found: list[float] = []
        for _ in range(40):
            a, b = (1 + torch.randn(size, 3, generator=draw, dtype=torch.float64) for _ in range(2))
            found.append(halves(ground(a, p), ground(b, p)).curvature)
        means.append(float(np.mean(found)))
    assert means[0] / means[1] == pytest.approx(2.0, rel=0.25)
    assert Halves(0.0, 1.0).needed(64) == 256
    assert Halves(0.0, 0.5).needed(64) == 64
    assert Halves(0.0, 0.5268).needed(4) == 8
    assert Halves(2.0, 0.3).needed(16) == 64
    assert [Halves(*each).small for each in ((1.0, 0.5), (1.01, 0.1), (0.1, 0.51), (float("nan"), 0.1))] == [
        False, True, True, True,
    ]  # fmt: skip
