"""Models: factories of plain torch.nn modules, their size given by keyword arguments that can be tuned."""

from __future__ import annotations

from downslope.models.cnn import cnn
from downslope.models.linear import linear, logistic, softmax
from downslope.models.mlp import mlp

__all__ = ["cnn", "linear", "logistic", "mlp", "softmax"]
