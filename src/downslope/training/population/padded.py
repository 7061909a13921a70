"""Embeddings with a row for padding, members side by side: no gradient reaches that row of any of them.

Under `torch.func.vmap` torch looks up all members' rows in one table and leaves out the padding of the first.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad(template: nn.Module) -> None:
    """Have the embeddings of `template` leave out their padding for each member."""
    for module in template.modules():
        if type(module) is not nn.Embedding or module.padding_idx is None:
            continue
        if module.max_norm is None and not module.scale_grad_by_freq:
            cast("Any", module).forward = functools.partial(_looked_up, module)


def _looked_up(module: nn.Embedding, x: Tensor) -> Tensor:
    """The rows of `x`; where it is padding, its row without a gradient."""
    at = cast("int", module.padding_idx)
    found = functional.embedding(x, module.weight)
    return torch.where((x == at).unsqueeze(-1), module.weight[at].detach(), found)
