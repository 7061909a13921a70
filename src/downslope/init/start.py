"""The start of a run: a freshly built model initialised as its recipe says, the data at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    init: str | Mapping[str, Any],
    problem: Problem,
    seed: int = 0,
    *,
    modules: Sequence[str] = (),
) -> None:
    """Initialise a model that `problem` has just built, from torch's own stream.

    Data is read only by an initialisation that looks at it.

    Args:
        model: On the CPU.
        init: A name, or a table of name and settings.
        problem: Gives the examples; "mup" asks it for the model of the base width.
        seed: Which examples.
        modules: Qualified names in the user's model; left out, all.

    Raises:
        InputError: what `initialise` raises.
    """
    init = starts.read(init)
    if not isinstance(init, str) and isinstance(init.get("base"), Mapping):
        arguments = {f"model.{key}": value for key, value in init["base"].items()}
        init = {**init, "base": problem.edit(**arguments).build(weights=False)}
    initialise(
        unwrap(model) if modules else model,
        init,
        batch=looked_at(model, problem, seed),
        modules=modules,
    )


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
