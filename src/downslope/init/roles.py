"""The parameters of a module by the role that they play, each with what fills it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from downslope.init.draw import gaussian
from downslope.init.orthogonal import orthogonal
from downslope.init.zeros import zeros

Init = Callable[..., None]

MAPS = (nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}

EMBEDDING_STD = 0.02
"""That of GPT-2 (Radford et al. 2019, in its published code) and BERT."""


class Held(NamedTuple):
    """A weight of a module and the parameters that it is made of: itself, or those of a parametrisation."""

    parameters: tuple[Parameter, ...]
    read: Callable[[], Tensor]
    write: Callable[[Tensor], None] | None
    """Puts a tensor in its place; None where it is a parameter, which is filled in place."""

    @torch.no_grad()
    def fill(self, rule: Init, generator: torch.Generator | None) -> bool:
        """Fill by `rule`; False, and nothing changes, where a parametrisation does not take the result."""
        if self.write is None:
            rule(self.parameters[0], generator)
            return True
        before = [p.detach().clone() for p in self.parameters]
        drawn = torch.empty_like(self.read())
        rule(drawn, generator)
        try:
            self.write(drawn)
            taken = bool(
                torch.isfinite(torch.view_as_real(w) if (w := self.read()).is_complex() else w).all()
            )
        except (NotImplementedError, ValueError, RuntimeError):  # it has no way back, or not from there
            taken = False
        if not taken:
            for p, value in zip(self.parameters, before, strict=True):
                p.copy_(value)
        return taken


def roles(
    module: nn.Module, rule: Init, weigh: Callable[[Held], Init], *, zero: bool, alike: bool
) -> Iterator[tuple[Held, Init]]:
    """The weights of one module whose role is known, each with what fills it.

    Args:
        module: Its children are not looked at.
        rule: For weights whose activation is not asked for.
        weigh: From a weight to the rule that suits what reads it.
        zero: Whether all that is drawn is 0.
        alike: Whether recurrent weights are to be filled by `rule` as well, so that all units start alike.
    """
    own = held(module)
    if isinstance(module, MAPS):
        groups = int(getattr(module, "groups", 1))
        yield from _some(own, "weight", lambda its: _blocks(weigh(its), groups))
        yield from _some(own, "bias", _zeros)
    elif isinstance(module, TRANSPOSED):
        # Stored (in, out, *kernel): the other way round than every other weight.
        yield from _some(own, "weight", lambda its: _blocks(_turned(weigh(its)), module.groups))
        yield from _some(own, "bias", _zeros)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield from _some(own, "weight", lambda _: _embedding(zero, module.padding_idx))
    elif isinstance(module, nn.MultiheadAttention):
        yield from _some(own, "in_proj_weight", lambda _: _blocks(rule, 3))
        yield from _some(own, "in_proj_bias", _zeros)
        for key in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            yield from _some(own, key, lambda _: rule)
    elif isinstance(module, RECURRENT):
        gates = next((count for kind, count in GATES.items() if isinstance(module, kind)), 1)
        for key, each in own.items():
            yield each, _recurrent(key, rule, gates, zero=zero, alike=alike)


def turned(rule: Init) -> Init:
    """`rule` for a weight that is stored (in, out)."""
    return _turned(rule)


def _some(own: dict[str, Held], key: str, fill: Callable[[Held], Init]) -> Iterator[tuple[Held, Init]]:
    if key in own:
        yield own[key], fill(own[key])


def _zeros(_: Held) -> Init:
    return zeros


def held(module: nn.Module) -> dict[str, Held]:
    """The weights of a module by name, parametrised ones among them."""
    own = dict(module.named_parameters(recurse=False))
    found = {key: Held((p,), functools.partial(getattr, module, key), None) for key, p in own.items()}
    if parametrize.is_parametrized(module):
        for key, made in cast("Iterator[tuple[str, nn.Module]]", module.parametrizations.items()):  # pyright: ignore
            found[key] = _through(module, key, tuple(made.parameters()))
    if {"weight_g", "weight_v"} <= own.keys():  # torch.nn.utils.weight_norm, the older way
        found["weight"] = _scaled_direction(own)
    elif "weight_orig" in own:  # torch.nn.utils.spectral_norm, the older way
        found["weight"] = found.pop("weight_orig")
    return found


def _through(module: nn.Module, key: str, parameters: tuple[Parameter, ...]) -> Held:
    return Held(parameters, functools.partial(getattr, module, key), functools.partial(setattr, module, key))


def _scaled_direction(own: dict[str, Parameter]) -> Held:
    size, direction = own["weight_g"], own["weight_v"]

    def write(drawn: Tensor) -> None:
        axes = [axis for axis in range(drawn.dim()) if size.shape[axis] == 1]
        direction.copy_(drawn)
        size.copy_(_length(drawn, axes))

    def read() -> Tensor:
        axes = [axis for axis in range(direction.dim()) if size.shape[axis] == 1]
        return direction * (size / _length(direction, axes))

    return Held((size, direction), read, write)


def _length(weight: Tensor, axes: list[int]) -> Tensor:
    linalg: Any = torch.linalg
    return cast("Tensor", linalg.vector_norm(weight, dim=axes, keepdim=True))


def _turned(rule: Init) -> Init:
    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        rule(weight.transpose(0, 1), generator)

    return fill


def _blocks(rule: Init, count: int) -> Init:
    """A rule applied to each of `count` weights that are stored under one another: gates, heads, groups."""
    if count == 1:
        return rule

    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        for block in weight.chunk(count):
            rule(block, generator)

    return fill


def _recurrent(key: str, rule: Init, gates: int, *, zero: bool, alike: bool) -> Init:
    if key.startswith("bias"):
        return _forgetful if gates == 4 and key.startswith("bias_ih") and not zero else zeros
    hidden = key.startswith(("weight_hh", "weight_hr"))
    return _blocks(orthogonal if hidden and not alike else rule, 1 if "_hr" in key else gates)


def _forgetful(bias: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: ARG001
    """Zero, and one for the forget gate, the second of four: the cell remembers until it learns not to."""
    bias.zero_()
    bias.chunk(4)[1].fill_(1.0)


def _embedding(zero: bool, padding: int | None) -> Init:
    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        gaussian(weight, 0.0 if zero else EMBEDDING_STD, generator)
        if padding is not None:
            weight[padding].zero_()

    return fill
