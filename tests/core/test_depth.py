"""Where the layers of a model lie, held against layouts that are known from the literature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.depth import Call, units


class Basic(nn.Module):
    """He et al. 2016, figure 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.downsample = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.bn1(self.conv1(x)).relu()) + self.downsample(x)


class ResNet(nn.Module):
    """With its head made first, as some do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 10)
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Basic(4), Basic(4))
        self.layer2 = nn.Sequential(Basic(4), Basic(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.bn1(self.conv1(x)))).mean((2, 3)))


class Vision(nn.Module):
    """Dosovitskiy et al. 2021: a class token and positions beside the patch embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Parameter(torch.zeros(1, 8)), nn.Parameter(torch.zeros(5, 8))
        self.patches = nn.Conv2d(1, 8, 4, 4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)


def names(model: nn.Module, calls: list[Call] | None = None) -> list[str]:
    return [unit.name for unit in units(model, calls or [])]


def test_a_norm_belongs_to_the_layer_before_it() -> None:
    model = ds.models.mlp(6, 3, width=4, depth=2, norm="batch")
    found = units(model)
    assert [unit.name for unit in found] == ["1", "4", "7"]
    assert [sum(p.numel() for p in unit.parameters) for unit in found] == [6 * 4 + 4 + 8, 16 + 4 + 8, 12 + 3]


def test_blocks_of_one_kind_are_units_whole() -> None:
    assert names(ResNet())[1:] == ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert names(ds.models.transformer(4, 2, depth=3)) == [
        "embedding",
        "blocks.0",
        "blocks.1",
        "blocks.2",
        "head",
    ]


def test_a_network_inside_another_is_taken_apart_and_so_are_two_of_them() -> None:
    inside = names(nn.Sequential(ResNet(), nn.Linear(10, 2)))
    assert inside[1:] == ["0.conv1", "0.layer1.0", "0.layer1.1", "0.layer2.0", "0.layer2.1", "1"]
    twins = names(nn.ModuleDict({"left": ResNet(), "right": ResNet()}))
    assert "left.layer1.0" in twins
    assert "right.layer2.1" in twins


def test_tokens_and_positions_lie_at_the_input_and_a_last_norm_with_the_last_block() -> None:
    model = Vision()
    found = units(model)
    assert [unit.name for unit in found] == [
        "patches", "encoder.layers.0", "encoder.layers.1", "encoder.layers.2", "head",
    ]  # fmt: skip
    assert {id(model.token), id(model.position)} <= {id(p) for p in found[0].parameters}
    assert id(model.norm.weight) in {id(p) for p in found[3].parameters}


def test_the_order_of_the_forward_pass_wins_over_that_in_which_modules_were_made() -> None:
    model = ResNet()
    order = ["conv1", "bn1", "layer1", "layer1.0", "layer1.1", "layer2", "layer2.0", "layer2.1", "fc"]
    assert names(model)[0] == "fc"
    assert names(model, [Call(name, i) for i, name in enumerate(order)])[-1] == "fc"


def test_units_that_are_handed_the_same_tensor_lie_side_by_side() -> None:
    heads = nn.ModuleDict({"colour": nn.Linear(4, 3), "shape": nn.Linear(4, 2)})
    model = nn.ModuleDict({"trunk": nn.Linear(2, 4), "heads": heads})
    calls = [Call("trunk", 0), Call("heads.colour", 1), Call("heads.shape", 1)]
    assert names(model, calls) == ["trunk", "heads.colour, heads.shape"]


def test_every_parameter_is_in_one_unit_and_a_tied_one_in_the_lowest() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.body = nn.Linear(4, 4)
            self.decoder = nn.Linear(4, 5)
            self.decoder.weight = self.embedding.weight

    for model in (Tied(), ResNet(), Vision(), nn.LSTM(3, 4), nn.MultiheadAttention(4, 2)):
        held = [id(p) for unit in units(model) for p in unit.parameters]
        assert sorted(held) == sorted({id(p) for p in model.parameters()})
    tied = Tied()
    assert id(tied.decoder.weight) in {id(p) for p in units(tied)[0].parameters}
    assert units(nn.ReLU()) == ()


def test_what_adapts_a_model_does_not_change_its_depths() -> None:
    table = ds.data.wine()
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=table.train)
    plain = names(problem.build())
    assert names(problem.edit(ds.edits.StandardiseInputs()).build()) == plain
