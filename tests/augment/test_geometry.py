"""Where pixels go, against SciPy, numpy's slicing and torchvision's words for the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from downslope.augment import Chain, Crop, Flip, ResizedCrop, Rotate, Shift
from downslope.core.class_targets import IGNORED

N = 64


def images(n: int = N, shape: tuple[int, int, int] = (2, 9, 13), dtype: Any = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)


def coded(n: int = N, height: int = 9, width: int = 13) -> Tensor:
    """Each pixel holds its own row and column, so that where it went can be read off."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float().expand(n, 2, height, width) + 1


def test_a_flip_mirrors_each_example_or_leaves_it_and_half_of_them() -> None:
    torch.manual_seed(0)
    x = images(4000, (1, 3, 4))
    y = Flip()(x)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    same = (y == x).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert float(mirrored.double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))


def test_both_flips_are_drawn_apart() -> None:
    torch.manual_seed(0)
    x = images(4000, (1, 3, 4))
    y = Flip("both", p=0.3)(x)
    turns = [x, x.flip(-1), x.flip(-2), x.flip(-1).flip(-2)]
    shares = [float((y == each).flatten(1).all(1).double().mean()) for each in turns]
    np.testing.assert_allclose(shares, [0.49, 0.21, 0.21, 0.09], atol=0.03)


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [("constant", "constant"), ("replicate", "nearest"), ("reflect", "mirror"), ("circular", "grid-wrap")],
)
def test_a_shift_moves_as_scipys_does(mode: Any, theirs: str) -> None:
    torch.manual_seed(1)
    x = images()
    shift = Shift(3, mode=mode, value=0.5)
    drawn, most = shift.draw(x, torch.ones(N, dtype=torch.bool))
    y = shift.move(x, (drawn, most), mask=False, value=0.5)
    for i in range(N):
        by = (0, int(drawn[0][i]), int(drawn[1][i]))
        expected = ndimage.shift(x[i].numpy(), by, order=0, mode=theirs, cval=0.5)
        np.testing.assert_array_equal(y[i], expected)


def test_shifts_are_uniform_and_each_example_has_its_own() -> None:
    torch.manual_seed(0)
    n = 5000
    x = coded(n)
    y = Shift(2, mode="circular")(x)
    down = (x[:, 0, 4, 6] - y[:, 0, 4, 6]).numpy()
    right = (x[:, 1, 4, 6] - y[:, 1, 4, 6]).numpy()
    counts = np.histogram2d(down, right, bins=np.arange(-2.5, 3))[0]
    expected = n / 25
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert counts.sum() == n
    assert chi2 < 43  # 24 degrees of freedom, 1 %


def test_a_share_counts_by_side_and_a_part_is_left_alone() -> None:
    torch.manual_seed(0)
    x = coded(2000, 8, 20)
    y = Shift(0.25, mode="replicate", p=0.4)(x)
    down = (x[:, 0, 4, 10] - y[:, 0, 4, 10]).abs().max()
    right = (x[:, 1, 4, 10] - y[:, 1, 4, 10]).abs().max()
    assert (int(down), int(right)) == (2, 5)
    same = float((x == y).flatten(1).all(1).double().mean())
    assert same == pytest.approx(0.6 + 0.4 / (5 * 11), abs=0.05)


@pytest.mark.parametrize("shape", [(2, 9, 13), (1, 16, 16), (3, 7, 4)])
def test_a_rotation_turns_as_scipys_does(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(2)
    x = images(16, shape)
    turn = Rotate(60, value=0.3)
    moves = turn.draw(x, torch.ones(16, dtype=torch.bool))
    y = turn.move(x, moves, mask=False, value=0.3)
    for i in range(16):
        degrees = math.degrees(float(moves[0][i]))
        expected = ndimage.rotate(
            x[i].numpy(), degrees, axes=(2, 1), reshape=False, order=1, mode="grid-constant", cval=0.3
        )
        np.testing.assert_allclose(y[i], expected, atol=2e-6)  # the angle's cosine is float32


def test_angles_are_uniform_and_against_the_clock() -> None:
    torch.manual_seed(0)
    x = images(4000, (1, 2, 2))
    angles, _ = Rotate(30).draw(x, torch.ones(4000, dtype=torch.bool))
    found = np.sort(np.degrees(angles.numpy()))
    gap = np.abs(found - np.linspace(-30, 30, 4000)).max() / 60
    assert gap < 1.63 / math.sqrt(4000)  # Kolmogorov and Smirnov, 1 %
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 4, 8] = 1.0  # at three o'clock
    quarter = Rotate(90).move(dot, (torch.tensor([math.pi / 2]), torch.tensor([True])), mask=False, value=0)
    assert divmod(int(quarter.argmax()), 9) == (0, 4)  # now at twelve


def test_examples_that_are_not_turned_keep_their_bits() -> None:
    torch.manual_seed(0)
    x = images(1000, (1, 5, 5))
    y = Rotate(30, p=0.25)(x)
    same = (x == y).flatten(1).all(1)
    assert float(same.double().mean()) == pytest.approx(0.75, abs=0.06)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    torch.manual_seed(0)
    x = images()
    crop = Crop(2, size=(7, 10), mode="reflect")
    (top, left), sides = crop.draw(x, torch.ones(N, dtype=torch.bool))
    y = crop.move(x, ((top, left), sides), mask=False, value=0.0)
    around = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for i in range(N):
        a, b = int(top[i]), int(left[i])
        np.testing.assert_array_equal(y[i], around[i, :, a : a + 7, b : b + 10])
    assert int(top.min()) == 0
    assert int(top.max()) == 9 + 4 - 7
    middle = Crop(0, size=5, p=0.0)(x)
    np.testing.assert_array_equal(middle, x[:, :, 2:7, 4:9])


def test_a_crop_without_a_size_is_a_shift_by_at_most_the_padding() -> None:
    torch.manual_seed(0)
    x = coded(500)
    y = Crop(3, mode="constant")(x)
    assert y.shape == x.shape
    offsets = (y[:, 0] - x[:, 0])[y[:, 0] > 0]
    assert set(offsets.unique().tolist()) == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}


def test_a_resized_crop_reads_a_box_inside_the_image() -> None:
    torch.manual_seed(0)
    n, height, width = 3000, 12, 18
    x = coded(n, height, width) - 0.5  # the place of a pixel's centre
    crop = ResizedCrop((0.1, 0.3), (0.5, 2.0))  # each box fits into images of 12 by 18
    y = crop(x)
    down = (y[:, 0, -2, 5] - y[:, 0, 1, 5]) / (height - 3)  # rows stepped per row: the box's share
    across = (y[:, 1, 5, -2] - y[:, 1, 5, 1]) / (width - 3)
    inner = (
        (y[:, 0, 1, 5] > 1)
        & (y[:, 0, -2, 5] < height - 1)
        & (y[:, 1, 5, 1] > 1)
        & (y[:, 1, 5, -2] < width - 1)
    )
    area, ratio = (down * across)[inner], (across * width / (down * height))[inner]
    assert float(y.min()) >= 0.5
    assert float(y[:, 0].max()) <= height - 0.5
    assert float(area.min()) >= 0.0999
    assert float(area.max()) <= 0.3001
    assert 0.49 < float(ratio.min()) < 0.55
    assert 1.8 < float(ratio.max()) < 2.01
    assert float(ratio.log().mean()) == pytest.approx(0.0, abs=0.08)


def test_a_resized_crop_of_the_whole_image_is_the_image() -> None:
    x = images(8, (3, 6, 6))
    np.testing.assert_allclose(ResizedCrop((1.0, 1.0), (1.0, 1.0))(x), x, atol=1e-6)


@pytest.mark.parametrize("given", [Flip("both"), Shift(2), Rotate(40), Crop(2), ResizedCrop()])
def test_a_mask_moves_along_and_what_comes_from_outside_counts_for_no_class(given: Any) -> None:
    torch.manual_seed(3)
    x = torch.zeros(200, 1, 12, 12)
    x[:, :, 3:7, 4:11] = 1.0
    mask = x[:, 0].long()
    y, moved = given((x, mask))
    assert moved.shape == mask.shape
    assert moved.dtype == torch.int64
    assert set(moved.unique().tolist()) <= {IGNORED, 0, 1}
    if not isinstance(given, Flip | ResizedCrop):  # which show nothing from beyond the border
        assert IGNORED in moved
    sure = (y[:, 0] == 1.0) | (y[:, 0] == 0.0)
    inside = sure & (moved >= 0)
    agree = (y[:, 0][inside] == moved[inside]).double().mean()
    assert float(agree) > 0.97  # the nearest pixel may be the other one beside a border between two
    assert float(inside.double().mean()) > 0.5


def test_a_target_image_of_numbers_is_changed_as_the_input_is() -> None:
    torch.manual_seed(4)
    x = images(32, (2, 8, 8))
    for augment in (Chain(Flip(), Shift(2), Rotate(20)), Crop(2), ResizedCrop()):
        y, target = augment((x, x.clone()))
        np.testing.assert_array_equal(y, target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", [Flip(), Shift(1), Rotate(20), Crop(1), ResizedCrop()], ids=str)
def test_every_floating_type_is_kept_and_agrees_with_float64(given: Any, dtype: torch.dtype) -> None:
    x = images(16, dtype=dtype)
    torch.manual_seed(5)
    y = given(x)
    torch.manual_seed(5)
    exact = given(x.double())
    assert y.dtype == dtype
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    np.testing.assert_allclose(y.double(), exact, atol=tolerance)
