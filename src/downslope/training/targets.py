"""Targets in memory that an objective has no least value for, or no meaning: `fit` refuses them.

A diagnosis names them with their remedy instead, and so trains on them: see `reported`.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.class_targets import refuse_negative, refuse_single
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.objectives import Configured, Penalised, meaning
from downslope.objectives.objective import is_index
from downslope.training.facts.output import BEYOND

_reported: ContextVar[bool] = ContextVar("targets_are_reported", default=False)


@contextmanager
def reported() -> Generator[None]:
    """A block in which targets are not refused, because a finding will tell of them."""
    token = _reported.set(True)
    try:
        yield
    finally:
        _reported.reset(token)


def are_reported() -> bool:
    """Whether what is wrong with targets is left to a finding here."""
    return _reported.get()


_PADDED = ("CTCLoss", "ctc_loss", "MultiLabelMarginLoss", "multilabel_margin_loss")
"""Losses whose targets are lists of classes, with a padding of their own."""


def refuse_classes(problem: Problem) -> None:
    """Refuse targets in memory that are negative class indices, or one class only, before a model is built.

    Raises:
        DataError: naming the first such value and its row, or the class.
    """
    said = meaning(problem.objective)
    if said.target not in ("class", "binary") or said.name in _PADDED:
        return
    ignored = int(getattr(problem.objective, "ignore_index", -100))
    for part, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        target = problem.splitter(source.batch)[2] if isinstance(source, Memory) else None
        if not isinstance(target, Tensor) or target.is_complex() or not target.numel():
            continue
        indices = said.target == "class" and is_index(target)
        if indices:
            refuse_negative(target, part, ignored)
        column = target.ndim == 1 or target.shape[1:] == (1,)
        if part == "train" and not _reported.get() and (indices or (said.target == "binary" and column)):
            refuse_single(target, part, ignored)


def refuse(problem: Problem, output: Any) -> None:
    """Refuse targets in memory outside of what the objective is made for.

    Args:
        problem: Its training and validation data are looked at once, as a whole.
        output: What the model made of a first batch: of the hinge loss it says whether classes are meant.

    Raises:
        DataError: naming the first such value and its row.
    """
    said = meaning(problem.objective)
    if are_reported():
        return
    for part, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        if not isinstance(source, Memory):
            continue
        target = problem.splitter(source.batch)[2]
        if not isinstance(target, Tensor) or target.is_complex() or not target.numel():
            continue
        if said.name == "hinge" and not _classes(output, target):
            _signs(part, target)
        elif said.expects in ("logit", "probability") and said.target == "binary":
            _unit(part, "target", target, said.name)
        elif said.name == "elbo" and _settings(problem.objective).get("likelihood") in (None, "bernoulli"):
            _unit(part, "input", target, "elbo's Bernoulli reconstruction")


def _settings(objective: Any) -> dict[str, Any]:
    if isinstance(objective, Penalised):
        return _settings(objective.objective)
    if isinstance(objective, Configured):
        return dict(objective.settings)
    if isinstance(objective, functools.partial):
        return dict(cast("functools.partial[Any]", objective).keywords)
    return {}


def _classes(output: Any, target: Tensor) -> bool:
    """Whether the output has a score for each of several classes, and the target their indices."""
    return (
        isinstance(output, Tensor)
        and output.ndim == 2
        and output.shape[1] > 1
        and target.shape[1:] != output.shape[1:]
    )


def _first(wrong: Tensor, target: Tensor) -> tuple[float, int, int]:
    """The first value that is wrong, its row, and how many there are."""
    places = wrong.reshape(len(target), -1)
    row = int(places.any(1).nonzero()[0])
    value = target.reshape(len(target), -1)[row][places[row]][0]
    return float(value), row, int(wrong.sum())


def _told(count: int) -> str:
    return "" if count == 1 else f", the first of {count}"


def _signs(part: str, target: Tensor) -> None:
    signs = bool((target < 0).any())
    wrong = (target.abs() != 1) if signs else (target != 0) & (target != 1)
    if not bool(wrong.any()):
        return
    value, row, count = _first(wrong, target)
    raise DataError(
        f"{part} target, row {row} (counted from 0): {value:g}{_told(count)}; hinge takes -1 and 1, or 0 and "
        "1: it is for labels; for numbers take 'squared_error', for several classes one output each"
    )


def _unit(part: str, what: str, target: Tensor, name: str) -> None:
    if target.dtype == torch.bool:
        return
    wrong = (target < -BEYOND) | (target > 1 + BEYOND)
    if not bool(wrong.any()):
        return
    value, row, count = _first(wrong, target)
    low, high = float(target.min()), float(target.max())
    if what == "input":
        do = (
            f"scale them, X / {high:g}, or elbo(likelihood='gaussian')"
            if low >= 0
            else "scale them to [0, 1]"
        )
    elif (low, high) == (-1.0, 1.0):
        do = "(y + 1) / 2 makes 0 and 1 of signs, 'hinge' takes them as they are"
    else:
        do = "take 'squared_error' for numbers, 'cross_entropy' for classes"
    raise DataError(
        f"{part} {what}, row {row} (counted from 0): {value:g}{_told(count)} outside [0, 1]: {name} wants "
        f"0 to 1, for others it falls without end; {do}"
    )
