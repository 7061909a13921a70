"""From a problem and a model to the ground it stands on: a copy, frozen so that there is one function."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import nn

from downslope.core import batches
from downslope.core.errors import DataError, InputError
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.memory import out_of_memory
from downslope.core.modules import copied
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.core.sources import Memory, Source
from downslope.terrain.ground.frozen import held_still
from downslope.terrain.ground.ground import ModelGround
from downslope.terrain.ground.parts import Piece, Streamed, Weighing, affordable
from downslope.terrain.surveys.kinks import kinks

EXAMPLES = 1024
"""Examples on which the terrain is measured unless told otherwise."""

ROWS = 1024
"""Examples of a piece, where it cannot be told how much memory each takes."""

LOOKED = 64
"""Batches among which one is looked for in which something counts."""

HEAD = 64
"""Examples on which it is seen what each takes, and how pieces add up."""


def ground_of(
    problem: Problem,
    model: nn.Module | Run | None = None,
    *,
    examples: int | Literal["all"] = EXAMPLES,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    training: bool = False,
) -> ModelGround:
    """The training loss of `problem` around `model`; the model itself is left alone.

    Args:
        problem: What is learnt; its training data may be in memory, a dataset, a DataLoader or a stream.
        model: Where to stand; a Run stands for its last model, None for the start of `seed`.
        examples: Training examples that the loss is taken over: a fixed draw of them (of a stream its first
            ones), or all, which are read piece by piece where the graph of all would not fit into `GRAPH`
            bytes; a stream without a length stands for its first 200 batches.
        dtype: Of weights and data; the model's own if left out. What model and objective hold besides is
            widened to it where it is narrower.
        seed: Of the start, where no model is given, and of what the model draws.
        training: Whether in training mode, as steps see it: batch norm with the statistics of each piece,
            dropout with masks drawn once. Left out, in evaluation mode: running statistics, no dropout.

    Returns:
        The ground; `notes` says what was frozen, how pieces add up where they do not as a mean, and whether
        the first examples stand at a kink.

    Raises:
        InputError: `examples` outside its domain.
    """
    if examples != "all" and (not isinstance(examples, int) or examples < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"examples={examples!r}: must be a number of examples, at least 1, or 'all'")
    given = problem.build(seed) if model is None else model.model("last") if isinstance(model, Run) else model
    held = copied(given).train(training)
    held = held.to(dtype=dtype) if dtype else held
    working = dtype or precision(held)
    device = next((p.device for p in held.parameters()), torch.device("cpu"))
    ground = ModelGround(held, Objective(problem, dtype), [], seed=seed)
    source = problem.train_source
    if examples != "all" or isinstance(source, Memory):
        source = Memory(sample(source, source.size or 1 if examples == "all" else examples, None))
    _lay(ground, source, device, working)
    return ground


def _lay(ground: ModelGround, source: Source, device: torch.device, dtype: torch.dtype) -> None:
    """Put the data under `ground`: whole where its graph fits, else streamed in pieces that do."""
    first = _telling(source, Weighing(ground.objective, ground.model))
    head = None if first is None else batches.to(first, device, dtype)
    if head is not None:
        _size(ground, head)
        few = batches.map_tensors(lambda leaf: leaf[: ground.chunk], head)
        ground.notes += filter(None, [kinks(lambda: ground.run(few)).told()])
        ground.notes += held_still(ground, few)
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
    if weighing.coupled and streamed.count > 1:
        ground.notes.append(
            "the objective is no mean over its examples (it couples them, or weighs them by itself): the "
            f"loss is the mean over {streamed.count} pieces of {streamed.largest} of them"
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


def _telling(source: Source, weighing: Weighing) -> Any:
    """The first batch in which something counts, or else the first; None where there is none."""
    first = None
    for batch in itertools.islice(source.stored(HEAD), LOOKED):
        first = batch if first is None else first
        with suppress(DataError):  # not cut along a first dimension
            if not weighing.mass(batch):
                continue
        return batch
    return first
