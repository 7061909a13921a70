"""The start of a run: a freshly built model initialised as its recipe says, the data at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from downslope.core import batches, starts
from downslope.core.adapted import unwrap
from downslope.core.batches import Parts
from downslope.core.errors import DataError
from downslope.core.samples import examples
from downslope.init.initialise import initialise

if TYPE_CHECKING:
    from downslope.core.problem import Problem


def start(
    model: nn.Module,
    init: starts.Init,
    problem: Problem,
    seed: int = 0,
    *,
    modules: Sequence[str] = (),
) -> None:
    """Initialise a model that `problem` has just built, from torch's own stream.

    Data is read only by an initialisation that looks at it.

    Args:
        model: On the CPU.
        init: A name, a table of name and settings, or a function of the user's own.
        problem: Gives the examples; "mup" asks it for the model of the base width.
        seed: Which examples.
        modules: Qualified names in the user's model; left out, all.

    Raises:
        InputError: what `initialise` raises.
    """
    initialise(
        unwrap(model) if modules else model,
        _with_base(starts.read(init), problem),
        batch=looked_at(model, problem, seed),
        modules=modules,
    )


def _with_base(init: starts.Init, problem: Problem) -> starts.Init:
    """`init`, the base width of muP as the model of that width."""
    table = cast("dict[str, Any]", init) if isinstance(init, dict) else {}
    if not isinstance(table.get("base"), Mapping):
        return init
    arguments = {f"model.{key}": value for key, value in table["base"].items()}
    return {**table, "base": problem.edit(**arguments).build(weights=False)}


def looked_at(model: nn.Module, problem: Problem, seed: int) -> Callable[[int], Parts]:
    """``count -> batch``: examples of the problem as its model is called on them."""

    def batch(count: int) -> Parts:
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        try:
            drawn = examples(problem, count, seed)
        except StopIteration:
            raise DataError("the training data gave no batch: it is empty") from None
        return Parts(*problem.splitter(batches.to(drawn, torch.device("cpu"), dtype)))

    return batch
