"""Models: factories of plain torch.nn modules, their size given by keyword arguments that can be tuned."""

from __future__ import annotations

from downslope.core.matched import Matched, load_weights
from downslope.models.activations import Activation, activations
from downslope.models.alexnet import alexnet
from downslope.models.attention import transformer
from downslope.models.autoencoder import autoencoder
from downslope.models.cnn import cnn
from downslope.models.cnn_2c2d import cnn_2c2d
from downslope.models.cnn_3c3d import cnn_3c3d
from downslope.models.gpt import gpt
from downslope.models.lenet import lenet
from downslope.models.linear import linear, logistic, softmax
from downslope.models.mlp import mlp
from downslope.models.multi_task import multi_task
from downslope.models.recurrent import gru, lstm, rnn
from downslope.models.resnet import resnet
from downslope.models.vae import Restored, vae

__all__ = [
    "Matched",
    "Activation",
    "Restored",
    "activations",
    "alexnet",
    "autoencoder",
    "cnn",
    "cnn_2c2d",
    "cnn_3c3d",
    "gpt",
    "gru",
    "lenet",
    "linear",
    "load_weights",
    "logistic",
    "lstm",
    "mlp",
    "multi_task",
    "resnet",
    "rnn",
    "softmax",
    "transformer",
    "vae",
]
