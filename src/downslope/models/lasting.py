"""Gated recurrences that start with a long memory: the biases of their gates are drawn for a span of
steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def _spans(count: int, steps: int) -> Tensor:
    """``log(u)``, u uniform in [1, steps - 1]: a gate with this bias forgets over about u steps."""
    return torch.log(1.0 + (max(steps, 3) - 2.0) * torch.rand(count))


def _remember(module: nn.LSTM | nn.LSTMCell, steps: int) -> None:
    """``b_f = log(u)``, ``b_i = -b_f`` in every layer."""
    width = module.hidden_size
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.startswith("bias_ih"):
                bias = _spans(width, steps).to(p)
                p[:width], p[width : 2 * width] = -bias, bias
            elif name.startswith("bias_hh"):
                p[: 2 * width] = 0.0


def _keep(module: nn.GRU | nn.GRUCell, steps: int) -> None:
    """``b_z = log(u)`` in every layer."""
    width = module.hidden_size
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.startswith("bias_ih"):
                p[width : 2 * width] = _spans(width, steps).to(p)
            elif name.startswith("bias_hh"):
                p[width : 2 * width] = 0.0


class LastingLSTM(nn.LSTM):
    """`torch.nn.LSTM` whose forget gates start with ``b_f = log(u)``, ``b_i = -b_f``, u in [1, steps - 1].

    Tallec and Ollivier 2018, Can recurrent neural networks warp time?, section 2 ("chrono initialisation").

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.LSTM`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        _remember(self, steps)


class LastingLSTMCell(nn.LSTMCell):
    """`torch.nn.LSTMCell` whose forget gates start as those of `LastingLSTM`.

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.LSTMCell`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        _remember(self, steps)


class LastingGRU(nn.GRU):
    """`torch.nn.GRU` whose update gates start with ``b_z = log(u)``, u in [1, steps - 1]; the same source.

    It takes and returns what `torch.nn.RNN` does, so it can stand in its place.

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.GRU`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        _keep(self, steps)


class LastingGRUCell(nn.GRUCell):
    """`torch.nn.GRUCell` whose update gates start as those of `LastingGRU`.

    It takes and returns what `torch.nn.RNNCell` does, so it can stand in its place.

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.GRUCell`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        _keep(self, steps)
