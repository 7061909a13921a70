"""Modules of TorchScript, which are refused."""

from __future__ import annotations

import torch
from torch import nn

from downslope.core.errors import ModelError


def refuse_script(model: nn.Module) -> None:
    """Refuse a module of TorchScript, which can be neither copied with its weights nor looked into.

    Raises:
        ModelError: it holds one.
    """
    if any(isinstance(each, torch.jit.ScriptModule) for each in model.modules()):
        raise ModelError(
            "the model is TorchScript, of which neither copies nor observations can be made: give the module "
            "that went into torch.jit.script or torch.jit.trace"
        )
