"""Wider hidden layers, of a model whose factory has no argument for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.edits.edit import Edit
from downslope.core.errors import EditError, told
from downslope.core.modules import named_modules, own_parameters, size
from downslope.core.problem import Problem

ENOUGH = 64
"""Width that `widening` brings the narrowest hidden layer to: that of the plain networks which a diagnosis
compares a run with."""


class _Part(NamedTuple):
    """A layer and what becomes of it."""

    name: str
    taken: int
    """Factor of what it takes in."""
    given: int
    """Factor of what it gives."""
    change: str
    """In words: "hidden.0 (Linear 64x1) becomes 64x64"."""


@dataclass(frozen=True)
class Widen(Edit):
    """Every hidden layer `times` as wide; inputs, outputs and what the output means stay.

    Layers are made anew with torch's own initial weights. For models of linear, convolutional, recurrent and
    norm layers, whatever the forward pass does between them, where it names no size.

    Args:
        times: Factor, at least 2.

    Raises:
        EditError: a smaller factor.
    """

    kind: ClassVar[str] = "widen"
    times: int
    plan: tuple[_Part, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.times < 2:
            raise EditError(f"times={self.times}: must be an integer of at least 2, it makes layers wider")

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models have wider hidden layers.

        Raises:
            EditError: no hidden layer, a layer of another kind, or a forward pass that wants its own sizes.
        """
        changed = replace(self)
        object.__setattr__(changed, "plan", _plan(problem, self.times))
        wider = super(Widen, changed).apply_to_problem(problem)
        before, after = (_seen(each)[0] for each in (problem, wider))
        if before.shape != after.shape:
            raise EditError("with wider layers the output has another shape: its size depends on theirs")
        return wider

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with its hidden layers replaced by wider ones, in place in this fresh model."""
        inner = unwrap(model)
        for part in self.plan:
            old = inner.get_submodule(part.name)
            owner, _, leaf = part.name.rpartition(".")
            like = own_parameters(old)[0]
            setattr(inner.get_submodule(owner), leaf, _wider(old, part).to(like.device, like.dtype))
        return model

    @property
    def in_code(self) -> tuple[str, ...]:
        """What to change in the code, a line each; known once applied."""
        return tuple(part.change for part in self.plan)

    def __str__(self) -> str:
        return f"hidden layers {self.times} times as wide"


def widening(problem: Problem) -> Widen | None:
    """The edit that gives the narrowest hidden layer `ENOUGH` units; None where it has them or cannot."""
    try:
        inner = unwrap(problem.build())
        plan = _plan(problem, 2)
        narrowest = min(_width(inner.get_submodule(part.name)) for part in plan if part.given > 1)
        edit = Widen(max(2, -(-ENOUGH // narrowest)))
        edit.apply_to_problem(problem)
    except (EditError, ValueError):
        return None
    return edit if narrowest < ENOUGH else None


# -- which layers -----------------------------------------------------------------------------------------


def _plan(problem: Problem, times: int) -> tuple[_Part, ...]:
    """Every layer with its factors: what comes from the data and what goes out stay as they are."""
    output, order, raw = _seen(problem)
    del output
    if not order:
        raise EditError("no layer with weights was called: nothing can be wider")
    for name, module in order:
        if type(module) not in _WAYS:
            raise EditError(f"module {name!r} is a {type(module).__name__}: only linear, convolutional, "
                            "recurrent and norm layers can be made wider")  # fmt: skip
    maps = [index for index, (_, module) in enumerate(order) if not isinstance(module, _NORMS)]
    held = [id(p) for _, module in order for p in own_parameters(module)]
    if len(held) != len(set(held)):
        raise EditError("layers share their weights: wider ones would not")
    if len(maps) < 2:
        raise EditError("the model has no hidden layer that could be wider")
    parts: list[_Part] = []
    for index, (name, module) in enumerate(order):
        data = name in raw or index == maps[0]
        if isinstance(module, _NORMS):
            taken = given = 1 if data or index > maps[-1] else times
        else:
            taken, given = 1 if data else times, 1 if index == maps[-1] else times
        if taken > 1 or given > 1:
            part = _Part(name, taken, given, "")
            change = f"{_called(name, module)} becomes {size(_wider(module, part))}"
            parts.append(part._replace(change=change if size(module) else f"{name} takes {times} times more"))
    return tuple(parts)


def _called(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__} {size(module)})"


def _seen(problem: Problem) -> tuple[Tensor, list[tuple[str, nn.Module]], set[str]]:
    """The output for two examples, the layers with weights in the order of the forward pass, and those of
    them that are given the data itself.
    """
    model = problem.build()
    inner = unwrap(model)
    batch = next(iter(problem.train_source.stored(2)))
    args, kwargs, _ = problem.splitter(batches.to(batch, torch.device("cpu"), _dtype(model)))
    raw = {_storage(each) for each in batches.leaves((args, kwargs)) if isinstance(each, Tensor)}
    order: dict[str, nn.Module] = {}
    given: set[str] = set()
    handles: list[Any] = []

    def watch(name: str, module: nn.Module) -> None:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and _storage(inputs[0]) in raw:
                given.add(name)
            order.setdefault(name, module)

        def after(_: nn.Module, __: Any, output: Any) -> None:
            if name in given and isinstance(module, _NORMS):
                raw.add(_storage(output))

        handles.extend((module.register_forward_pre_hook(before), module.register_forward_hook(after)))

    for name, module in named_modules(inner):
        if own_parameters(module):
            if not name and any(True for _ in module.children()):
                raise EditError("the model holds weights of its own beside its layers: nothing can be wider")
            watch(name, module)
    try:
        with torch.no_grad():
            output = model.eval()(*args, **kwargs)
    except Exception as error:
        raise EditError(f"the forward pass wants layers of its own sizes: {told(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor):
        raise EditError("the model puts out more than one tensor: its layers cannot be told apart")
    return output, list(order.items()), given


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


# -- how a layer becomes wider ----------------------------------------------------------------------------


def _wider(old: nn.Module, part: _Part) -> nn.Module:
    return _WAYS[type(old)](old, part.taken, part.given)


def _width(module: nn.Module) -> int:
    names = ("out_features", "out_channels", "hidden_size", "embedding_dim", "num_features", "num_channels")
    known = [getattr(module, name, None) for name in names]
    return next(each for each in [*known, ENOUGH] if isinstance(each, int))


def _linear(old: Any, taken: int, given: int) -> nn.Module:
    return nn.Linear(old.in_features * taken, old.out_features * given, bias=old.bias is not None)


def _convolution(old: Any, taken: int, given: int) -> nn.Module:
    if old.groups != 1:
        raise EditError("a convolution in groups cannot be made wider")
    keys = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    how = {key: getattr(old, key) for key in keys}
    return type(old)(old.in_channels * taken, old.out_channels * given, bias=old.bias is not None, **how)


def _recurrent(old: Any, taken: int, given: int) -> nn.Module:
    keys = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
    how = {key: getattr(old, key) for key in keys}
    if isinstance(old, nn.RNN):
        how["nonlinearity"] = old.nonlinearity
    if getattr(old, "proj_size", 0):
        raise EditError("a recurrent layer with a projection cannot be made wider")
    return type(old)(old.input_size * taken, old.hidden_size * given, **how)


def _cell(old: Any, taken: int, given: int) -> nn.Module:
    how = {"nonlinearity": old.nonlinearity} if isinstance(old, nn.RNNCell) else {}
    return type(old)(old.input_size * taken, old.hidden_size * given, bias=old.bias, **how)


def _embedding(old: Any, _: int, given: int) -> nn.Module:
    return nn.Embedding(old.num_embeddings, old.embedding_dim * given, padding_idx=old.padding_idx)


def _batch_norm(old: Any, taken: int, _: int) -> nn.Module:
    keys = ("eps", "momentum", "affine", "track_running_stats")
    return type(old)(old.num_features * taken, **{key: getattr(old, key) for key in keys})


def _layer_norm(old: Any, taken: int, _: int) -> nn.Module:
    shape = cast("tuple[int, ...]", old.normalized_shape)
    if len(shape) != 1:
        raise EditError("a layer norm over several axes cannot be made wider")
    return nn.LayerNorm(shape[0] * taken, eps=old.eps, bias=old.bias is not None)


def _group_norm(old: Any, taken: int, _: int) -> nn.Module:
    return nn.GroupNorm(old.num_groups, old.num_channels * taken, eps=old.eps)


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)

_WAYS: dict[Any, Callable[[Any, int, int], nn.Module]] = (
    {nn.Linear: _linear, nn.Embedding: _embedding, nn.LayerNorm: _layer_norm, nn.GroupNorm: _group_norm}
    | dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution)
    | dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), _recurrent)
    | dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), _cell)
    | dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm)
)
