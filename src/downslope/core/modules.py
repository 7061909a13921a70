"""Modules of a model by qualified name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn
from torch.nn import Parameter


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module once, with its qualified name; the model itself is ``""``."""
    return [*cast("Iterator[tuple[str, nn.Module]]", model.named_modules())]


def own_parameters(module: nn.Module) -> list[Parameter]:
    """The parameters that `module` holds itself, not those of its children."""
    return list(module.parameters(recurse=False))
