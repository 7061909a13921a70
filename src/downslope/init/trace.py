"""One forward pass as a graph of operations: which weight makes what, and what reads it.

It sees functions as well as modules (``F.relu`` inside a forward of one's own, ``x @ self.w``, ``x + f(x)``),
and a weight through what it was computed from (weight norm, a slice, a transpose).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from downslope.core import batches
from downslope.core.batches import Parts
from downslope.core.modules import named_modules

Batch = Any
"""What a model is called on: a tensor, a tuple of arguments, keywords, `Parts`, or ``count -> batch``."""

EXAMPLES = 2
"""Examples that show what reads what; a batch norm needs two."""

_AFFINE = frozenset({
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "bilinear",
})  # fmt: skip
_PRODUCTS = frozenset({
    "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "einsum", "tensordot", "addmm", "baddbmm",
})  # fmt: skip
_FUSED = frozenset({
    "multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell",
    "rnn_tanh_cell", "rnn_relu_cell", "embedding", "embedding_bag",
})  # fmt: skip
SUMS = frozenset({"add", "__add__", "__radd__", "__iadd__"})

KINDS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "rrelu": nn.RReLU,
    "elu": nn.ELU, "celu": nn.CELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "softplus": nn.Softplus, "hardswish": nn.Hardswish, "threshold": nn.Threshold, "selu": nn.SELU,
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softsign": nn.Softsign, "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "logsigmoid": nn.LogSigmoid, "softmax": nn.Softmax, "log_softmax": nn.LogSoftmax,
    "tanhshrink": nn.Tanhshrink, "clamp_min": nn.ReLU,
}  # fmt: skip
"""Functions of torch that bend a signal, and the module that is each."""

Changed = Callable[["Op", Any, Callable[[], Any]], Any]


@dataclass(eq=False)
class Op:
    """One operation on what came from the inputs.

    Attributes:
        index: Place in the order of execution.
        function: Its name in torch; "input" of what the model was given.
        module: Qualified name of the innermost module in which it was called.
        sources: Operations whose outputs it reads.
        weights: Parameters of two axes or more that enter, directly or through what was computed from them.
        direct: Those of `weights` that enter as they are.
        right: Whether the weight stands on the right of a product, ``x @ w``, and so is stored (in, out).
        leak: Slope below zero, of a leaky rectifier.
        output: The first tensor it gave.
    """

    index: int
    function: str
    module: str = ""
    sources: tuple[int, ...] = ()
    weights: tuple[Parameter, ...] = ()
    direct: tuple[Parameter, ...] = ()
    right: bool = False
    leak: float = 0.0
    output: Tensor | None = None

    @property
    def is_map(self) -> bool:
        """Whether a weight of the model is multiplied with the signal."""
        return bool(self.weights) and self.function in _AFFINE | _PRODUCTS | _FUSED

    @property
    def is_fused(self) -> bool:
        """Whether several weights work in it at once: attention, a recurrence; or it looks vectors up."""
        return self.is_map and self.function in _FUSED

    @property
    def is_linear(self) -> bool:
        """Whether the output is proportional to the weight, the bias aside."""
        return self.is_map and self.function in _AFFINE | _PRODUCTS

    @property
    def activation(self) -> type[nn.Module] | None:
        """The kind of activation that it is; None if it is none."""
        return KINDS.get(self.function)


@dataclass(eq=False)
class Trace:
    """The operations of one forward pass in their order."""

    ops: list[Op] = field(default_factory=list[Op])

    @property
    def maps(self) -> list[Op]:
        """The operations by a weight, in order."""
        return [op for op in self.ops if op.is_map]

    def readers(self) -> list[list[int]]:
        """For every operation those that read its output."""
        found: list[list[int]] = [[] for _ in self.ops]
        for op in self.ops:
            for source in op.sources:
                found[source].append(op.index)
        return found

    def activation_after(self, op: Op, readers: Sequence[Sequence[int]]) -> Op | None:
        """The first activation that the output of `op` meets before the next weight, if there is one.

        Norms, dropout, pooling, reshaping and sums lie between them.
        """
        waiting, seen, found = list(readers[op.index]), set[int](), list[int]()
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            if self.ops[at].activation is not None:
                found.append(at)
            elif not self.ops[at].is_map:
                waiting += readers[at]
        return self.ops[min(found)] if found else None


class Recorder(TorchFunctionMode):
    """Writes down what is computed from the inputs while it is on.

    Args:
        model: Whose parameters are known as weights.
        given: The inputs.
        changed: Called with an operation, its output and what repeats it; what it returns stands for the
            output. None leaves every output as it is.
    """

    def __init__(self, model: nn.Module, given: Any, changed: Changed | None = None) -> None:
        super().__init__()
        self.trace = Trace()
        self.changed = changed
        self._own = {id(p): p for p in model.parameters()}
        self._made: dict[int, int] = {}
        self._derived: dict[int, tuple[Parameter, ...]] = {}
        self._kept: list[Tensor] = []  # an id is a name only while its tensor lives
        self._stack = [""]
        for leaf in batches.tensors(given):
            self._note(Op(len(self.trace.ops), "input", output=leaf), [leaf])

    @contextmanager
    def inside(self, model: nn.Module) -> Generator[None]:
        """A block in which calls of the model's modules are followed too."""
        handles: list[Any] = []
        for name, module in named_modules(model):
            handles.append(module.register_forward_pre_hook(self._entered(name)))
            handles.append(module.register_forward_hook(self._left, always_call=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, name: str) -> Any:
        def hook(*_: Any) -> None:
            self._stack.append(name)

        return hook

    def _left(self, *_: Any) -> None:
        self._stack.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The function's result, noted."""
        del types
        named = dict(kwargs or {})
        read = batches.tensors((list(args), named))
        sources = tuple(dict.fromkeys(self._made[id(t)] for t in read if id(t) in self._made))
        output = func(*args, **named)
        name = getattr(func, "__name__", "")
        made = [args[0]] if name == "__setitem__" else batches.tensors(output)
        if not made:
            return output
        weights, direct = self._weights(read)
        if not sources:
            for tensor in made if weights else ():
                self._derived[id(tensor)] = weights
                self._kept.append(tensor)
            return output
        op = Op(
            len(self.trace.ops), _plain(name), self._stack[-1], sources, weights, direct,
            _stands_right(name, args, direct), _leak(name, args, named), made[0],
        )  # fmt: skip
        if self.changed is not None:
            output = self.changed(op, output, lambda: func(*args, **named))
            made = batches.tensors(output)
            op.output = made[0]
        self._note(op, made)
        return output

    def _weights(self, read: Sequence[Tensor]) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
        direct = [self._own[id(t)] for t in read if id(t) in self._own and t.dim() > 1]
        through = [p for t in read for p in self._derived.get(id(t), ()) if p.dim() > 1]
        return tuple(dict.fromkeys([*direct, *through])), tuple(dict.fromkeys(direct))

    def _note(self, op: Op, made: Sequence[Tensor]) -> None:
        self.trace.ops.append(op)
        for tensor in made:
            self._made[id(tensor)] = op.index
            self._kept.append(tensor)


def _stands_right(name: str, args: Sequence[Any], direct: Sequence[Parameter]) -> bool:
    places = {"matmul": 1, "__matmul__": 1, "mm": 1, "bmm": 1, "addmm": 2, "baddbmm": 2}
    at = places.get(name)
    return at is not None and len(args) > at and any(args[at] is p for p in direct)


def _plain(name: str) -> str:
    """``relu_`` is ``relu``."""
    return name if name.startswith("__") else name.rstrip("_")


def _leak(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    """The slope below zero of a leaky rectifier, of one that is learnt its mean now."""
    if name.rstrip("_") == "leaky_relu":
        return float(kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01))
    if name == "prelu":
        given: Any = kwargs.get("weight", args[1] if len(args) > 1 else None)
        return float(given.detach().abs().mean()) if isinstance(given, Tensor) else 0.0
    return 0.0


def call_of(batch: Batch, count: int = EXAMPLES) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and keywords with which a model is called; ``count -> batch`` is asked for `count`."""
    if callable(batch) and not isinstance(batch, Tensor):
        return call_of(batch(count))
    if isinstance(batch, Parts):
        return batch.args, batch.kwargs
    if isinstance(batch, Mapping):
        return (), dict(cast("Mapping[str, Any]", batch))
    if isinstance(batch, (tuple, list)):
        return tuple(cast("Sequence[Any]", batch)), {}
    return (batch,), {}


@contextmanager
def untouched(model: nn.Module) -> Generator[None]:
    """A block after which buffers, mode and random state are what they were; within it the model trains."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(devices=[]):
            model.train()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in kept and buffer.shape == kept[name].shape:
                    buffer.copy_(kept[name])


def trace(model: nn.Module, batch: Batch, changed: Changed | None = None, *, count: int = EXAMPLES) -> Trace:
    """The operations of one forward pass in training mode, which leaves no trace in the model.

    Args:
        model: Any module.
        batch: What it is called on; two examples are enough to see what reads what.
        changed: See `Recorder`.
        count: Examples that are asked for, where `batch` is ``count -> batch``.
    """
    args, kwargs = call_of(batch, count)
    recorder = Recorder(model, (list(args), kwargs), changed)
    with untouched(model), torch.no_grad(), recorder.inside(model):
        model(*args, **kwargs)
    return recorder.trace
