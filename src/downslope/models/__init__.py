"""Models: factories of plain torch.nn modules, their size given by keyword arguments that can be tuned."""

from __future__ import annotations

from downslope.core.matched import Matched, load_weights
from downslope.models.attention import transformer
from downslope.models.cnn import cnn
from downslope.models.linear import linear, logistic, softmax
from downslope.models.mlp import mlp
from downslope.models.recurrent import gru, lstm, rnn

__all__ = [
    "Matched",
    "cnn",
    "gru",
    "linear",
    "load_weights",
    "logistic",
    "lstm",
    "mlp",
    "rnn",
    "softmax",
    "transformer",
]
