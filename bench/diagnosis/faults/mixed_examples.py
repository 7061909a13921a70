"""A forward pass that mixes the examples of a batch: the wrong axis, or a view where a transpose is meant."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.nets import Knobs, factory
from bench.diagnosis.scripts import loop, script

WHOLE = names(task="rows motifs adding", net="rnn gru lstm attention-custom")


class Reads(nn.Module):
    """A sequence model as people write it: torch's own recurrence or encoder, pooled over time."""

    def __init__(self, kind: str, inputs: int, outputs: int, *, tokens: bool, first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(inputs, 32) if tokens else nn.Linear(inputs, 32)
        self.tokens, self.kind = tokens, kind
        if kind == "encoder":
            block = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=first)
            self.reads: nn.Module = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        else:
            self.reads = getattr(nn, kind)(32, 32, batch_first=first)
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        made = self.reads(self.embed(x.long() if self.tokens else x))
        return self.head(made.mean(1) if self.kind == "encoder" else made[0][:, -1])


@fault("mixed-examples", way="batch_first left out,", bases=WHOLE, twinned=True,
       grades={"GRU": "GRU", "LSTM": "LSTM", "encoder": "encoder"})  # fmt: skip
def along_the_batch(base: Base, kind: str) -> Sick:
    """A recurrence, or attention, that runs along the examples."""
    task = base.task

    def of(*, first: bool) -> Any:
        inputs, tokens = task.vocabulary or task.shape[-1], task.vocabulary is not None
        return lambda: Reads(kind, inputs, task.outputs, tokens=tokens, first=first)

    twin = Setup(base.problem(model=of(first=True)), base.recipe)
    return Sick(base.problem(model=of(first=False)), base.recipe, twin)


class Viewed(nn.Module):
    """Hands its model (batch, time, ...) made of (batch, time, ...) by way of time first, or of pairs."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        if self.how == "mean":
            x = x - x.mean(0)
        elif self.how == "view":
            x = x.view(t, n, *x.shape[2:]).transpose(0, 1)
        elif self.how == "permute":
            x = x.permute(1, 0, *range(2, x.dim())).transpose(0, 1)
        elif n % 2 == 0:
            x = x.reshape(n // 2, 2, t, -1).transpose(1, 2).reshape(x.shape)
        return self.inner(x)


@fault("mixed-examples", way="by", bases=names(task="rows adding images digits friedman"), twinned=True,
       also=("uninformative-inputs",), grades={"mean": "mean", "pairs": "pairs", "view": "view"})  # fmt: skip
def cut_up(base: Base, how: str) -> Sick:
    """The mean of the batch taken off, which does no harm; examples cut up among their neighbours, or all."""
    inner = factory(base.net, base.task, Knobs())
    twin = Setup(base.problem(model=lambda: Viewed(inner(), "permute")), base.recipe)
    return Sick(base.problem(model=lambda: Viewed(inner(), how)), base.recipe, twin)


_NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.rnn = {layer}
    def forward(self, x):
        {forward}
make = Net
"""
_LAST = "return self.head(self.rnn(self.inp(x))[0][:, -1])"
_FIRST = "return self.head(self.rnn(self.inp({0}))[0][-1])"
_MEAN = "return self.head(self.rnn(self.inp(x)).mean(1))"
_ATTENDS = "x = self.inp(x); return self.head(self.rnn(x, x, x)[0].mean(1))"
_ENCODER = (
    "nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.0{0}), 1, enable_nested_tensor=False)"
)

for name, layer, forward in (
    ("LSTM", "nn.LSTM(32, 32{0})", _LAST),
    ("GRU of two layers", "nn.GRU(32, 32, 2{0})", _LAST),
    ("RNN", "nn.RNN(32, 32{0})", _LAST),
    ("attention", "nn.MultiheadAttention(32, 4{0})", _ATTENDS),
    ("encoder", _ENCODER, _MEAN),
):
    sick, sound = (
        _NET.format(layer=layer.format(each), forward=forward) for each in ("", ", batch_first=True")
    )
    script("mixed-examples", name, "rows", loop(before=sick), loop(before=sound))

for name, turned, sound in (
    ("view for transpose", "x.view(x.shape[1], x.shape[0], 8)", "x.transpose(0, 1)"),
    ("reshape for permute", "x.reshape(8, -1, 8)", "x.permute(1, 0, 2)"),
):
    texts = [_NET.format(layer="nn.GRU(32, 32)", forward=_FIRST.format(each))
             for each in (turned, sound)]  # fmt: skip
    script("mixed-examples", name, "rows", *(loop(before=each) for each in texts))
