"""Chords below the graph, and the roundings that they have to stand out of, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from downslope.terrain.ground import Ground
from downslope.terrain.surveys.confirmed import ULPS, Chord, cancelled, chord, jitters
from downslope.terrain.surveys.profile import Profile, around, profile

EPS = torch.finfo(torch.float64).eps


def line(*losses: float) -> Profile:
    half = len(losses) // 2
    return Profile(lengths=tuple(float(k - half) for k in range(len(losses))), losses=losses)


def test_the_chord_that_is_surest_is_taken_and_jitter_counts_as_rounding() -> None:
    bent = line(-4.0, -1.0, 1.0, -1.0, -4.0)
    assert chord(bent, EPS) == Chord(-1.0, 1.0, 2.0, ULPS * EPS * 3)  # 2 to 3; the others .5 to 6 and 5 to 9
    assert chord(bent, EPS, 1.0) == Chord(-2.0, 2.0, 5.0, ULPS * EPS * 9 + 1.0)
    assert chord(bent, EPS, 6.0) is None
    assert chord(line(1.0, 0.0, 1.0), EPS) is None
    assert chord(line(1.0, 1.0 + 8 * EPS, 1.0), EPS) is None
    assert chord(line(1.0, float("inf"), 1.0), EPS) is None


def ground(at: list[float], function) -> Ground:
    p = nn.Parameter(torch.tensor(at, dtype=torch.float64))
    return Ground.of_closure(lambda: function(p), [p])


def test_the_jitter_of_a_loss_is_how_far_it_jumps_between_neighbouring_weights() -> None:
    """At 0 the step is 2 eps times the reach of 0.1; four times the jump is told."""
    steep = ground([0.0], lambda p: 1e10 * p.sum())
    assert jitters(steep, 0.0) == pytest.approx(4 * 1e10 * 2 * EPS * 0.1, rel=1e-9, abs=0)
    assert steep.where().tolist() == [0.0]
    assert jitters(ground([1.0], lambda p: 0 * p.sum()), 0.0) == 0.0


def test_what_cancelled_is_the_rounding_of_slope_and_loss_over_the_size_of_the_weights() -> None:
    """Of |w|^2 at (3, 4) the slope is 10, the loss 25, the size 5; at 0 the size is that of a reach."""
    assert cancelled(ground([3.0, 4.0], lambda p: p.square().sum())) == pytest.approx(
        ULPS * EPS * 3, rel=1e-9, abs=0
    )
    assert cancelled(ground([0.0, 0.0], lambda p: 2 + p.sum())) == pytest.approx(
        ULPS * EPS * 2, rel=1e-9, abs=0
    )


def test_of_two_ends_that_are_as_low_the_one_ahead_is_taken() -> None:
    assert line(-1.0, 0.0, -1.0).at == 1.0
    assert line(float("-inf"), 0.0, -1.0).at == 1.0


def test_samples_stay_within_the_reach_and_the_subspace_and_the_point_is_put_back() -> None:
    flat = ground([0.0, 0.0, 0.0], lambda p: p.square().sum())
    inside = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    found = around(flat, 0.5, 0.0, inside=inside)
    assert len(found) == 8
    for direction, each in found:
        assert direction[0] == 0
        assert direction[1:].abs().min() > 0
        assert max(each.lengths) == 0.5
        assert each.losses[-1] == pytest.approx(0.25)

    def fails(p: Tensor) -> Tensor:
        if bool((p > 0.1).any()):
            raise RuntimeError("no further")
        return p.sum()

    broken = ground([0.0], fails)
    with pytest.raises(RuntimeError):
        profile(broken, torch.ones(1), 1.0, 0.0)
    assert broken.where().tolist() == [0.0]
