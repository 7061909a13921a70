"""One initialisation over a whole model, each parameter by the role that it plays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from downslope.core import names
from downslope.core.errors import ModelError
from downslope.init.auto import auto, followers
from downslope.init.bare import bare_matrices, blocks
from downslope.init.draw import gaussian
from downslope.init.orthogonal import orthogonal
from downslope.init.xavier import xavier
from downslope.init.zeros import zeros

Init = Callable[..., None]

MAPS = (nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}

EMBEDDING_STD = 0.02
"""That of GPT-2 (Radford et al. 2019, in its published code) and BERT."""


@torch.no_grad()
def initialise(model: nn.Module, name: str | Init, generator: torch.Generator | None = None) -> list[str]:
    """Initialise a model in place, by the role of each parameter.

    Weights of linear maps, convolutions, attention and recurrent inputs by `name`; their biases 0, but 1
    for an LSTM's forget gate (Gers et al. 2000); recurrent weights orthogonal, gate by gate; embeddings
    N(0, 0.02**2), a padding row 0. With "zeros" all of these are 0. Norms stay as they are, and so do frozen
    parameters, parametrised ones, and those of modules with a role unknown here; but "auto" draws the
    matrices among these last by `xavier`, which does not ask which axis is the input (`bare_matrices`).

    Args:
        model: any module; tied weights are drawn once.
        name: a name of the table ("he", "xavier", "auto", ...), or a function of weight and generator.
        generator: of the draws, on the CPU; by default torch's own.

    Returns:
        The names of the parameters that were left as they were, norms included.

    Raises:
        UnknownNameError: no such name.
        ModelError: a lazy parameter without a shape yet.
    """
    rule: Init = names.resolve("init", name) if isinstance(name, str) else name
    lazy = next((key for key, p in model.named_parameters() if is_lazy(p)), None)
    if lazy is not None:
        raise ModelError(f"parameter {lazy!r} has no shape yet; run the model on one batch first")
    follows = followers(model) if rule is auto else {}
    done: set[int] = set()
    for module in model.modules():
        for parameter, fill in _roles(module, rule, follows.get(module)):
            if parameter.requires_grad and id(parameter) not in done:
                done.add(id(parameter))
                fill(parameter, generator)
    for _, parameter in bare_matrices(model) if rule is auto else ():
        if id(parameter) not in done:
            done.add(id(parameter))
            for block in blocks(parameter):
                xavier(block, generator)
    return [key for key, p in model.named_parameters() if id(p) not in done]


def _roles(module: nn.Module, rule: Init, follows: type[nn.Module] | None) -> Iterator[tuple[Tensor, Init]]:
    """The parameters of one module whose role is known, each with what fills it."""
    own: dict[str, Any] = dict(module.named_parameters(recurse=False))
    weigh: Init = functools.partial(auto, follows=follows) if rule is auto else rule
    if isinstance(module, MAPS):
        yield from _named(own, weight=weigh, bias=zeros)
    elif isinstance(module, TRANSPOSED):
        # Stored (in, out, *kernel): the other way round than every other weight.
        yield from _named(own, weight=_transposed(weigh), bias=zeros)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield from _named(own, weight=_embedding(rule, module.padding_idx))
    elif isinstance(module, nn.MultiheadAttention):
        shared = dict.fromkeys(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weigh)
        yield from _named(own, in_proj_weight=_blocks(weigh, 3), in_proj_bias=zeros, **shared)
    elif isinstance(module, RECURRENT):
        gates = next((count for kind, count in GATES.items() if isinstance(module, kind)), 1)
        for key, parameter in own.items():
            yield parameter, _recurrent(key, rule, gates)


def _named(own: dict[str, Any], **fills: Init) -> Iterator[tuple[Tensor, Init]]:
    return ((own[key], fill) for key, fill in fills.items() if own.get(key) is not None)


def _transposed(rule: Init) -> Init:
    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        rule(weight.transpose(0, 1), generator)

    return fill


def _blocks(rule: Init, count: int) -> Init:
    """A rule applied to each of `count` weights that are stored under one another."""

    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        for block in weight.chunk(count):
            rule(block, generator)

    return fill


def _recurrent(key: str, rule: Init, gates: int) -> Init:
    if key.startswith("bias"):
        remembers = gates == 4 and key.startswith("bias_ih") and rule is not zeros
        return _forgetful if remembers else zeros
    hidden = key.startswith(("weight_hh", "weight_hr"))
    return _blocks(orthogonal if hidden and rule is not zeros else rule, 1 if "_hr" in key else gates)


def _forgetful(bias: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: ARG001
    """Zero, and one for the forget gate, the second of four: the cell remembers until it learns not to."""
    bias.zero_()
    bias.chunk(4)[1].fill_(1.0)


def _embedding(rule: Init, padding: int | None) -> Init:
    def fill(weight: Tensor, generator: torch.Generator | None) -> None:
        gaussian(weight, 0.0 if rule is zeros else EMBEDDING_STD, generator)
        if padding is not None:
            weight[padding].zero_()

    return fill
