"""Data alone becomes a problem: what it is decides model, objective, metric and recipe, and this is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.edits import StandardiseInputs, StandardiseTargets
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.samples import first_input
from downslope.core.sources import Memory, read_path

Chosen = tuple[Problem, Recipe, list[str]]


def chosen(reference: str, target: str | None) -> Chosen:
    """A problem and a recipe for a file, a folder, or a standard set by name, and what was decided.

    Raises:
        DataError: it cannot be read, or its target has one value only.
    """
    data = read_path(reference, target)
    file = Path(reference).name
    title = reference if reference in names.TABLE["data"] else Path(reference).name.partition(".")[0]
    task = reference if target is None else f"{reference}:{target}"
    lines = list(data.told) or [f"{reference}: bundled with scikit-learn"]
    if data.task == "language":
        return _of_text(data, title, task, lines)
    if len(data.classes) == 1:
        raise _constant(file, data.classes[0])
    _refuse_constant(data, file)
    if data.task == "regression":
        return _of_numbers(data, title, task, lines)
    return _of_classes(data, title, task, lines)


def _refuse_constant(data: Any, file: str) -> None:
    parts: list[Tensor] = [part.batch[1] for part in (data.train, data.valid) if isinstance(part, Memory)]
    targets = torch.cat([each.flatten() for each in parts]) if parts else torch.empty(0)
    if len(targets) > 1 and bool((targets == targets[0]).all()):
        first = targets[0].item()
        raise _constant(file, data.classes[int(first)] if data.classes else f"{first:g}")


def _constant(file: str, value: str) -> DataError:
    try:
        float(value)
    except ValueError:
        value = repr(value)
    return DataError(
        f"{file}: its target holds one value only, {value}: there is nothing to predict; take another "
        "column as the target"
    )


def _of_numbers(data: Any, title: str, task: str, lines: list[str]) -> Chosen:
    problem = Problem(
        model="mlp", objective="squared_error", train=data.train, valid=data.valid, metric="r2",
        arguments={"outputs": 1}, name=title, task=task,
    )  # fmt: skip
    problem = problem.edit(StandardiseInputs(), StandardiseTargets())
    recipe = Recipe(optimizer="adam", lr=1e-3, batch_size=64, epochs=50, patience=10)
    said = "regression: model mlp, objective squared_error, metric r2, inputs and targets standardised"
    return problem, recipe, [*lines, said, str(recipe)]


def _of_classes(data: Any, title: str, task: str, lines: list[str]) -> Chosen:
    problem = Problem(
        model="mlp", objective="cross_entropy", train=data.train, valid=data.valid, metric="accuracy",
        arguments={"outputs": len(data.classes)}, name=title, task=task,
    )  # fmt: skip
    recipe = Recipe(optimizer="adam", lr=1e-3, batch_size=64, epochs=50, patience=10)
    x = first_input(problem)
    if x.dim() == 4 and min(x.shape[2:]) >= 4:  # what two halvings leave of smaller images is nothing
        problem = problem.edit(model="cnn")
        recipe = Recipe(optimizer="adam", lr=1e-3, batch_size=128, epochs=10, patience=3)
    scaled = ""
    if x.is_floating_point():
        problem, scaled = problem.edit(StandardiseInputs()), ", inputs standardised"
    said = f"classification: model {problem.model}, objective cross_entropy, metric accuracy{scaled}"
    return problem, recipe, [*lines, said, str(recipe)]


def _of_text(data: Any, title: str, task: str, lines: list[str]) -> Chosen:
    """A small GPT by nanoGPT's recipe for a CPU (Karpathy, config/train_shakespeare_char.py and README)."""
    problem = Problem(
        model="gpt", objective="cross_entropy", train=data.train, valid=data.valid, name=title, task=task
    )
    recipe = Recipe(
        optimizer="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, clip_norm=1.0, batch_size=12,
        steps=2000, schedule="cosine(final=0.1)", warmup=100,
    )  # fmt: skip
    said = "next-token prediction: model gpt, objective cross_entropy, measured by the same on held-out text"
    return problem, recipe, [*lines, said, str(recipe)]
