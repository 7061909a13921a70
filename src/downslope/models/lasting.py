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


class LastingLSTM(nn.LSTM):
    """`torch.nn.LSTM` whose forget gates start with ``b_f = log(u)``, ``b_i = -b_f``, u in [1, steps - 1].

    Tallec and Ollivier 2018, Can recurrent neural networks warp time?, section 2 ("chrono initialisation").

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.LSTM`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if name.startswith("bias_ih"):
                    bias = _spans(self.hidden_size, steps).to(p)
                    p[: self.hidden_size], p[self.hidden_size : 2 * self.hidden_size] = -bias, bias
                elif name.startswith("bias_hh"):
                    p[: 2 * self.hidden_size] = 0.0


class LastingGRU(nn.GRU):
    """`torch.nn.GRU` whose update gates start with ``b_z = log(u)``, u in [1, steps - 1]; the same source.

    It takes and returns what `torch.nn.RNN` does, so it can stand in its place.

    Args:
        steps: The longest lag that matters, at least 3.
        **arguments: Those of `torch.nn.GRU`.
    """

    def __init__(self, *, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if name.startswith("bias_ih"):
                    p[self.hidden_size : 2 * self.hidden_size] = _spans(self.hidden_size, steps).to(p)
                elif name.startswith("bias_hh"):
                    p[self.hidden_size : 2 * self.hidden_size] = 0.0
