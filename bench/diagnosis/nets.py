"""The models: each as a tree of modules, and as a custom forward with functional activations.

All take the same knobs: `width`, `depth`, `act`, `end` (an activation at the output), `norm`, `dropout`, and
`change`, a function that is let loose on the fresh model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.diagnosis.tasks import Task
from downslope import models
from downslope.models.attention import positions

Change = Callable[[nn.Module], None]
Factory = Callable[[], nn.Module]

ENDS: dict[str, Callable[[], nn.Module]] = {
    "softmax": lambda: nn.Softmax(-1), "log_softmax": lambda: nn.LogSoftmax(-1), "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU, "tanh": nn.Tanh,
}  # fmt: skip


@dataclass(frozen=True)
class Knobs:
    width: int = 48
    depth: int = 2
    act: str = "relu"
    end: str = ""
    norm: str | None = None
    dropout: float = 0.0
    change: Change | None = None
    parts: dict[str, Any] = field(default_factory=dict)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    return {
        "relu": functional.relu, "gelu": functional.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
        "identity": lambda x: x, "leaky_relu": functional.leaky_relu, "elu": functional.elu,
    }[name]  # fmt: skip


def ended(x: Tensor, end: str) -> Tensor:
    if end in ("softmax", "log_softmax"):
        return getattr(functional, end)(x, dim=-1)
    return getattr(torch, end)(x) if end else x


def _sizes(task: Task) -> tuple[int, int]:
    """Inputs of a flat model, outputs."""
    return int(torch.tensor(task.shape).prod()), task.outputs


def _steps(task: Task) -> int:
    """Numbers a step, or the vocabulary."""
    return task.vocabulary or task.shape[-1]


# -- flat ----------------------------------------------------------------------------------------------------


def mlp(task: Task, k: Knobs) -> nn.Module:
    inputs, outputs = _sizes(task)
    return models.mlp(
        inputs, outputs, width=k.width, depth=k.depth, activation=k.act, norm=k.norm, dropout=k.dropout
    )


class Flat(nn.Module):
    """A custom forward: nothing but linear layers (and norms) are modules."""

    def __init__(self, inputs: int, outputs: int, k: Knobs) -> None:
        super().__init__()
        sizes = [inputs, *[k.width] * k.depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(k.norm or "")
        self.norms = nn.ModuleList(norm(k.width) for _ in range(k.depth)) if norm else None
        self.head = nn.Linear(sizes[-1], outputs)
        self.act, self.end, self.p = activation(k.act), k.end, k.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = self.act(x if self.norms is None else self.norms[i](x))
            x = functional.dropout(x, self.p, self.training) if self.p else x
        return ended(self.head(x), self.end)


def mlp_custom(task: Task, k: Knobs) -> nn.Module:
    return Flat(*_sizes(task), k)


# -- images --------------------------------------------------------------------------------------------------


def cnn(task: Task, k: Knobs) -> nn.Module:
    return models.cnn(
        1, 8, task.outputs, width=k.parts.get("channels", 8), depth=2, activation=k.act, norm=k.norm,
        dropout=k.dropout,
    )  # fmt: skip


class Convolutions(nn.Module):
    """Two convolutions and a linear head, as people write them."""

    def __init__(self, outputs: int, k: Knobs) -> None:
        super().__init__()
        c = k.parts.get("channels", 8)
        self.conv1, self.conv2 = nn.Conv2d(1, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(c) if k.norm == "batch" else None
        self.bn2 = nn.BatchNorm2d(2 * c) if k.norm == "batch" else None
        self.head = nn.Linear(8 * c, outputs)
        self.act, self.end, self.p = activation(k.act), k.end, k.dropout

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = conv(x)
            x = functional.max_pool2d(self.act(x if norm is None else norm(x)), 2)
        x = functional.dropout(x.flatten(1), self.p, self.training)
        return ended(self.head(x), self.end)


def cnn_custom(task: Task, k: Knobs) -> nn.Module:
    return Convolutions(task.outputs, k)


# -- sequences -----------------------------------------------------------------------------------------------


def _recurrent(cell: str) -> Callable[[Task, Knobs], nn.Module]:
    def make(task: Task, k: Knobs) -> nn.Module:
        return getattr(models, cell)(
            _steps(task), task.outputs, width=k.width, dropout=k.dropout, tokens=task.vocabulary is not None
        )

    return make


class Unrolled(nn.Module):
    """A recurrent network with its loop over the steps written out."""

    def __init__(self, cell: str, task: Task, k: Knobs) -> None:
        super().__init__()
        inputs = _steps(task)
        self.embed = nn.Embedding(inputs, 16) if task.vocabulary else None
        kinds = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
        self.cell = kinds[cell](16 if task.vocabulary else inputs, k.width)
        self.out = nn.Linear(k.width, task.outputs)
        self.end, self.p = k.end, k.dropout

    def forward(self, x: Tensor) -> Tensor:
        if self.embed is not None:
            x = self.embed(x.long())
        state: Any = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        last = state[0] if isinstance(state, tuple) else state
        return ended(self.out(functional.dropout(last, self.p, self.training)), self.end)


def _unrolled(cell: str) -> Callable[[Task, Knobs], nn.Module]:
    return lambda task, k: Unrolled(cell, task, k)


def attention(task: Task, k: Knobs) -> nn.Module:
    return models.transformer(
        _steps(task), task.outputs, width=32, depth=k.parts.get("blocks", 1), dropout=k.dropout,
        tokens=task.vocabulary is not None,
    )  # fmt: skip


class Attends(nn.Module):
    """One block of attention through torch's own module, the rest functional."""

    def __init__(self, task: Task, k: Knobs) -> None:
        super().__init__()
        inputs, width = _steps(task), 32
        self.embed = nn.Embedding(inputs, width) if task.vocabulary else nn.Linear(inputs, width)
        self.mix = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, task.outputs)
        self.tokens, self.end, self.p = task.vocabulary is not None, k.end, k.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.long() if self.tokens else x)
        x = x + positions(x.shape[1], x.shape[2]).to(x)
        y = functional.layer_norm(x, x.shape[-1:])
        x = x + self.mix(y, y, y, need_weights=False)[0]
        y = functional.layer_norm(x, x.shape[-1:])
        x = x + functional.dropout(self.down(functional.relu(self.up(y))), self.p, self.training)
        return ended(self.head(x.mean(1)), self.end)


def attention_custom(task: Task, k: Knobs) -> nn.Module:
    return Attends(task, k)


NETS: dict[str, Callable[[Task, Knobs], nn.Module]] = {
    "mlp": mlp, "mlp-custom": mlp_custom, "cnn": cnn, "cnn-custom": cnn_custom,
    "rnn": _recurrent("rnn"), "gru": _recurrent("gru"), "lstm": _recurrent("lstm"),
    "rnn-custom": _unrolled("rnn"), "gru-custom": _unrolled("gru"), "lstm-custom": _unrolled("lstm"),
    "attention": attention, "attention-custom": attention_custom,
}  # fmt: skip


def factory(net: str, task: Task, knobs: Knobs) -> Factory:
    """A factory of fresh models of that kind for that task."""

    def make() -> nn.Module:
        model = NETS[net](task, knobs)
        if knobs.end and not net.endswith("custom"):
            tail = ENDS[knobs.end]()
            model = nn.Sequential(*(model if isinstance(model, nn.Sequential) else [model]), tail)
        if knobs.change is not None:
            knobs.change(model)
        return model

    return make
