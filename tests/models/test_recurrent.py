"""Recurrent networks against their recurrences, written out by hand in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.models import gru, lstm, rnn
from downslope.models.recurrent import Recurrent


def weights(model: Recurrent) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cell = dict(model.cell.named_parameters())
    return tuple(cell[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # type: ignore[return-value]


def made(factory, **arguments) -> Recurrent:
    torch.manual_seed(0)
    return factory(3, 2, width=5, **arguments).double().eval()


def inputs() -> Tensor:
    return torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_plain_network_follows_its_recurrence(activation):
    model = made(rnn, activation=activation)
    W, U, b, c = weights(model)
    h = torch.zeros(4, 5, dtype=torch.float64)
    for x in inputs().unbind(1):
        h = getattr(torch, activation)(x @ W.T + h @ U.T + b + c)
    torch.testing.assert_close(model(inputs()), h @ model.head.weight.T + model.head.bias)


def test_an_lstm_follows_its_recurrence():
    model = made(lstm)
    W, U, b, c = weights(model)
    h = memory = torch.zeros(4, 5, dtype=torch.float64)
    for x in inputs().unbind(1):
        into, forget, new, out = (x @ W.T + h @ U.T + b + c).chunk(4, dim=1)
        memory = forget.sigmoid() * memory + into.sigmoid() * new.tanh()
        h = out.sigmoid() * memory.tanh()
    torch.testing.assert_close(model(inputs()), h @ model.head.weight.T + model.head.bias)


def test_a_gru_follows_its_recurrence():
    model = made(gru)
    W, U, b, c = weights(model)
    h = torch.zeros(4, 5, dtype=torch.float64)
    for x in inputs().unbind(1):
        reset, update, new = (x @ W.T + b).chunk(3, dim=1)
        reset_h, update_h, new_h = (h @ U.T + c).chunk(3, dim=1)
        new = torch.tanh(new + (reset + reset_h).sigmoid() * new_h)
        z = (update + update_h).sigmoid()
        h = (1 - z) * new + z * h
    torch.testing.assert_close(model(inputs()), h @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("factory", [rnn, lstm, gru])
def test_tokens_are_embedded_and_the_last_step_is_read(factory):
    model = factory(7, 3, width=8, depth=2, tokens=True)
    x = torch.randint(7, (5, 9))
    assert model(x).shape == (5, 3)
    torch.testing.assert_close(model(x), model.head(model.cell(model.embedding(x))[0][:, -1]))


@pytest.mark.parametrize("factory", [rnn, lstm, gru])
def test_dropout_acts_in_training_alone(factory):
    model = factory(3, 2, width=32, dropout=0.5)
    x = torch.randn(4, 6, 3)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"width": 0}, "width"), ({"depth": 0}, "depth"), ({"dropout": 1.0}, "dropout")],
)
def test_what_is_outside_its_domain_is_refused(arguments, said):
    with pytest.raises(ModelError, match=said):
        gru(3, 2, **arguments)


def test_a_recurrence_that_torch_does_not_have_is_refused():
    with pytest.raises(ModelError, match="'tanh' or 'relu'"):
        rnn(3, 2, activation="gelu")
