"""A model that takes its training steps in eval mode: which layers do not do there what they are for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from downslope.core.modules import named_modules

MOST = 8
"""Modules that are noted, parts after the whole: one is the model that is trained, or none is told."""


class Resting:
    """The first modules that were called in eval mode while gradients were recorded."""

    def __init__(self) -> None:
        self._met: list[weakref.ref[nn.Module]] = []

    def met(self, module: nn.Module) -> None:
        """Note `module` before its call."""
        if len(self._met) < MOST:
            self._met.append(weakref.ref(module))

    def measured(self, owns: Callable[[nn.Module], bool]) -> dict[str, Any] | None:
        """What the mode changes in the model; None where there is no such model, or nothing changes.

        Args:
            owns: Whether a module is trained, at least in part.

        Returns:
            ``norms`` (names of modules with running statistics), ``dropouts`` (names of dropout modules that
            drop anything), ``untouched`` (whether all running statistics are those that torch begins with,
            mean 0 and variance 1), ``trained`` (whether any norm layer's parameters get a gradient).
        """
        there = [each for held in self._met if (each := held()) is not None]
        model = next((each for each in there if owns(each)), None)
        if model is None:
            return None
        named = named_modules(model)
        norms = [(name, each) for name, each in named if getattr(each, "running_var", None) is not None]
        drops = [name for name, each in named if isinstance(each, nn.modules.dropout._DropoutNd) and each.p]  # pyright: ignore[reportPrivateUsage]
        if not norms and not drops:
            return None
        return {
            "norms": [name for name, _ in norms],
            "dropouts": drops,
            "untouched": bool(norms) and all(_untouched(each) for _, each in norms),
            "trained": any(p.requires_grad for _, each in norms for p in each.parameters()),
        }


def _untouched(norm: Any) -> bool:
    mean, var = norm.running_mean, norm.running_var
    if mean is None or mean.is_meta or var.is_meta:
        return False
    return not bool(mean.any()) and bool(torch.equal(var, torch.ones_like(var)))
