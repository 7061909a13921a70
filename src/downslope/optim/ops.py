"""Torch's list-wise and fused operations, which it hides behind underscores, typed and in one place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Operation = Callable[..., Any]


def _operation(name: str) -> Operation:
    return getattr(torch, name)


def _hooks(name: str) -> dict[int, Callable[..., Any]]:
    # torch.optim deletes the attribute that would name this module.
    return getattr(importlib.import_module("torch.optim.optimizer"), name)


foreach_add = _operation("_foreach_add")
foreach_add_ = _operation("_foreach_add_")
foreach_addcdiv_ = _operation("_foreach_addcdiv_")
foreach_addcmul = _operation("_foreach_addcmul")
foreach_addcmul_ = _operation("_foreach_addcmul_")
foreach_copy_ = _operation("_foreach_copy_")
foreach_div = _operation("_foreach_div")
foreach_div_ = _operation("_foreach_div_")
foreach_lerp_ = _operation("_foreach_lerp_")
foreach_maximum_ = _operation("_foreach_maximum_")
foreach_mul = _operation("_foreach_mul")
foreach_mul_ = _operation("_foreach_mul_")
foreach_sqrt = _operation("_foreach_sqrt")
foreach_sqrt_ = _operation("_foreach_sqrt_")

flattened: Operation = vars(importlib.import_module("torch._utils"))["_flatten_dense_tensors"]
"""All elements of tensors of one dtype and device, as one vector."""

unflattened: Operation = vars(importlib.import_module("torch._utils"))["_unflatten_dense_tensors"]
"""Views of such a vector, shaped as the tensors."""

fused_sgd_ = _operation("_fused_sgd_")
fused_adagrad_ = _operation("_fused_adagrad_")
fused_adam_ = _operation("_fused_adam_")
fused_adamw_ = _operation("_fused_adamw_")

# Filled by torch.optim.optimizer.register_optimizer_step_pre_hook and ..._post_hook, for every optimizer
# alive.
GLOBAL_PRE_HOOKS = _hooks("_global_optimizer_pre_hooks")
GLOBAL_POST_HOOKS = _hooks("_global_optimizer_post_hooks")

with_hooks: Callable[[Operation], Operation] = torch.optim.Optimizer.profile_hook_step
"""Wraps a step so that hooks run and the profiler sees it, as torch does with every optimizer."""


set_grad_enabled: Callable[[bool], None] = vars(torch)["_C"]._set_grad_enabled
"""What torch's context manager of that name does, without making one."""


def lean(method: Operation) -> Operation:
    """Torch's `method` without the wrapper that imports its compiler at the first call, which takes a second.

    Once the compiler is loaded, the wrapper has its use and stays.
    """
    return method if "torch._dynamo" in sys.modules else getattr(method, "__wrapped__", method)


class LBFGS(torch.optim.LBFGS):
    """Torch's own, for measurements: making one does not import torch's compiler."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds the group, as torch does."""
        lean(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, as torch does."""
        lean(torch.optim.Optimizer.zero_grad)(self, set_to_none)


Step = TypeVar("Step", bound=Operation)


def serves_hooks(step: Step) -> Step:
    """Marks a `step` that runs hooks by itself, so that torch does not wrap it, nor compile it.

    Torch's wrapper opens a profiler record at every step, profiler or none, which costs as much as the whole
    step of a small model.
    """
    vars(step)["hooked"] = True
    return uncompiled(step)


def uncompiled(method: Step) -> Step:
    """Marks a method, which runs as it is, with all that it calls, where a function around it is compiled.

    It does what `torch.compiler.disable` does, which imports the compiler, for a second, whether it is used
    or not, and wraps the method.
    """
    vars(method)["_torchdynamo_disable"] = True
    vars(method)["_torchdynamo_disable_msg"] = "the step of an optimizer is no graph of tensors"
    frames: Any = vars(torch)["_C"]._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):  # torch 2.7
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(method.__code__, frames._FrameExecStrategy(skip, skip))
    return method


is_profiling: Callable[[], bool] = getattr(torch.autograd, "_profiler_enabled", lambda: False)
