"""Transforms of kornia and torchvision in the place of ours; without the library its tests skip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.augment import Flip, read
from downslope.core.errors import InputError
from downslope.training.augmenting import Augmenter

X = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(64) % 4


def kornia() -> Any:
    return pytest.importorskip("kornia.augmentation", reason="the extra kornia is not installed")


def vision() -> Any:
    return pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")


def test_a_kornia_module_changes_the_inputs_and_leaves_the_labels() -> None:
    flip = read(kornia().RandomHorizontalFlip(p=0.5))
    torch.manual_seed(0)
    x, y = flip((X, Y))
    mirrored = (x == X.flip(-1)).flatten(1).all(1)
    same = (x == X).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 0.25 < float(mirrored.float().mean()) < 0.75
    assert y is Y


def test_a_kornia_rotation_turns_as_ours_does() -> None:
    k = kornia()
    turned = read(k.RandomRotation((30.0, 30.0), p=1.0, align_corners=False))((X, Y))[0]
    angle = torch.full((64,), np.pi / 6)
    ours = ds.augment.Rotate(30).move(X, (angle, torch.ones(64, dtype=torch.bool)), mask=False, value=0.0)
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    np.testing.assert_allclose(turned[inner], ours[inner], atol=0.12)


def test_a_sequence_of_kornia_modules_is_one_transform() -> None:
    k = kornia()
    both = torch.nn.Sequential(k.RandomHorizontalFlip(p=1.0), k.RandomVerticalFlip(p=1.0))
    np.testing.assert_array_equal(read(both)((X, Y))[0], X.flip(-1).flip(-2))


def test_torchvision_draws_for_each_example_here() -> None:
    """Called on a whole batch, its transforms make one draw."""
    v2 = vision()
    x, y = read(v2.RandomHorizontalFlip(p=0.5))((X, Y))
    mirrored = (x == X.flip(-1)).flatten(1).all(1)
    assert 0.25 < float(mirrored.float().mean()) < 0.75
    assert y is Y
    crop = read(v2.Compose([v2.RandomCrop(8, padding=2), v2.RandomHorizontalFlip()]))
    assert crop((X, Y))[0].shape == X.shape


def test_our_colour_brightens_as_torchvision_does() -> None:
    v2 = vision()
    grey = X[:, :1]
    ours = ds.augment.Colour(0.0, 0.4)(grey)
    for i in range(8):
        factor = float((ours[i] - grey[i].mean()).flatten()[0] / (grey[i] - grey[i].mean()).flatten()[0])
        theirs = v2.functional.adjust_contrast(grey[i], factor)
        inside = (ours[i] > 0) & (ours[i] < 1)
        np.testing.assert_allclose(ours[i][inside], theirs[inside], atol=1e-4)


def test_torchvisions_mixtures_take_the_whole_batch() -> None:
    v2 = vision()
    x, y = read(v2.MixUp(num_classes=4, alpha=1.0))((X, Y))
    assert x.shape == X.shape
    np.testing.assert_allclose(y.sum(1), 1.0, atol=1e-6)


@pytest.mark.parametrize("library", ["kornia", "torchvision"])
def test_a_run_with_a_foreign_transform_repeats_bit_by_bit(library: str) -> None:
    transform = (kornia() if library == "kornia" else vision()).RandomAffine(20.0)
    problem = ds.Problem(
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)), train=(X, Y),
        objective="cross_entropy", augment=transform,
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=16, epochs=2)
    losses = [
        ds.fit(problem, recipe, folder=False, progress=False).history.series("train_loss").values
        for _ in "ab"
    ]
    assert losses[0].tobytes() == losses[1].tobytes()
    assert problem.describe()["augment"] == f"{library}.RandomAffine()"


class Mirror:
    """Stands in for a library's transform where the library is not there."""

    def __init__(self, module: str) -> None:
        self.calls = 0
        type(self).__module__ = module

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if image.shape[-1] == 5:
            raise RuntimeError("five is odd")
        return image.flip(-1)


@pytest.mark.parametrize(("module", "calls"), [("kornia.x", 1), ("torchvision.x", 64)])
def test_whose_transform_it_is_says_how_it_is_called(
    module: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mirror, "__module__", Mirror.__module__)
    mirror = Mirror(module)
    made = read(mirror)
    x, y = made((X, Y))
    assert mirror.calls == calls
    np.testing.assert_array_equal(x, X.flip(-1))
    assert y is Y
    assert str(made) == f"{module.split('.', maxsplit=1)[0]}.Mirror()"
    with pytest.raises(InputError, match=r"Mirror\(\) failed on .*five is odd"):
        Augmenter(made, 0)((torch.rand(2, 1, 5, 5), Y[:2]), 0, 0)


def test_ours_is_not_taken_for_anybody_elses() -> None:
    assert read(Flip()) == Flip()
