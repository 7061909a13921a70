"""Mixup and cutmix: shares, partners, and the targets that follow, against the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from downslope.augment import Chain, CutMix, MixUp

N = 4000


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    torch.manual_seed(0)
    shares = MixUp(alpha).shares(N, torch.zeros(1)).double().numpy()
    # float32 has no number between 1 - 6e-8 and 1, where a small alpha puts part of its mass.
    inner = np.sort(shares[(shares > 1e-6) & (shares < 1 - 1e-6)])
    law = stats.beta(alpha, alpha)
    low, high = law.cdf(1e-6), law.cdf(1 - 1e-6)
    assert len(inner) / N == pytest.approx(high - low, abs=0.03)
    cdf = (law.cdf(inner) - low) / (high - low)
    gap = np.abs(cdf - np.linspace(0, 1, len(inner))).max()
    assert gap < 1.63 / math.sqrt(len(inner))


def test_inputs_and_targets_are_mixed_by_one_share_and_one_partner() -> None:
    torch.manual_seed(0)
    x = torch.eye(10, dtype=torch.float64).repeat(40, 1)  # the input is the class, so its mixture tells all
    y = torch.arange(10).repeat(40)
    mixed, rows = MixUp(0.7, classes=10)((x, y))
    np.testing.assert_allclose(mixed, rows, atol=1e-6)
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-6)
    assert int((rows > 0).sum(1).max()) == 2
    assert float(((rows > 0.01) & (rows < 0.99)).any(1).double().mean()) > 0.5


def test_the_expectation_is_half_its_own_and_half_the_mean_of_all() -> None:
    """E k = 1/2, and the partner is any example: E x' = x / 2 + mean / 2."""
    torch.manual_seed(0)
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    draws = [MixUp(0.4, labels="interpolate")((x, y)) for _ in range(6000)]
    for part, given in enumerate((x, y)):
        values = torch.stack([each[part] for each in draws])
        expected = given / 2 + given.mean(0) / 2
        error = (values.mean(0) - expected) / (values.std(0) / math.sqrt(len(draws)))
        assert float(error.abs().max()) < 4.5


def test_the_loss_on_soft_rows_is_the_papers_mixture_of_two_losses() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(32, 5), torch.randint(0, 4, (32,))
    z = torch.randn(32, 4, dtype=torch.float64)
    mix = MixUp(1.0, classes=4)
    torch.manual_seed(3)
    _, rows = mix((x, y))
    torch.manual_seed(3)
    partner = torch.randperm(32)
    kept = mix.shares(32, x).double()
    a = functional.cross_entropy(z, y, reduction="none")
    b = functional.cross_entropy(z, y[partner], reduction="none")
    expected = (kept * a + (1 - kept) * b).mean()
    assert float(functional.cross_entropy(z, rows.double())) == pytest.approx(float(expected), rel=1e-6)


def test_cutmix_pastes_one_box_and_counts_its_pixels() -> None:
    torch.manual_seed(0)
    n, height, width = 800, 10, 14
    x = torch.arange(n).float()[:, None, None, None].expand(n, 2, height, width)
    y = torch.eye(4)[torch.arange(n) % 4]  # rows already
    pasted, rows = CutMix(1.0)((x, y))
    foreign = (pasted != x)[:, 0].numpy()
    heights, widths = foreign.any(2).sum(1), foreign.any(1).sum(1)
    assert (foreign.sum((1, 2)) == heights * widths).all()
    share = 1 - foreign.mean((1, 2))
    for i in range(n):
        others = pasted[i][pasted[i] != i].unique()
        assert len(others) <= 1
        partner = int(others[0]) if len(others) else i
        expected = share[i] * y[i].numpy() + (1 - share[i]) * y[partner].numpy()
        np.testing.assert_allclose(rows[i], expected, atol=1e-6)


def test_the_boxes_of_cutmix_have_the_sides_that_the_paper_says() -> None:
    """Uncut, a box has area 1 - k; uniform k with the centre anywhere leaves 1 - E area cut at the border."""
    torch.manual_seed(0)
    n, side = 4000, 30
    x = torch.arange(n).float()[:, None, None, None].expand(n, 1, side, side)
    foreign = (CutMix(1.0)(x) != x)[:, 0].numpy().mean((1, 2))
    generator = np.random.default_rng(0)
    k, centre = generator.uniform(size=200_000), generator.uniform(size=(200_000, 2))
    half = np.sqrt(1 - k)[:, None] / 2
    box = np.minimum(centre + half, 1) - np.maximum(centre - half, 0)
    assert foreign.mean() == pytest.approx(box.prod(1).mean(), abs=0.012)


def test_a_mask_is_pasted_with_its_image() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 3, (100, 1, 8, 8)).float()
    y, mask = CutMix(1.0)((x, x[:, 0].long()))
    np.testing.assert_array_equal(y[:, 0].long(), mask)


def test_masks_are_mixed_as_rows_on_the_axis_of_the_classes() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 1, 4, 4), torch.randint(0, 3, (20, 4, 4))
    _, rows = MixUp(1.0, classes=3)((x, y))
    assert rows.shape == (20, 3, 4, 4)
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-6)


def test_a_share_p_is_mixed_and_alpha_0_mixes_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3000, 2), torch.randn(3000)
    mixed, _ = MixUp(1.0, labels="interpolate", p=0.3)((x, y))
    assert float((mixed == x).all(1).double().mean()) == pytest.approx(0.7, abs=0.05)
    for same, given in zip(MixUp(0)((x, y)), (x, y), strict=True):
        np.testing.assert_allclose(same, given, atol=1e-6)


def test_two_mixtures_after_one_another_keep_rows_of_probabilities() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 1, 6, 6), torch.randint(0, 5, (64,))
    _, rows = Chain(MixUp(0.5, classes=5), CutMix(0.5, classes=5))((x, y))
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-5)
    assert int((rows > 1e-6).sum(1).max()) <= 4


def test_indices_without_a_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"give mixup\(classes=\.\.\.\)"):
        MixUp()((torch.randn(4, 2), torch.tensor([0, 1, 2, 0])))
    with pytest.raises(ValueError, match="must be one tensor to be mixed"):
        MixUp()((torch.randn(2, 2), ["a", "b"]))
