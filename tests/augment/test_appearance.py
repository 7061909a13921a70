"""Colour, noise and what is left out, against formulas in numpy and the standard library."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch

from downslope.augment import Chain, Colour, Cutout, Erase, Noise

GREY = np.array([0.299, 0.587, 0.114])


def images(n: int = 200, channels: int = 3, size: int = 6) -> torch.Tensor:
    return torch.rand(
        n, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


def only(**said: float) -> Colour:
    return Colour(**({"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | said))


def test_brightness_multiplies_each_example_by_its_own_factor() -> None:
    torch.manual_seed(0)
    x = images(3000)
    ratio = (only(brightness=0.3)(x) / x).numpy().reshape(3000, -1)
    assert np.ptp(ratio, axis=1).max() < 1e-12
    factors = ratio[:, 0]
    assert 0.7 <= factors.min() < 0.71
    assert 1.29 < factors.max() <= 1.3
    assert factors.mean() == pytest.approx(1.0, abs=4 * 0.6 / math.sqrt(12 * 3000))


def test_contrast_spreads_about_the_mean_brightness() -> None:
    torch.manual_seed(0)
    x = images()
    y = only(contrast=0.5)(x).numpy()
    mean = np.einsum("nchw,c->n", x.numpy(), GREY) / 36
    factor = (y - mean[:, None, None, None]) / (x.numpy() - mean[:, None, None, None])
    assert np.ptp(factor.reshape(200, -1), axis=1).max() < 1e-8
    assert factor.min() >= 0.5
    assert factor.max() <= 1.5
    assert factor[:, 0, 0, 0].std() > 0.2


def test_saturation_keeps_the_brightness_and_scales_the_distance_from_grey() -> None:
    torch.manual_seed(0)
    x = images()
    y = only(saturation=0.8)(x).numpy()
    grey = np.einsum("nchw,c->nhw", x.numpy(), GREY)
    np.testing.assert_allclose(np.einsum("nchw,c->nhw", y, GREY), grey, atol=1e-6)
    factor = (y - grey[:, None]) / (x.numpy() - grey[:, None])
    assert np.ptp(np.median(factor.reshape(200, -1), axis=1)) > 1.0
    assert np.abs(factor - np.median(factor, axis=(1, 2, 3), keepdims=True)).max() < 1e-8


def test_hue_turns_the_colour_and_keeps_brightness_and_strength() -> None:
    torch.manual_seed(0)
    x = images(50)
    y = only(hue=0.25)(x).numpy()
    for i in range(50):
        turns: list[float] = []
        for a, b in zip(x[i].reshape(3, -1).T.tolist(), y[i].reshape(3, -1).T.tolist(), strict=True):
            (light, u, v), (light_after, u_after, v_after) = colorsys.rgb_to_yiq(*a), colorsys.rgb_to_yiq(*b)
            assert light_after == pytest.approx(light, abs=1e-2)  # colorsys rounds its matrix
            assert math.hypot(u_after, v_after) == pytest.approx(math.hypot(u, v), abs=2e-2)
            if math.hypot(u, v) > 0.1:
                turns.append((math.atan2(v_after, u_after) - math.atan2(v, u)) % (2 * math.pi))
        wrapped = (np.array(turns) + math.pi) % (2 * math.pi) - math.pi
        assert np.ptp(wrapped) < 0.1
        assert np.abs(wrapped).max() <= math.pi / 2 + 0.05


def test_grey_images_change_in_brightness_and_contrast_alone() -> None:
    torch.manual_seed(0)
    x = images(channels=1)
    y = Colour(0.4, 0.4)(x)
    slope = [
        np.polyfit(a.ravel(), b.ravel(), 1, full=True) for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    assert max(float(each[1].sum()) for each in slope) < 1e-10
    with pytest.raises(ValueError, match="the images have 1 channels"):
        Colour(hue=0.1)(x)


def test_bounds_cut_and_a_share_is_left_alone() -> None:
    torch.manual_seed(0)
    x = images(1000)
    y = Colour(0.9, 0.9, 0.9, 0.3, bounds=(0.0, 1.0), p=0.5)(x)
    assert float(y.min()) >= 0.0
    assert float(y.max()) <= 1.0
    assert float((x == y).flatten(1).all(1).double().mean()) == pytest.approx(0.5, abs=0.07)


def test_noise_has_its_standard_deviation_on_inputs_of_any_shape() -> None:
    torch.manual_seed(0)
    for shape in ((5000, 4), (500, 3, 5, 5), (5000,)):
        x = torch.randn(shape, dtype=torch.float64)
        added = (Noise(0.25)(x) - x).numpy()
        assert added.std() == pytest.approx(0.25, rel=0.05)
        assert abs(added.mean()) < 4 * 0.25 / math.sqrt(added.size)


def test_noise_on_a_share_of_the_examples() -> None:
    torch.manual_seed(0)
    x = torch.zeros(3000, 4)
    changed = (Noise(1.0, p=0.2)(x) != 0).all(1)
    assert float(changed.double().mean()) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_leaves_out_one_square_whose_centre_is_uniform(size: int) -> None:
    torch.manual_seed(0)
    n, side = 5000, 8
    gone = (Cutout(size, value=-1.0)(torch.zeros(n, 2, side, side)) == -1.0)[:, 0].numpy()
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert (gone.sum((1, 2)) == heights * widths).all()  # one box
    assert heights.max() == size
    assert heights.min() == (size + 1) // 2  # part of it may lie outside
    whole = (heights == size) & (widths == size)
    assert whole.mean() == pytest.approx(((side - size + 1) / side) ** 2, abs=0.03)
    # A pixel is gone if the centre is one of those within reach: counted, not drawn.
    reach = np.array(
        [sum(abs(p - k - (0 if size % 2 else 0.5)) < size / 2 for k in range(side)) for p in range(side)]
    )
    np.testing.assert_allclose(gone.mean(0), np.outer(reach, reach) / side**2, atol=0.03)


def test_random_erasing_leaves_out_a_box_of_the_areas_asked_for() -> None:
    torch.manual_seed(0)
    n, side = 3000, 40
    gone = (Erase((0.1, 0.3), (0.5, 2.0), value=2.0)(torch.zeros(n, 1, side, side)) == 2.0)[:, 0].numpy()
    hit = gone.any((1, 2))
    assert hit.mean() == pytest.approx(0.5, abs=0.04)
    heights, widths = gone[hit].any(2).sum(1), gone[hit].any(1).sum(1)
    area = heights * widths / side**2
    assert (gone[hit].sum((1, 2)) == heights * widths).all()
    assert area.min() > 0.09
    assert area.max() < 0.32
    assert area.mean() == pytest.approx(0.2, abs=0.01)
    ratio = np.log(heights / widths)
    assert abs(ratio.mean()) < 0.05
    assert np.abs(ratio).max() < math.log(2.3)


@pytest.mark.parametrize("given", [Colour(), Noise(), Cutout(3), Erase(p=1.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_is_kept_and_the_given_tensor_too(given: Any, dtype: torch.dtype) -> None:
    x = images(32).to(dtype)
    before = x.clone()
    y = given(x)
    assert y.dtype == dtype
    assert torch.equal(x, before)
    assert not torch.equal(y, x)


def test_a_chain_does_one_after_the_other() -> None:
    x = images(8)
    torch.manual_seed(7)
    both = Chain(Colour(), Noise(0.1))(x)
    torch.manual_seed(7)
    np.testing.assert_array_equal(both, Noise(0.1)(Colour()(x)))
