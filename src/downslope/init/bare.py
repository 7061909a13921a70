"""Matrices that a module of somebody's own holds itself: parameters without a role known to torch.nn."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parameter import is_lazy

from downslope.core.modules import named_modules

_HOLDERS = (nn.ParameterList, nn.ParameterDict)

_MEANT = re.compile(
    r"emb|pos(?!t)|token|cls|quer(y|ies)$|prompt|slot|anchor|codebook|cent(er|re|roid)|prototype|means?$"
    r"|scale|gain|gamma|beta|bias|temperature|mask|log_"
)
"""Names of what is no map: tables of vectors that are looked up or added, and scales. Convention."""


def bare_matrices(model: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """The matrices, or stacks of them, that a map from inputs to outputs may consist of.

    Left out are modules of torch itself, parametrised weights, frozen parameters, vectors (an axis of one
    besides), what is a table or a scale by its name, and what starts as ones or as an identity on purpose.

    Args:
        model: any module.

    Yields:
        Qualified name and parameter, in order of definition; which axis is the input is not known.
    """
    seen: set[int] = set()
    for prefix, module in named_modules(model):
        if not isinstance(module, _HOLDERS) and type(module).__module__.startswith("torch."):
            continue
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{key}" if prefix else key
            if id(parameter) in seen or not parameter.requires_grad or is_lazy(parameter):
                continue
            seen.add(id(parameter))
            if _maps(parameter) and not is_table(name) and not _chosen(parameter):
                yield name, parameter


def is_table(name: str) -> bool:
    """Whether a parameter is, by its name, a table of vectors that are looked up or added, or a scale."""
    return _MEANT.search(name.lower()) is not None


def blocks(weight: Tensor) -> list[Tensor]:
    """The matrices of a stack (heads, in, out); a kernel, whose last axis is short and odd, stays whole."""
    if weight.dim() != 3:
        return [weight]
    last = weight.shape[2]
    return [weight] if last % 2 and last < min(weight.shape[:2]) else list(weight)


def _maps(parameter: Parameter) -> bool:
    return parameter.is_floating_point() and parameter.dim() in (2, 3, 4) and min(parameter.shape[:2]) > 1


def _chosen(parameter: Parameter) -> bool:
    weight = parameter.detach()
    if bool((weight == 1).all()):
        return True
    square = weight.dim() == 2 and weight.shape[0] == weight.shape[1]
    return square and torch.equal(weight, torch.eye(len(weight)).to(weight))
