"""What `fit` records of data, output and objective before its first step, so that a run can be judged later.

It costs no forward pass of its own: the output is that of the pass by which `fit` tries the first batch. A
stream is not read for it. What needs more is measured by a diagnosis that has the problem at hand.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.growth import SUM, growth
from downslope.core.loss import Loss, Objective
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.training.facts import constant, data, output, record

_log = logging.getLogger("downslope")

Nodes = list[tuple[str, Any]]

STREAMED = "fit takes steps on a stream, and does not read it for anything else; give the problem"
SUMMED = "the objective is a sum over a batch, whose size then counts; give the problem"


@contextmanager
def nodes(model: nn.Module) -> Generator[Nodes]:
    """A block in which the graph node is kept by which every activation of `model` made its output."""
    seen: Nodes = []
    handles = [
        module.register_forward_hook(output.node_hook(name, seen))
        for name, module in named_modules(unwrap(model))
        if not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def record_start(run: Run, problem: Problem, recipe: Recipe, batch: Any, loss: Loss, seen: Nodes) -> None:
    """Put output, data, features and constant prediction into ``run.facts``.

    Args:
        run: Whose facts they are.
        problem: Known to hold finite data only, where it is in memory.
        recipe: Its seed is that of what objectives draw.
        batch: The first batch.
        loss: What model and objective made of it.
        seen: From `nodes`.
    """
    with randomness.seeded(recipe.seed, "probe", 0):
        _record(run, problem, recipe, batch, loss, seen)


def _record(run: Run, problem: Problem, recipe: Recipe, batch: Any, loss: Loss, seen: Nodes) -> None:
    try:
        problem = problem.edit(objective=copy.deepcopy(problem.objective))  # it may count its calls
    except Exception:  # noqa: BLE001 (any object may refuse to be copied)
        run.facts["not_measured"] = {"constant": "the objective cannot be copied"}
        return
    args, kwargs, _ = problem.splitter(batch)
    given = args or (kwargs,)
    found = record(run, "output", lambda: _output(problem, loss, given, seen))
    if found is not None and "outside" in found:
        _log.warning(
            "the targets lie between %g and %g, and %s wants 0 to 1: for others it falls without end",
            found["outside"]["low"], found["outside"]["high"], found["objective"],
        )  # fmt: skip
    missing: dict[str, str] = run.facts.setdefault("not_measured", {})
    if not isinstance(problem.train_source, Memory):
        missing |= dict.fromkeys(("data", "features", "constant"), STREAMED)
    else:
        record(run, "data", lambda: data.measure(problem, finite=True))
        record(run, "features", lambda: data.features(problem))
        made = loss.output
        rows = isinstance(made, Tensor) and made.dim() > 0 and len(made) == batches.length(batch)
        if rows and _sums(problem, made, loss.target, given):
            missing["constant"] = SUMMED
        elif rows and problem.objective is not None:
            like = made[0].detach().cpu()
            record(run, "constant", lambda: constant.measure(problem, recipe, like))
    if not missing:
        del run.facts["not_measured"]


def _output(problem: Problem, loss: Loss, args: tuple[Any, ...], seen: Nodes) -> dict[str, Any]:
    """Of the first batch; only the targets of a larger sample say what lies beyond the output's range."""
    found = output.of_call(problem, loss.output, loss.target, args, seen)
    source = problem.train_source
    if isinstance(source, Memory) and "clipped" in found:
        target = output.as_trained(problem, problem.splitter(source.batch)[2])
        found["clipped"] = output.clipped(found["activation"], target)
    return found


def _sums(problem: Problem, made: Tensor, target: Any, args: tuple[Any, ...]) -> bool:
    with torch.no_grad():
        return (growth(Objective(problem), made.detach(), target, args) or 1.0) >= SUM
