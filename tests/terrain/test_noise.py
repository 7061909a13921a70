"""The gradient noise scale against covariances, and against gradients whose moments are known."""

from __future__ import annotations

import math

import pytest
import torch

from downslope.core.errors import InputError
from downslope.terrain import Noise, noise_from_norms, noise_scale


def gradients(trials: int, k: int, b: int, seed: int = 0) -> torch.Tensor:
    """Means over b of vectors with mean (3, 4, 0, 0) and covariance diag(1, 4, 9, 16)."""
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(trials, k, 4, generator=draw, dtype=torch.float64) * torch.tensor(
        [1.0, 2.0, 3.0, 4.0]
    )
    return torch.tensor([3.0, 4.0, 0.0, 0.0]) + noise / math.sqrt(b)


def test_the_trace_is_that_of_the_sample_covariance():
    g = gradients(1, 12, 5)[0]
    found = noise_scale(g, 5)
    assert found.trace == pytest.approx(5 * torch.cov(g.T).trace().item())
    assert found.scale == pytest.approx(found.trace / found.squared_norm)


def test_both_moments_are_unbiased_and_their_errors_are_those_of_repetition():
    found = [noise_scale(g, 8) for g in gradients(2000, 20, 8)]
    for name, wanted in (("trace", 30.0), ("squared_norm", 25.0)):
        values = torch.tensor([getattr(one, name) for one in found], dtype=torch.float64)
        errors = torch.tensor([getattr(one, f"{name}_error") for one in found], dtype=torch.float64)
        assert abs(values.mean().item() - wanted) < 4 * values.std().item() / math.sqrt(len(values))
        assert errors.square().mean().sqrt().item() == pytest.approx(values.std().item(), rel=0.1)


def test_the_scale_is_the_ratio_in_examples():
    assert noise_scale(gradients(1, 20_000, 8)[0], 8).scale == pytest.approx(30 / 25, rel=0.05)


def test_errors_are_the_jackknifes_over_batches():
    g = gradients(1, 5, 3)[0]
    left = [noise_scale(torch.cat([g[:i], g[i + 1 :]]), 3) for i in range(5)]
    for name in ("trace", "squared_norm"):
        values = torch.tensor([getattr(one, name) for one in left], dtype=torch.float64)
        wanted = math.sqrt(4 / 5 * (values - values.mean()).square().sum().item())
        assert getattr(noise_scale(g, 3), f"{name}_error") == pytest.approx(wanted)


def test_norms_alone_give_the_same():
    g = gradients(1, 7, 3)[0]
    whole = noise_scale(g, 3)
    norms = noise_from_norms(g.square().sum(1).mean().item(), g.mean(0).square().sum().item(), 3, 21)
    assert norms[:3] == pytest.approx(whole[:3])


def test_equal_gradients_have_no_noise_and_opposite_ones_no_signal():
    same = noise_scale(torch.ones(4, 3), 2)
    assert (same.scale, same.trace, same.squared_norm) == (0, 0, pytest.approx(3))
    opposite = noise_scale(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 2)
    assert opposite.scale == math.inf
    assert opposite.squared_norm < 0
    assert math.isnan(opposite.trace_error)


@pytest.mark.parametrize(
    "build",
    [
        lambda: noise_scale(torch.ones(1, 3), 2),
        lambda: noise_scale(torch.ones(3), 2),
        lambda: noise_scale(torch.ones(2, 3), 0),
        lambda: noise_from_norms(1.0, 1.0, 4, 4),
    ],
)
def test_what_cannot_tell_noise_is_refused_in_one_line(build):
    with pytest.raises(InputError) as told:
        build()
    assert "\n" not in str(told.value)


def test_the_limits_of_the_scale_put_both_moments_off_by_a_standard_error():
    """By hand: (10 - 1) / (2 + 1/2) and (10 + 1) / (2 - 1/2); no upper one where the signal may be nil."""
    sure = Noise(5.0, 10.0, 2.0, 1.0, 0.5)
    assert (sure.low, sure.high) == (pytest.approx(3.6), pytest.approx(22 / 3))
    faint = Noise(float("inf"), 10.0, -0.1, 1.0, 0.5)
    assert (faint.low, faint.high) == (pytest.approx(22.5), float("inf"))
    assert math.isnan(noise_from_norms(2.0, 1.0, 1, 4).high)
