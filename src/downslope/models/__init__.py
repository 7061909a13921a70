"""Models: factories of plain torch.nn modules, their size given by keyword arguments that can be tuned."""

from __future__ import annotations

from downslope.models.attention import transformer
from downslope.models.cnn import cnn
from downslope.models.linear import linear, logistic, softmax
from downslope.models.mlp import mlp
from downslope.models.recurrent import gru, lstm, rnn

__all__ = ["cnn", "gru", "linear", "logistic", "lstm", "mlp", "rnn", "softmax", "transformer"]
