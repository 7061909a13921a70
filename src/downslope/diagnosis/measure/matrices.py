"""Matrices of weights that no layer shows: those of recurrences, and those that somebody's module holds."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.modules import named_modules
from downslope.init.bare import bare_matrices, blocks

WIDEST = 256
"""Rows of a square matrix up to which its eigenvalues are formed: below 0.1 s."""


def matrices(model: nn.Module) -> list[dict[str, Any]]:
    """The scale of every such matrix of `model`, in order of definition.

    Returns:
        One row each: ``name`` (of the parameter), ``module``, ``recurrent`` (whether states are multiplied
        by it), ``gain`` (of states the largest eigenvalue where that is more than weight rms x sqrt(fan in),
        since they come back step after step), ``lean`` (size of their mean in their root mean square),
        ``count``, ``alike`` (one number throughout), ``trainable``. Which axis
        of a bare matrix is the input is not known: its ``gain`` is then that of the shorter one, and
        ``most`` that of the longer one.
    """
    found: list[dict[str, Any]] = []
    for prefix, module in named_modules(model):
        if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            continue
        for key, p in module.named_parameters(recurse=False):
            if p.dim() > 1:
                name = f"{prefix}.{key}" if prefix else key
                fan, states = p.shape[1], key.startswith("weight_hh")
                found.append(_row(name, prefix, p, fan, fan) | {"recurrent": states})
                if states:
                    _turned(found[-1], [*p.detach().split(fan)])
    for name, p in bare_matrices(model):
        sides = sorted(p.shape[:2] if p.dim() != 3 or len(blocks(p)) == 1 else p.shape[1:])
        kernel = math.prod(p.shape[2:]) if len(blocks(p)) == 1 else 1
        row = _row(name, name.rpartition(".")[0], p, sides[0] * kernel, sides[1] * kernel)
        found.append(row | {"recurrent": False, "bare": True})
        _turned(found[-1], [each for each in blocks(p.detach()) if each.dim() == 2])
    return found


def _row(name: str, module: str, p: Tensor, least: int, most: int) -> dict[str, Any]:
    weight = p.detach().double()
    rms = float(weight.square().mean().sqrt())
    return {
        "name": name,
        "module": module or "model",
        "gain": rms * math.sqrt(least),
        "most": rms * math.sqrt(most),
        "lean": lean(p.detach()),
        "count": p.numel(),
        "alike": bool((weight == weight.flatten()[0]).all()),
        "trainable": p.requires_grad,
    }


def lean(weight: Tensor) -> float:
    """Size of the mean of `weight` in its root mean square; 0 of weights that are all zero."""
    values = weight.double()
    rms = float(values.square().mean().sqrt())
    return abs(float(values.mean())) / rms if rms > 0 and math.isfinite(rms) else 0.0


def _turned(row: dict[str, Any], squares: list[Tensor]) -> None:
    """Put the largest eigenvalue of the square matrices into `row`, where it is more than their gain."""
    for each in squares:
        if each.shape[0] == each.shape[1] <= WIDEST and bool(torch.isfinite(each).all()):
            turns = cast("Tensor", torch.linalg.eigvals(each.cpu().double()))
            radius = float(turns.abs().max())
            row["gain"], row["most"] = max(row["gain"], radius), max(row["most"], radius)
