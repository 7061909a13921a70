"""The parts of a problem before its last model: whether held-out data was prepared as training data was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import precision
from downslope.core.loss import Objective
from downslope.core.outputs import judged
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.diagnosis.gap import gap, unmeasured
from downslope.diagnosis.measure.shift import GAP, Answers, Part, chunks, compare, first_changed

ROWS = 1024
"""Examples of each part that are looked at, at most."""

CLASSES = ("logits", "log-probabilities", "probabilities")
"""What objectives expect whose outputs have a number for each class."""

MIDDLES = {"logit": 0.0, "probability": 0.5}
"""Of what objectives expect for a yes or no, the output above which it is a yes."""


def measure(run: Run, problem: Problem, train: Memory, valid: Memory | None) -> dict[str, Any] | None:
    """What `shift.compare` tells of the last model of `run`; None without held-out data.

    Args:
        run: Finished, with the facts ``ending``, ``constant`` and, where known, ``output``.
        problem: Whose objective counts.
        train: Training examples.
        valid: Held-out examples, or None.
    """
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    if valid is None or ending.get("valid_loss") is None or ending.get("train_loss") is None:
        return None
    if constant.get("valid_loss") is None or unmeasured(run, ending) is not None:
        return None
    missing, _ = gap(run, ending, constant)
    if missing < GAP:  # nothing to explain
        return {"learnt": True, "missing": missing, "n": ending.get("valid_n")}
    model = run.model("last")
    output: Mapping[str, Any] = run.facts.get("output") or {}
    expects: str | None = output.get("expects")
    sign = -1.0 if problem.maximize else 1.0
    heads = [
        batches.to(each.head(ROWS), torch.device("cpu"), precision(unwrap(model))) for each in (train, valid)
    ]
    one, two = (_part(problem, model, each) for each in heads)
    mixed = torch.randperm(len(two.inputs), generator=torch.Generator().manual_seed(0))
    halves = [
        _part(problem, model, batches.map_tensors(lambda leaf, i=i: leaf[mixed[i::2]], heads[1]))
        for i in (0, 1)
    ]
    return compare(
        one, two, sign * float(constant["valid_loss"]), expects in CLASSES,
        middle=MIDDLES.get(str(expects)), halves=(halves[0], halves[1]),
    )  # fmt: skip


def _part(problem: Problem, model: nn.Module, batch: Any) -> Part:
    """The part as the model is handed it; losses that are to be raised are taken negative."""
    plain = Objective(problem)
    args, kwargs, target = plain.split(batch)
    inputs = batches.tensors((args, kwargs))[0]

    def answer(change: Callable[[Tensor], Tensor] | None) -> Answers:
        objective = plain if change is None else _behind(plain, change)
        losses: list[float] = []
        outputs: list[Tensor] = []
        was = model.training
        model.eval()
        with torch.no_grad():
            for start, end in chunks(len(inputs)):
                made = objective.raw(
                    model, batches.map_tensors(lambda leaf, a=start, b=end: leaf[a:b], batch)
                )
                losses.append(float(made.value))
                outputs += judged(made.output)[:1]
        model.train(was)
        return Answers(torch.tensor(losses, dtype=torch.float64), torch.cat(outputs) if outputs else None)

    return Part(inputs, target if isinstance(target, Tensor) else None, answer)


def _behind(objective: Objective, change: Callable[[Tensor], Tensor]) -> Objective:
    """The objective of a model whose inputs are changed before."""
    made, split = copy.copy(objective), objective.split

    def changed(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        args, kwargs, target = split(batch)
        return (*first_changed(change, (args, kwargs)), target)

    made.split = changed
    return made
