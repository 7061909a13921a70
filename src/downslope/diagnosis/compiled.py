"""What torch.compile made of a model, and how much it has compiled so far."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether `module` is what ``torch.compile(module)`` gives."""
    held = module.__dict__.get("_modules", {})  # those of a scripted module are no dict
    return "_orig_mod" in held and isinstance(held["_orig_mod"], nn.Module)


def graphs() -> int:
    """Graphs that were compiled in this process."""
    counters: Any = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    return counters["stats"]["unique_graphs"] if counters else 0


def in_place(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called."""
    return getattr(module, "_compiled_call_impl", None) is not None


def plain_module(module: nn.Module) -> nn.Module:
    """The module inside a compiled one; any other as it is."""
    return module.get_submodule("_orig_mod") if is_compiled(module) else module
