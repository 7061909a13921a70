"""What is reachable in as many steps: the same model under sound conditions, and a plain network of ours.

A reference is no proof of a cause; it only says whether a run ended far from what can be had, and so opens or
shuts the gate for alarms about the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.edits import Combined, Edit, SetRecipe, Shuffle, StandardiseInputs, StandardiseTargets
from downslope.core.fixed_sample import Held, sample
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.trials import Scores, attempt
from downslope.models.mlp import mlp

SORTED = 0.3
"""Share of the targets' variance between batches, beyond chance, from which data counts as sorted
(`symptoms.unshuffled_data`)."""

WIDEST = 4096
"""Inputs of one example beyond which no plain network is tried beside the model."""

_SOUND: dict[str, Any] = {
    "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": None, "warmup": None,
    "clip_norm": None, "clip_value": None, "groups": (),
}  # fmt: skip
_ENDS: dict[str, Any] = {
    "probability": nn.Sigmoid, "probabilities": lambda: nn.Softmax(1),
    "log-probabilities": lambda: nn.LogSoftmax(1),
}  # fmt: skip


def references(run: Run, problem: Problem, recipe: Recipe) -> Iterator[tuple[str, Problem, Recipe, Edit]]:
    """Name, problem, recipe and edit of each reference, the cheapest and most telling first."""
    plain = _plain(run, problem)
    scaled = [*_shuffled(run), *_scaled(run)]
    if plain is not None:
        edit = Combined((SetRecipe(_SOUND | {"lr": 3e-3}), *scaled))
        yield "a plain network under Adam on standardised data", plain, recipe, edit
    sound = Combined((SetRecipe(_SOUND), *scaled))
    yield "the same model under Adam on standardised data", problem, recipe, sound


def reach(
    run: Run,
    name: str,
    problem: Problem,
    recipe: Recipe,
    edit: Edit,
    held: Held,
    seconds: float | None = None,
) -> Scores:
    """Train one reference and note in ``run.facts["references"]`` what it reached, where `seconds` lasted."""
    found = attempt(problem, recipe, edit, None, held, seconds) | {"what": name}
    if found.get("status") != "cut":
        run.facts.setdefault("references", []).append(found)
    return found


def _shuffled(run: Run) -> list[Edit]:
    """A sound order: what two runs reach that both forget batch after batch is not what can be reached."""
    order: Mapping[str, Any] = run.facts.get("order") or {}
    return [Shuffle()] if order and order["explained"] - order["expected"] >= SORTED else []


def _scaled(run: Run) -> list[Edit]:
    edits: list[Edit] = []
    data: Mapping[str, Any] = run.facts.get("data") or {}
    dtype = str(data.get("dtype", ""))
    if run.facts.get("features") and dtype.startswith("float"):
        edits.append(StandardiseInputs())
    target: Mapping[str, Any] = data.get("target") or {}
    expects = (run.facts.get("output") or {}).get("expects")
    measured = str(target.get("dtype", "")).startswith("float")
    if target.get("kind") == "real" and expects == "real" and measured:
        edits.append(StandardiseTargets())
    return edits


def _again(inputs: Tensor, target: Any) -> bool:
    """Whether what is wanted are the inputs themselves."""
    return (
        isinstance(target, Tensor)
        and target.numel() == inputs.numel()
        and torch.equal(target.flatten().double(), inputs.flatten().double())
    )


def _plain(run: Run, problem: Problem) -> Problem | None:
    """The problem with two hidden layers of 64 in the place of its model; None if that cannot be.

    Nor is it a measure of an autoencoder, whose narrow layer is meant: who copies needs none.
    """
    output: Mapping[str, Any] = run.facts.get("output") or {}
    if output.get("expects") is None or output.get("tensors") != 1 or problem.split is not None:
        return None
    args, kwargs, target = problem.splitter(sample(problem.train_source, 2))
    inputs = batches.tensors((args, kwargs))
    if len(args) != 1 or kwargs or len(inputs) != 1 or not inputs[0].is_floating_point():
        return None
    if _again(inputs[0], target):
        return None
    width = inputs[0][0].numel()
    shape: tuple[int, ...] = tuple(output["shape"])
    units = 1
    for each in shape:
        units *= each
    if width > WIDEST or units > WIDEST:
        return None

    def make() -> nn.Module:
        layers: list[nn.Module] = [mlp(width, units), nn.Unflatten(1, shape) if shape else nn.Flatten(0)]
        end = _ENDS.get(output["expects"])
        return nn.Sequential(*layers, *([end()] if end else []))

    with torch.no_grad():
        make()(inputs[0])
    return problem.edit(model=make, arguments={})
