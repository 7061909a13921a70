"""One call of a known model in a step that is not measured: what it is handed and what it makes, no more."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from downslope.diagnosis.eye import Seen


class Intake:
    """Hands on the next call of a model in training mode, of a step that is to be kept.

    The model carries a hook during that one call: who saves or copies it at any other time finds it as it is.

    Args:
        told: Handed module, arguments and output.
    """

    def __init__(self, told: Seen) -> None:
        self._told = told
        self._model: weakref.ref[nn.Module] | None = None
        self._handles: list[RemovableHandle] = []
        weakref.finalize(self, _removed, self._handles)  # who forgets it must not leave its hook behind

    def open(self, model: nn.Module) -> None:
        """Wait for the next call of `model`."""
        if not self._handles:
            self._model = weakref.ref(model)
            self._handles.append(register_module_forward_pre_hook(_weakly(self)))

    def close(self) -> None:
        """Wait no more."""
        _removed(self._handles)

    def before(self, module: nn.Module) -> None:
        """Before the call of any module."""
        if self._model is None or module is not self._model() or isinstance(module, torch.jit.ScriptModule):
            return
        if not module.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        self.close()

        def ended(module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
            end.remove()
            if made is not None:
                try:
                    self._told(module, args, kwargs, made)
                except Exception:  # noqa: BLE001 (nothing we look at may end anybody's training)
                    return

        end = module.register_forward_hook(ended, with_kwargs=True, always_call=True)


def _removed(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()


def _weakly(intake: Intake) -> Any:
    """Torch's global forward pre-hook, which keeps nothing alive."""
    held = weakref.ref(intake)

    def hook(module: nn.Module, args: Any) -> None:
        del args
        found = held()
        if found is not None:
            found.before(module)

    return hook
