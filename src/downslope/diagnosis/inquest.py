"""What made a loss leave the finite numbers: data, weights, or the arithmetic between them.

Asked twice. Of the graph of the first loss that is not finite, which still holds what went into it while its
backward pass has not run; and, where that says nothing, of the batches that come after, because an example
that holds NaN comes back in the next epoch. Nothing is looked at before a loss is not finite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from weakref import finalize, ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from downslope.core import batches
from downslope.data.inspect import non_finite
from downslope.diagnosis.arithmetic import broken
from downslope.diagnosis.ear import Call, Ear
from downslope.diagnosis.written import astray

MOST = 2000
"""Forward passes after the first loss that is not finite in which its cause is sought. Convention."""

NODES = 5000
"""Nodes of a graph that are looked at."""

_TARGETS = ("_saved_target",)
_INPUTS = ("_saved_mat1", "_saved_input", "_saved_self", "_saved_other")
"""Where nodes save what they were given; an attention mask of -inf, under another name, is sound."""


def placed(found: dict[str, Any], step: int) -> dict[str, Any]:
    """What `non_finite` counted, with its place said as somebody at the loop can find it."""
    first = found.get("first")
    if first is None:
        return found
    place = f"step {step}, row {first['row']} of the batch, column {first['column']} (both from 0)"
    return found | {"first": first | {"place": place, "step": step}}


def autopsy(loss: Tensor) -> dict[str, Any]:
    """What in the graph of `loss` is not finite.

    Args:
        loss: A loss that is not finite, before its backward pass; after it nothing is left to see.

    Returns:
        ``non_finite`` and ``target_non_finite``, as `data.inspect.non_finite` counts them, where data is,
        ``weights`` True where parameters are; and where none of these is, ``arithmetic``, the operation that
        made it of finite values, as `arithmetic.broken` tells it.
    """
    found: dict[str, Any] = {}
    for name, tensor in _saved(loss):
        if tensor.grad_fn is not None or not tensor.is_floating_point() or not tensor.dim():
            continue
        told = non_finite(tensor.detach())
        if not told["count"]:
            continue
        if tensor.requires_grad:
            found["weights"] = True
        elif name in _TARGETS:
            found.setdefault("target_non_finite", told)
        elif name in _INPUTS:
            found.setdefault("non_finite", told)
    if not found:  # a difference written out by hand keeps no target, only what it came to
        with contextlib.suppress(Exception), torch.no_grad():
            off = astray(loss)
            if off is not None and (told := non_finite(off))["count"]:
                found["target_non_finite"] = told
    if not found and (operation := _operation(loss)) is not None:
        found["arithmetic"] = operation
    return found


def _operation(loss: Tensor) -> dict[str, Any] | None:
    """The operation nearest to the loss that has no finite value of what it was given."""
    for node in _nodes(loss):
        with contextlib.suppress(Exception):
            if (told := broken(node)) is not None:
                return told
    return None


def _nodes(loss: Tensor) -> Iterator[Any]:
    queue, known = [loss.grad_fn], set[int]()
    while queue and len(known) < NODES:
        node: Any = queue.pop()
        if node is None or id(node) in known:
            continue
        known.add(id(node))
        queue += [parent for parent, _ in node.next_functions]
        yield node


def _saved(loss: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors that the graph of `loss` still holds, with the names under which its nodes saved them."""
    for node in _nodes(loss):
        own = getattr(node, "variable", None)
        if isinstance(own, Tensor):
            yield "variable", own
        for name in dir(node):
            if name.startswith("_saved_"):
                try:
                    value = getattr(node, name)
                except RuntimeError:  # freed by the backward pass
                    continue
                if isinstance(value, Tensor):
                    yield name, value


class Inquest:
    """Looks at inputs and targets of every step until a value is found that is not finite.

    Args:
        owns: Whether a module is part of what is trained.
        compiled: Compiled models; hooked themselves, because torch's global hook would compile them anew.
        step: The step that is being taken.
        told: Handed "non_finite" or "target_non_finite" and what was counted, once.
    """

    def __init__(
        self,
        owns: Callable[[nn.Module], bool],
        compiled: list[nn.Module],
        step: Callable[[], int],
        told: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._owns, self._step, self._told = owns, step, told
        self._left = MOST
        self._inner: set[int] = set()
        self._ear = Ear(self._scored)
        self._handles: list[RemovableHandle] = []
        hook = _weakly(self)
        if compiled:
            self._handles += [each.register_forward_pre_hook(hook) for each in compiled if owns(each)]
        else:
            self._handles.append(register_module_forward_pre_hook(hook))
            self._ear.open()
        for handle in self._handles:
            finalize(self, handle.remove)

    def before(self, module: nn.Module, args: Any) -> None:
        """Before the call of any module: the inputs of the outermost one of the model."""
        if torch.compiler.is_compiling() or not module.training or not self._owns(module):
            return
        if id(module) in self._inner:
            return
        self._inner.update(id(each) for each in module.modules() if each is not module)
        self._left -= 1
        for tensor in batches.tensors(args):
            if tensor.grad_fn is None and not tensor.requires_grad and self._bad("non_finite", tensor):
                return
            break
        if self._left <= 0:
            self.close()

    def _scored(self, call: Call) -> None:
        if call.value.requires_grad and isinstance(call.args[1], Tensor):
            self._bad("target_non_finite", call.args[1])

    def _bad(self, where: str, tensor: Tensor) -> bool:
        if not tensor.dim() or tensor.is_sparse or tensor.is_nested:
            return False
        found = non_finite(tensor.detach()) if tensor.grad_fn is None else {"count": 0}
        if not found["count"]:
            return False
        self._told(where, placed(found, self._step()))
        self.close()
        return True

    def close(self) -> None:
        """Look no more."""
        self._ear.close()
        while self._handles:
            self._handles.pop().remove()


def _weakly(inquest: Inquest) -> Any:
    """A hook that keeps nothing alive, and never ends anybody's training."""
    held = ref(inquest)

    def hook(module: nn.Module, args: Any) -> None:
        found = held()
        if found is not None:
            try:
                found.before(module, args)
            except Exception:  # noqa: BLE001 (nothing we look at may end anybody's training)
                found.close()

    return hook
