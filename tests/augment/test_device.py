"""On a GPU: nothing leaves it, the same address gives the same images, and targets follow there."""

from __future__ import annotations

import pytest
import torch

from downslope.augment import read
from downslope.training.augmenting import Augmenter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
EVERY = (
    "flip(both)", "shift(2, mode=reflect)", "rotate", "crop(2)", "resized_crop", "colour", "noise",
    "cutout(3)", "erase", "mixup(1.0, classes=4)", "cutmix(1.0, classes=4)",
    "flip, rotate, colour, mixup(classes=4)",
)  # fmt: skip


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_stays_on_the_device_and_repeats(text: str, dtype: torch.dtype) -> None:
    x = torch.rand(64, 3, 12, 12, device="cuda").to(dtype)
    y = torch.arange(64, device="cuda") % 4
    augment = Augmenter(read(text), seed=1)
    first, again, other = (augment((x, y), 0, index) for index in (0, 0, 1))
    assert first[0].device.type == first[1].device.type == "cuda"
    assert first[0].dtype == dtype
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    "text", ["flip(p=1.0)", "resized_crop((1.0, 1.0), (1.0, 1.0))", "rotate(0)", "shift(0)"]
)
def test_what_hangs_on_no_draw_is_what_the_cpu_gives(text: str) -> None:
    x = torch.rand(8, 3, 12, 12)
    torch.testing.assert_close(read(text)(x.cuda()).cpu(), read(text)(x), atol=1e-5, rtol=0)
