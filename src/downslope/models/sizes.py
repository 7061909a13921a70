"""Sizes that a model of the catalogue takes from the data: inputs, outputs, channels, vocabulary."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import batches, names
from downslope.core.errors import DataError, ModelError
from downslope.core.problem import Problem
from downslope.core.samples import first_input, sample
from downslope.core.sources import Memory

SPARSE_FROM = 1000
"""Largest class index from which on it is told that most classes are empty."""

_log = logging.getLogger("downslope")


def from_data(problem: Problem, factory: Callable[..., Any]) -> dict[str, Any]:
    """The size arguments of `factory` that can be read from the training data.

    Args:
        problem: Its data and split count.
        factory: A function of `downslope.models`; ``inputs``, ``outputs``, ``channels``, ``size``,
            ``vocabulary`` and ``steps`` are filled in where it takes them.

    Returns:
        Argument to value.

    Raises:
        DataError: the batches hold no input tensor.
        ModelError: a model of images or of tokens, and data that are none.
    """
    x = first_input(problem)
    target = problem.splitter(sample(problem))[2]
    held = _held(problem)
    known: dict[str, Any] = {"inputs": x[0].numel(), "outputs": _outputs(problem, target, held[1])}
    if getattr(problem.objective, "expects", None) in ("logit", "probability") and known["outputs"] == 2:
        known["outputs"] = 1
    if x.dim() == 4:
        known |= {
            "channels": x.shape[1],
            "size": x.shape[2] if x.shape[2] == x.shape[3] else tuple(x.shape[2:]),
        }
    taken = inspect.signature(factory).parameters
    if "channels" in taken and x.dim() != 4 and not {"channels", "size"} <= set(problem.arguments):
        raise ModelError(
            f"{factory.__name__} takes images (n, channels, height, width), and the inputs are "
            f"{tuple(x.shape)}: reshape them, or take another model, such as 'mlp'"
        )
    if "tokens" in taken:  # a model of sequences
        known |= _steps(x, held[0])
    if "vocabulary" in taken:
        known |= _vocabulary(x, (target, held), factory.__name__, problem.arguments)
    told = getattr(problem.train_source, "vocabulary", None)
    if told is not None:  # the source knows tokens that the sample may lack
        known |= {"vocabulary": told, "inputs": told}
    return {key: value for key, value in known.items() if key in taken and value is not None}


def _held(problem: Problem) -> tuple[Any, Any]:
    """Inputs and target of the validation data, where it is in memory: it may hold what training lacks."""
    source = problem.valid_source
    if not isinstance(source, Memory):
        return (), ()
    args, kwargs, target = problem.splitter(source.batch)
    return (args, kwargs), target


def _most(*trees: Any) -> int:
    """The largest whole number."""
    found = [each for each in batches.tensors(trees) if not each.is_floating_point() and each.numel()]
    return max((int(each.max()) for each in found), default=0)


def _steps(x: Tensor, held: Any) -> dict[str, Any]:
    """Numbers a step; of tokens how many there are, as far as the data in memory shows."""
    if x.dim() == 2 and not x.is_floating_point():
        return {"inputs": _most(x, held) + 1, "tokens": True}
    return {"inputs": x.shape[-1]}


def _vocabulary(x: Tensor, target: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and steps; a token that is only ever a target counts too."""
    if x.dim() != 2 or (x.is_floating_point() and "vocabulary" not in given):
        raise ModelError(
            f"{name} takes sequences of whole numbers (n, steps), and the inputs are {tuple(x.shape)} of "
            f"{x.dtype}: give token ids, or take another model, such as 'transformer'"
        )
    return {"vocabulary": _most(x, target) + 1, "steps": x.shape[1]}


def _outputs(problem: Problem, target: Any, held: Any) -> int | None:
    """Entries of the output: one for each class, or one for each number of the target.

    Raises:
        DataError: the objective wants class indices, and these are none, or of one class only.
    """
    found = batches.tensors(target)
    if not found:
        return None
    y: Tensor = found[0]
    said = names.load("downslope.objectives.meaning:meaning")(problem.objective)
    meant = said.target
    whole = y.dtype != torch.bool and not y.is_floating_point() and not y.is_complex()
    column = y.dim() == 2 and y.shape[1] == 1
    if meant == "class" and len(found) == 1 and (y.dim() == 1 or column):
        if not whole:
            kind = str(y.dtype).removeprefix("torch.")
            raise DataError(f"train: the target is {kind}: class indices must be whole numbers; y.long()")
        outputs = _most(y, held) + 1
        _look(y, outputs, int(getattr(problem.objective, "ignore_index", -100)))
        return outputs
    if whole and y.dim() == 1 and not (meant == "binary" and (said.expects != "sign" or _signs(y))):
        return _most(y, held) + 1
    return y[0].numel() if y.dim() > 1 else 1


def _signs(y: Tensor) -> bool:
    """Whether labels are -1 and 1, which one score tells apart."""
    return int(y.min()) == -1 and int(y.max()) <= 1


def _look(y: Tensor, outputs: int, ignored: int) -> None:
    """Refuse one class alone, of which no output can be made; tell of classes most of which are empty.

    Raises:
        DataError: every target is class 0.
    """
    if outputs == 1 and bool((y == 0).all()):
        raise DataError(f"train: all {len(y)} targets are class 0: there is nothing to tell apart")
    if outputs <= SPARSE_FROM:
        return
    classes = set(cast("list[int]", y.flatten().tolist())) - {ignored}
    count = len(classes)
    if 10 * count < outputs:
        _log.warning(
            "the target holds %d classes, and the largest index is %d: the model gets %d outputs; "
            "torch.unique(y, return_inverse=True)[1] numbers the classes from 0",
            count, outputs - 1, outputs,
        )  # fmt: skip
