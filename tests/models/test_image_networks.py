"""Networks for images: sizes by hand and as published; DeepOBS's two against TensorFlow's padding rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.errors import ModelError
from downslope.models import alexnet, cnn, cnn_2c2d, cnn_3c3d, lenet, resnet


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def layer(into: int, out: int, kernel: int = 1) -> int:
    """Weights and biases of a layer, by hand."""
    return into * out * kernel * kernel + out


def test_lenet_has_the_usual_61706_parameters_on_28_and_on_32_pixels() -> None:
    by_hand = layer(1, 6, 5) + layer(6, 16, 5) + layer(400, 120) + layer(120, 84) + layer(84, 10)
    assert by_hand == 61_706
    assert count(lenet(1, 28, 10)) == count(lenet(1, 32, 10)) == by_hand


def test_2c2d_and_3c3d_have_the_parameters_of_deepobs() -> None:
    small = layer(1, 32, 5) + layer(32, 64, 5) + layer(3136, 1024) + layer(1024, 10)
    large = layer(3, 64, 5) + layer(64, 96, 3) + layer(96, 128, 3)
    large += layer(1152, 512) + layer(512, 256) + layer(256, 10)
    assert (small, large) == (3_274_634, 895_210)  # as told by BackPACK for the same networks
    assert count(cnn_2c2d(1, 28, 10)) == small
    assert count(cnn_3c3d(3, 32, 10)) == large


def test_alexnet_has_its_five_convolutions_and_three_maps() -> None:
    by_hand = layer(3, 64, 5) + layer(64, 192, 5) + layer(192, 384, 3) + layer(384, 256, 3)
    by_hand += layer(256, 256, 3) + layer(256 * 16, 1024) + layer(1024, 1024) + layer(1024, 10)
    assert count(alexnet(3, 32, 10)) == by_hand == 7_706_442


def test_a_resnet_has_the_depth_and_the_parameters_of_the_paper() -> None:
    published = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}  # millions, He et al. 2015, table 6
    for depth, millions in published.items():
        model = resnet(3, 32, 10, depth=depth)
        assert count(model) / 1e6 == pytest.approx(millions, abs=0.05 if depth == 110 else 0.005)
        assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == depth
    assert count(resnet(3, 32, 10)) == 269_722
    mapped = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64  # two convolutions 1 by 1, with their norms
    assert count(resnet(3, 32, 10, shortcut="B")) == 269_722 + mapped == 272_474


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same": ceil(size / stride) results; what is odd of the padding goes behind."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=-math.inf)


def dense(x: Tensor, maps: list[nn.Linear]) -> Tensor:
    x = x.flatten(1)
    for each in maps[:-1]:
        x = (x @ each.weight.T + each.bias).clamp(min=0)
    return x @ maps[-1].weight.T + maps[-1].bias


@pytest.mark.parametrize("size", [28, 27, 9, (14, 17)])
@pytest.mark.parametrize("factory", [cnn_2c2d, cnn_3c3d])
def test_deepobs_networks_are_their_recipe_at_even_and_odd_sizes(factory, size) -> None:
    torch.manual_seed(0)
    shape = (size, size) if isinstance(size, int) else size
    model = factory(2, size, 5, width=4)
    x = torch.randn(3, 2, *shape)
    out = x
    kernel = 2 if factory is cnn_2c2d else 3
    for each in (m for m in model if isinstance(m, nn.Conv2d)):
        keeps = factory is cnn_2c2d or each.out_channels == 8
        padding = each.kernel_size[0] // 2 if keeps else 0
        out = functional.conv2d(out, each.weight, each.bias, padding=padding).clamp(min=0)
        out = functional.max_pool2d(same(out, kernel, 2), kernel, 2)
    torch.testing.assert_close(model(x), dense(out, [m for m in model if isinstance(m, nn.Linear)]))


def test_2c2d_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    maps = [m for m in cnn_2c2d(1, 28, 10) if isinstance(m, nn.Conv2d | nn.Linear)]
    # A normal cut at two deviations has 0.8796 of its deviation (1 - 4 phi(2) / (2 Phi(2) - 1), rooted).
    phi, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    wanted = 0.05 * math.sqrt(1 - 4 * phi / inside)
    for each in maps:
        assert each.bias is not None
        assert torch.all(each.bias == 0.05)
        assert each.weight.abs().max() <= 0.1
        assert each.weight.std().item() == pytest.approx(wanted, rel=4 / math.sqrt(2 * each.weight.numel()))


def test_3c3d_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    for each in cnn_3c3d(3, 32, 10).modules():
        if not isinstance(each, nn.Conv2d | nn.Linear):
            continue
        kernel = each.weight[0, 0].numel()
        std = math.sqrt(2 / ((each.weight.shape[0] + each.weight.shape[1]) * kernel))
        assert each.weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * each.weight.numel()))
        assert not each.bias.any()
        uniform = each.weight.abs().max().item() <= math.sqrt(3) * std * 1.0001
        assert uniform == isinstance(each, nn.Linear)


def test_a_residual_block_is_its_formula_with_either_shortcut() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    for shortcut in ("A", "B"):
        model = resnet(3, 8, 10, depth=8, width=4, shortcut=shortcut).eval()
        block = model[4]  # the first of the second stage
        x = torch.randn(2, 4, 8, 8)
        first, norm, _, second, again = block.residual
        out = again(second(norm(first(x)).relu()))
        if shortcut == "A":
            kept = torch.zeros(2, 8, 4, 4)
            kept[:, 2:6] = x[:, :, ::2, ::2]
        else:
            kept = block.shortcut[1](functional.conv2d(x, block.shortcut[0].weight, stride=2))
        torch.testing.assert_close(block(x), (out + kept).relu())


def test_a_resnet_takes_images_of_another_size_than_it_was_made_for() -> None:
    assert resnet(1, 28, 10, depth=8)(torch.randn(2, 1, 17, 30)).shape == (2, 10)


@pytest.mark.parametrize("size", [28, (12, 31), 33])
@pytest.mark.parametrize("factory", [cnn, lenet, cnn_2c2d, cnn_3c3d, alexnet, resnet])
def test_images_of_any_size_and_channels_are_taken(factory, size) -> None:
    shape = (size, size) if isinstance(size, int) else size
    model = factory(2, size, 7, width=8, dropout=0.1, activation="gelu")
    assert model(torch.randn(3, 2, *shape)).shape == (3, 7)
    assert any(isinstance(m, nn.GELU) for m in model.modules())
    assert any(isinstance(m, nn.Dropout) for m in model.modules())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: lenet(1, 8, 10), "at least 12 pixels"),
        (lambda: cnn_3c3d(1, 8, 10), "at least 9 pixels"),
        (lambda: alexnet(3, 7, 10), "at least 8 pixels"),
        (lambda: resnet(3, 2, 10), "at least 4 pixels"),
        (lambda: resnet(3, 32, 10, depth=18), "6n [+] 2.*20 is the nearest"),
        (lambda: resnet(3, 32, 10, depth=2), "8 is the nearest"),
        (lambda: resnet(3, 32, 10, shortcut="C"), "'A'"),
        (lambda: resnet(3, 32, 10, norm="bach"), "'batch', 'layer'"),
        (lambda: cnn_2c2d(1, 28, 10, width=0), "width=0"),
        (lambda: lenet(0, 28, 10), "channels=0"),
        (lambda: lenet(1, 28.0, 10), r"height=28\.0"),
        (lambda: lenet(1, (28, 28, 28), 10), "height, width"),
        (lambda: alexnet(1, 28, 10, dropout=1.0), r"dropout=1\.0"),
        (lambda: lenet(1, 28, 10, activation="tan"), "did you mean 'tanh'"),
        (lambda: lenet(1, 28, 10, activation=nn.ReLU()), "must be a name"),
    ],
)
def test_what_is_outside_its_domain_is_one_line(build, said) -> None:
    with pytest.raises(ModelError, match=said) as told:
        build()
    assert "\n" not in str(told.value)
