"""Torch's own table of inputs for its optimizers: torch/testing/_internal/common_optimizers.py of the wheel.

It is run as it stands; only the modules that give it decorators for torch's test runner are stood in for:
they take three seconds to load, need a package that torch does not bring (expecttest), load its compiler and
set switches of torch.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import torch

_RUNNER = ("common_device_type", "common_methods_invocations", "common_utils")


class _Decorators(ModuleType):
    """Any name of the module is a decorator that changes nothing."""

    TEST_WITH_TORCHDYNAMO = False
    _TestParametrizer = object

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda test: test


def _loaded() -> ModuleType:
    package = "torch.testing._internal"
    stands = {f"{package}.{name}": _Decorators(f"{package}.{name}") for name in _RUNNER}
    path = importlib.util.find_spec("torch").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(
        "tests.optim._common_optimizers", f"{path}/testing/_internal/common_optimizers.py"
    )
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, stands):
        spec.loader.exec_module(module)
    return module


_MODULE = _loaded()

DATABASE: dict[str, Any] = {info.optim_cls.__name__: info for info in _MODULE.optim_db}
"""By the name of the class; each has ``optim_cls``, ``scheduler_inputs``, what it supports, and functions
that give inputs."""

STEP_ERROR = _MODULE.OptimizerErrorEnum.STEP_ERROR


def valid(name: str) -> list[tuple[str, dict[str, Any]]]:
    """(description, arguments) of every input that torch's class takes on the CPU, with the switches that
    choose among its implementations."""
    inputs = _MODULE._get_optim_inputs_including_global_cliquey_kwargs(
        "cpu", torch.float64, DATABASE[name], skip=("differentiable",)
    )
    return [(each.desc, each.kwargs) for each in inputs]


def wrong(name: str) -> list[Any]:
    """Every input that torch's class refuses on the CPU: ``optimizer_error_input``, ``error_type`` and
    ``error_on``."""
    return DATABASE[name].optim_error_inputs_func("cpu", torch.float32)
