"""Wider hidden layers: only the hidden sizes change, whatever the forward pass does between the layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import Widen, widening
from downslope.core.errors import EditError

X, Y = torch.randn(12, 6), torch.randn(12, 3)


class Functional(nn.Module):
    """A custom forward with a residual path and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.over = nn.Linear(6, 2), nn.Linear(2, 2)
        self.norm, self.head = nn.BatchNorm1d(2), nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.into(x))
        return self.head(h + self.norm(self.over(h)))


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(2 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


class Sequences(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(6, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class Fixed(nn.Module):
    """Names its hidden size in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(6, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.into(x).reshape(-1, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(torch.relu(self.one(x))))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain, self.into, self.head = nn.Parameter(torch.ones(2)), nn.Linear(6, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gain * self.into(x))


def problem(model: Any, x: Tensor = X, y: Tensor = Y) -> ds.Problem:
    return ds.Problem(model=model, objective="mse", train=(x, y))


def sizes(p: ds.Problem) -> list[tuple[int, ...]]:
    return [tuple(each.shape) for each in p.build().parameters() if each.dim() > 1]


def test_a_custom_forward_keeps_its_inputs_and_outputs() -> None:
    wide = problem(Functional).edit(Widen(8))
    assert sizes(wide) == [(16, 6), (16, 16), (3, 16)]
    model = wide.build()
    assert model.norm.num_features == 16
    assert model.head.bias is None
    assert model(X).shape == (12, 3)


def test_channels_reach_a_flattened_head() -> None:
    wide = problem(Images, torch.randn(12, 1, 4, 4)).edit(Widen(4))
    assert sizes(wide) == [(8, 1, 3, 3), (3, 8 * 16)]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers_get_more_states(kind: Any) -> None:
    wide = problem(lambda: Sequences(kind(6, 2, num_layers=2, batch_first=True)), torch.randn(12, 5, 6))
    layer = wide.edit(Widen(3)).build().layer
    assert (layer.input_size, layer.hidden_size, layer.num_layers) == (6, 6, 2)


def test_a_cell_in_a_loop_is_given_the_data_at_every_step() -> None:
    wide = problem(Cells, torch.randn(12, 5, 6)).edit(Widen(3))
    assert sizes(wide)[:2] == [(18, 6), (18, 6)]


def test_a_norm_of_the_data_keeps_its_size() -> None:
    wide = problem(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 3)))
    model = wide.edit(Widen(5)).build()
    assert model[0].num_features == 6
    assert sizes(wide.edit(Widen(5))) == [(10, 6), (3, 10)]


def test_what_cannot_be_widened_is_refused_in_one_line() -> None:
    for model, word in [
        (lambda: nn.Linear(6, 3), "no hidden layer"),
        (Fixed, "sizes"),
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.PReLU(4), nn.Linear(4, 3)), "PReLU"),
        (Tied, "share their weights"),
        (Own, "weights of its own"),
    ]:
        with pytest.raises(EditError, match=word):
            problem(model).edit(Widen(2))
    with pytest.raises(EditError, match="at least 2"):
        Widen(1)


def test_the_narrowest_layer_is_brought_to_64_units() -> None:
    assert widening(problem(Functional)) == Widen(32)
    assert widening(problem(lambda: nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)))) is None
    assert widening(problem(lambda: nn.Linear(6, 3))) is None


def test_it_is_saved_and_says_what_to_write_in_code() -> None:
    assert ds.edits.from_dict(Widen(4).to_dict()) == Widen(4)
    assert str(Widen(4)) == "hidden layers 4 times as wide"
    (applied,) = problem(Images, torch.randn(12, 1, 4, 4)).edit(Widen(4)).edits
    assert applied.in_code == ("conv (Conv2d 1x2) becomes 1x8", "head (Linear 32x3) becomes 128x3")


def test_it_is_drawn_anew_by_the_seed() -> None:
    wide = problem(Functional).edit(Widen(8))
    one, same, other = (wide.build(seed).into.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
