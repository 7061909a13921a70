"""From a problem and a model to the ground it stands on: a copy, frozen so that there is one function."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from downslope.core import batches
from downslope.core.errors import InputError
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.core.sources import Memory, Source
from downslope.terrain.ground.ground import ModelGround
from downslope.terrain.ground.parts import Piece, Streamed, Weighing, affordable
from downslope.terrain.surveys.kinks import kinks

EXAMPLES = 1024
"""Examples on which the terrain is measured unless told otherwise."""

ROWS = 1024
"""Examples of a piece, where it cannot be told how much memory each takes."""

HEAD = 64
"""Examples on which it is seen what each takes, and how pieces add up."""


def ground_of(
    problem: Problem,
    model: nn.Module | Run | None = None,
    *,
    examples: int | Literal["all"] = EXAMPLES,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> ModelGround:
    """The training loss of `problem` around `model`, in evaluation mode; the model itself is left alone.

    Args:
        problem: What is learnt; its training data may be in memory, a dataset, a DataLoader or a stream.
        model: Where to stand; a Run stands for its last model, None for the start of `seed`.
        examples: Training examples that the loss is taken over: a fixed draw of them (of a stream its first
            ones), or all, which are read piece by piece where the graph of all would not fit into `GRAPH`
            bytes; a stream without a length stands for its first 200 batches.
        dtype: Of weights and data; the model's own if left out.
        seed: Of the start, where no model is given.

    Returns:
        The ground; `notes` says what was frozen, how pieces add up where they do not as a mean, and whether
        the first examples stand at a kink.

    Raises:
        InputError: `examples` outside its domain.
    """
    if examples != "all" and (not isinstance(examples, int) or examples < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"examples={examples!r}: must be a number of examples, at least 1, or 'all'")
    given = problem.build(seed) if model is None else model.model("last") if isinstance(model, Run) else model
    notes = _frozen(given)
    held = copy.deepcopy(given).eval().to(dtype=dtype) if dtype else copy.deepcopy(given).eval()
    working = dtype or precision(held)
    device = next((p.device for p in held.parameters()), torch.device("cpu"))
    ground = ModelGround(held, Objective(problem), [], seed=seed)
    source = problem.train_source
    if examples != "all" or isinstance(source, Memory):
        source = Memory(sample(source, source.size or 1 if examples == "all" else examples, None))
    _lay(ground, source, device, working)
    ground.notes += notes
    return ground


def _lay(ground: ModelGround, source: Source, device: torch.device, dtype: torch.dtype) -> None:
    """Put the data under `ground`: whole where its graph fits, else streamed in pieces that do."""
    first = next(iter(source.stored(HEAD)), None)
    head = None if first is None else batches.to(first, device, dtype)
    if head is not None:
        _size(ground, head)
        few = batches.map_tensors(lambda leaf: leaf[: ground.chunk], head)
        ground.notes += filter(None, [kinks(lambda: ground.run(few)).told()])
    rows = ground.chunk or ROWS
    if isinstance(source, Memory) and source.size <= rows:
        ground.pieces = [Piece(batches.to(source.batch, device, dtype), 1.0)]
        return
    weighing = Weighing(ground.objective, ground.model)
    if head is not None:
        weighing.choose(lambda batch: float(ground.run(batch).risk.detach()), head)
    streamed = Streamed(source, rows, device, dtype, weighing)
    ground.pieces, ground.weighing = streamed, weighing
    if weighing.summed:
        ground.notes.append(f"the objective is a sum: the loss is that of all {streamed.examples} examples")
    if weighing.coupled:
        ground.notes.append(
            f"the objective couples its examples: the loss is the mean over pieces of {rows} of them"
        )
    if streamed.cut_short:
        ground.notes.append(f"the data tells no length: its first {streamed.examples} examples stand for it")


def _size(ground: ModelGround, head: Any) -> None:
    """How many examples are looked at together, by the memory that eight take; fewer where there is none."""
    try:
        ground.chunk = affordable(lambda batch: ground.run(batch).value, head)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        ground.cut_to(min(4, batches.length(head)))


def _frozen(model: nn.Module) -> list[str]:
    """What evaluation mode holds still."""
    notes: list[str] = []
    if any(isinstance(each, _DropoutNd) and each.training and each.p for each in model.modules()):
        notes.append("dropout is off: with it the loss would be another at every look")
    if any(isinstance(each, _BatchNorm) and each.training for each in model.modules()):
        notes.append("batch norm uses its running statistics, as in prediction")
    return notes
