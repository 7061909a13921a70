"""Augmentations as text and back, batches of every kind, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from downslope.augment import (
    Chain,
    Colour,
    Crop,
    CutMix,
    Cutout,
    Erase,
    Flip,
    MixUp,
    Noise,
    ResizedCrop,
    Rotate,
    Shift,
    read,
)
from downslope.core import names
from downslope.core.errors import InputError

EVERY = [
    Flip(), Flip("vertical", p=0.2), Shift(3, mode="reflect"), Shift(0.2), Rotate(10.5, value=-1.0),
    Crop(2, size=(6, 5)), ResizedCrop((0.5, 1.0)), Colour(0.1, hue=0.1, bounds=(0.0, 1.0)),
    Noise(0.01, p=0.5), Cutout(3), Erase((0.1, 0.2)),
    MixUp(0.4, labels="soft", classes=10), CutMix(), Chain(Flip(), Chain(Rotate(5), Noise())),
    Chain(Shift(1), shape=(1, 8, 8), inputs="image", target=1),
]  # fmt: skip


@pytest.mark.parametrize("given", EVERY, ids=str)
def test_the_text_of_an_augmentation_is_read_as_the_same(given: Any) -> None:
    assert read(str(given)) == given


def test_every_name_of_the_table_makes_one_of_its_own_name() -> None:
    for name in names.TABLE["augment"]:
        assert read(name).name == name
    assert read("color") == Colour()
    assert read("random_crop(2)") == Crop(2)


@pytest.mark.parametrize(
    "given",
    [
        "flip, rotate(10)",
        ["flip", "rotate(10)"],
        ("flip", Rotate(10)),
        [{"name": "flip"}, {"name": "rotate", "degrees": 10}],
        "chain(flip(), rotate(degrees=10))",
    ],
)
def test_texts_lists_and_tables_make_the_same_chain(given: Any) -> None:
    assert read(given) == Chain(Flip(), Rotate(10))


def test_a_word_needs_no_quotes() -> None:
    assert read("flip(direction=vertical)") == Flip("vertical")
    assert read("chain(shift(1), shape=(1, 8, 8))") == Chain(Shift(1), shape=(1, 8, 8))


def test_code_of_the_users_own_stays_what_it_is() -> None:
    def own(batch: Any) -> Any:
        return batch

    assert read(own) is own
    assert read("downslope.augment:Flip.__call__") is Flip.__call__


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("flop", "augment 'flop' is not known; did you mean 'flip'"),
        ("flip(", "must be names with settings, such as 'flip, rotate"),
        ("flip(angle=3)", "flip takes p, direction"),
        ("__import__('os')", "augment '__import__' is not known"),
        ("flip, 3", "must be a name such as 'flip'"),
        ("flip + rotate", "must be names with settings"),
        ("rotate(270)", r"augment rotate: degrees=270: must lie in \[0, 180\]"),
        ("shift(-1)", "augment shift: by=-1: must be a whole number"),
        ("shift(1.5)", r"or a share of the side in \(0, 1\)"),
        ("noise(std=-0.1)", "must be a finite number of at least 0"),
        ("flip(p=1.5)", r"p=1\.5: must lie in \[0, 1\], it is a share"),
        ("erase(scale=(0.5, 0.1))", r"must be a pair \(low, high\)"),
        ("cutout(0)", "must be a whole number of pixels from 1"),
        ("crop(size=0)", "must be pixels from 1"),
        ("mixup(classes=1)", "must be a whole number from 2"),
        ("mixup(labels=hard)", "must be 'auto', 'soft' or 'interpolate'"),
        ("colour(hue=0.7)", r"must lie in \[0, 0\.5\]"),
        ("shift(mode=mirror)", "must be one of 'constant', 'reflect', 'replicate', 'circular'"),
        ("chain(flip, shape=(8, 8))", r"must be \(channels, height, width\)"),
        (3, "must be a name such as 'flip'"),
        (Flip, "augment=Flip is a class: make one"),
        ({"degrees": 3}, "has no name"),
        ([print], "is no augmentation of Downslope's"),
    ],
)
def test_what_is_no_augmentation_is_told_in_one_line(given: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        read(given)
    assert "\n" not in str(raised.value)


IMAGES = torch.rand(6, 1, 5, 5)
LABELS = torch.arange(6)


def test_only_the_inputs_change_whatever_the_batch_looks_like() -> None:
    shift = Shift(2, mode="circular")
    torch.manual_seed(0)
    expected = shift(IMAGES)
    weights = torch.rand(6)
    batches: list[tuple[Any, Any]] = [
        ((IMAGES, LABELS), lambda b: b[0]),
        ([IMAGES, weights, LABELS], lambda b: b[0]),
        ({"x": IMAGES, "mask": LABELS > 2, "labels": LABELS}, lambda b: b["x"]),
        ({"pixel_values": IMAGES, "w": weights, "labels": LABELS}, lambda b: b["pixel_values"]),
        ((IMAGES,), lambda b: b[0]),
    ]
    for batch, inputs in batches:
        torch.manual_seed(0)
        made = shift(batch)
        assert type(made) is type(batch)
        np.testing.assert_array_equal(inputs(made), expected)
        assert not torch.equal(expected, IMAGES)
        if isinstance(batch, dict):
            assert all(made[key] is batch[key] for key in batch if batch[key] is not IMAGES)
        elif len(batch) > 1:
            assert all(a is b for a, b in zip(made[1:], batch[1:], strict=True))


def test_a_chain_says_where_inputs_and_target_are() -> None:
    torch.manual_seed(0)
    batch = {"id": LABELS, "a": IMAGES, "b": IMAGES, "y": LABELS}
    made = Chain(Shift(2), MixUp(1.0, classes=6), inputs="b", target="y")(batch)
    assert made["a"] is IMAGES
    assert made["y"].shape == (6, 6)
    with pytest.raises(ValueError, match="dict with 2 floating tensors"):
        Shift(2)(batch)
    with pytest.raises(ValueError, match="nothing at 'c'"):
        Chain(Shift(2), inputs="c")(batch)


def test_flat_rows_are_read_as_images_of_a_shape_and_stay_flat() -> None:
    torch.manual_seed(0)
    rows = Chain("shift(1)", shape=(1, 5, 5))((IMAGES.flatten(1), LABELS))[0]
    torch.manual_seed(0)
    np.testing.assert_array_equal(rows, Shift(1)(IMAGES).flatten(1))
    with pytest.raises(ValueError, match="hold 25 numbers an example, not 36"):
        Chain("shift(1)", shape=(1, 6, 6))(IMAGES.flatten(1))


@pytest.mark.parametrize(
    ("given", "inputs", "told"),
    [
        (Flip(), torch.rand(4, 25), r"takes images \(n, c, h, w\), and the inputs are \(4, 25\): flat rows"),
        (Flip(), torch.zeros(4, 1, 5, 5, dtype=torch.uint8), r"inputs\.float\(\) / 255"),
        (Noise(), torch.zeros(4, 5, dtype=torch.int64), "whole numbers have nothing between them"),
        (Noise(), "text", "a batch must be a tensor, a tuple or a dict, and is str"),
        (Noise(), ("text", 1), "the inputs are str, and must be one tensor"),
        (Shift(5), torch.rand(4, 1, 5, 5), "takes images of 5 by 5 pixels out of sight"),
        (Crop(0, size=6), torch.rand(4, 1, 5, 5), "larger than images of 5 by 5 pixels with 0 around"),
        (Crop(5), torch.rand(4, 1, 5, 5), "padding=5 takes images of 5 by 5 pixels out of sight"),
    ],
)
def test_inputs_that_it_is_not_for_are_refused(given: Any, inputs: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        given(inputs)


@pytest.mark.parametrize("given", EVERY[:-1], ids=str)
def test_the_same_generator_gives_the_same_and_another_another(given: Any) -> None:
    x = torch.rand(40, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    y = torch.rand(40)

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return given((x, y))[0]

    np.testing.assert_array_equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
