"""Recurrent networks over sequences, read out at their last step: plain (Elman 1990), LSTM (Hochreiter and
Schmidhuber 1997), GRU (Cho et al. 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.models.parts import sizes
from downslope.models.sequences import check_steps

_CELLS: dict[str, Callable[..., nn.Module]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """``head(h_T)``, h_T the state of the top layer after the last step.

    Sequences of one batch have one length. Its parts are `embedding` (tokens only), `cell`, `dropout` and
    `head`, so each can be replaced by its name.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        dropout: float,
        tokens: bool,
        **options: str,
    ) -> None:
        super().__init__()
        self.name, self.inputs = cell, inputs
        self.embedding = nn.Embedding(inputs, width) if tokens else None
        read = width if tokens else inputs
        self.cell = _CELLS[cell](read, width, num_layers=depth, batch_first=True, **options)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, inputs), or (n, steps) of tokens, to (n, outputs).

        Raises:
            ModelError: inputs of another form.
        """
        check_steps(x, self.name, inputs=self.inputs, tokens=self.embedding is not None)
        if self.embedding is not None:
            x = self.embedding(x.long())
        states: Tensor = self.cell(x)[0]
        out: Tensor = self.head(self.dropout(states[:, -1]))
        return out


def rnn(
    inputs: int,
    outputs: int,
    *,
    width: int = 32,
    depth: int = 1,
    activation: str = "tanh",
    dropout: float = 0.0,
    tokens: bool = False,
) -> nn.Module:
    """The plain network ``h_t = tanh(W x_t + U h_{t-1} + b)``; what it forgets grows with the lag.

    Args:
        inputs: numbers a step, at least 1; with `tokens` the number of different tokens.
        outputs: number of outputs, at least 1.
        width: units of a layer, at least 1.
        depth: layers, at least 1.
        activation: "tanh", or "relu", whose states are not bounded.
        dropout: share of the last state dropped in training, float in [0, 1).
        tokens: whether the sequences are of whole numbers, (n, steps), which are embedded in `width`.

    Returns:
        A module (n, steps, inputs) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size or share outside its domain.
    """
    if activation not in ("tanh", "relu"):
        raise ModelError(
            f"activation={activation!r}: torch's plain recurrence bends by 'tanh' or 'relu' and by no other"
        )
    return _made("rnn", inputs, outputs, width, depth, dropout, tokens, nonlinearity=activation)


def lstm(
    inputs: int, outputs: int, *, width: int = 32, depth: int = 1, dropout: float = 0.0, tokens: bool = False
) -> nn.Module:
    """Long short-term memory, with torch's forget gate and its bias of 0.

    Args:
        inputs: numbers a step, at least 1; with `tokens` the number of different tokens.
        outputs: number of outputs, at least 1.
        width: units of a layer, at least 1.
        depth: layers, at least 1.
        dropout: share of the last state dropped in training, float in [0, 1).
        tokens: whether the sequences are of whole numbers, (n, steps), which are embedded in `width`.

    Returns:
        A module (n, steps, inputs) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size or share outside its domain.
    """
    return _made("lstm", inputs, outputs, width, depth, dropout, tokens)


def gru(
    inputs: int, outputs: int, *, width: int = 32, depth: int = 1, dropout: float = 0.0, tokens: bool = False
) -> nn.Module:
    """The gated recurrent unit, in torch's form (the reset gate acts after the product).

    Args:
        inputs: numbers a step, at least 1; with `tokens` the number of different tokens.
        outputs: number of outputs, at least 1.
        width: units of a layer, at least 1.
        depth: layers, at least 1.
        dropout: share of the last state dropped in training, float in [0, 1).
        tokens: whether the sequences are of whole numbers, (n, steps), which are embedded in `width`.

    Returns:
        A module (n, steps, inputs) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size or share outside its domain.
    """
    return _made("gru", inputs, outputs, width, depth, dropout, tokens)


def _made(
    cell: Literal["rnn", "lstm", "gru"],
    inputs: int,
    outputs: int,
    width: int,
    depth: int,
    dropout: float,
    tokens: bool,
    **options: str,
) -> nn.Module:
    sizes(inputs=inputs, outputs=outputs, width=width, depth=depth)
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout={dropout}: must lie in [0, 1), it is the share of the state dropped")
    return Recurrent(cell, inputs, outputs, width, depth, dropout, tokens, **options)
