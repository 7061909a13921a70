"""Outputs of a trained model on new inputs, and what they say of each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.errors import DownslopeError, ModelError, told
from downslope.core.feeding import fed
from downslope.core.outputs import by_example, logits, takes_tensor
from downslope.core.part import part
from downslope.core.problem import Problem
from downslope.training.evaluate import BATCH, evaluating


def answers(model: nn.Module, inputs: Any, objective: Any) -> tuple[Any, str]:
    """What `model` returns of `inputs`, batches joined, as far as it is example by example; what is left out.

    Args:
        model: In any mode.
        inputs: A tensor, or a tuple or dict of them.
        objective: Of the problem; one that reads `logits` has them stand for the whole of an output.

    Raises:
        ModelError: the model does not take these inputs, or returns nothing that is example by example.
    """
    try:
        with evaluating(model):
            whole, beside = _returned(model, inputs, objective)
    except DownslopeError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(each.shape)) for each in batches.tensors(inputs))
        raise ModelError(f"the model does not take inputs of shape {shapes}: {told(error)}") from error
    if isinstance(whole, Tensor):
        return whole, ""
    found = by_example(whole, batches.length(inputs, "data"), beside)
    shapes = ", ".join(str(each) for each in found.left_out)
    if found.output is None:
        what = f"returns tensors of shapes {shapes}" if shapes else f"returns {type(whole).__name__}"
        raise ModelError(f"the model {what}: none has the examples on its first axis; return one that does")
    several = len(found.left_out) > 1
    left = f"{len(found.left_out)} output{'s' if several else ''} of shape{'s' if several else ''} {shapes}"
    return found.output, f"left out, not example by example: {left}" if shapes else ""


def _returned(model: nn.Module, inputs: Any, objective: Any) -> tuple[Any, tuple[Any, int] | None]:
    """The output of all examples; of several tensors another one besides, of the first example some times.

    By that other number a dimension of examples is known from one that is as long by chance.
    """
    kind = next(model.parameters()).dtype
    one = isinstance(inputs, Tensor)

    def made(leaf: Tensor) -> Tensor:
        small = one and leaf.dtype in (torch.uint8, torch.bool)  # a mask beside other inputs stays one
        return leaf.to(kind) if leaf.is_floating_point() or small else leaf

    def called(some: Any) -> Any:
        args, kwargs = fed(model, some)
        return _standing(model(*args, **kwargs), objective)

    inputs = batches.map_tensors(made, inputs)
    parts: list[Any] = []
    sizes: list[int] = []
    for some in batches.slices(inputs, BATCH):
        parts.append(called(some))
        sizes.append(batches.length(some))
    whole = batches.join(parts, sizes)
    if isinstance(whole, Tensor):
        return whole, None
    count = 3 if sum(sizes) == 2 else 2
    again = batches.map_tensors(lambda leaf: leaf[:1].expand(count, *leaf.shape[1:]).contiguous(), inputs)
    return whole, (called(again), count)


def _standing(output: Any, objective: Any) -> Any:
    """The logits where they stand for the whole: in an object, or where objective or model reads them so."""
    one = logits(output)
    if one is None or hasattr(_inner(objective), "tasks"):
        return output
    return one if type(output) is not dict or objective is None or takes_tensor(objective) else output


def read(output: Any, problem: Problem, classes: list[str]) -> tuple[list[Any], Tensor | None]:
    """Values and probabilities, by what the objective expects of an output.

    Args:
        output: As `answers` gives it.
        problem: Of the run.
        classes: What each class index stands for, where that is known.
    """
    own = _inner(problem.objective)
    if isinstance(output, Tensor):
        expects = _of_labels(output, problem) if own is None else _expected(own)
        return _values(output, expects, classes)
    if tasks := cast("Mapping[str, Any]", getattr(own, "tasks", {})):
        made = {task: _part(output, task, tuple(tasks)) for task in tasks}
        said = {task: _each(own, _expected(tasks[task])) for task, own in made.items() if own is not None}
        return _rows(said), None
    return _each(output, None), None


def _inner(objective: Any) -> Any:
    """The objective without its penalties."""
    return objective if isinstance(objective, nn.Module) else getattr(objective, "objective", objective)


def _part(output: Any, task: str, tasks: Sequence[str]) -> Any:
    try:
        return part(output, task, tasks, "output")
    except DownslopeError:
        return None


def _each(output: Any, expects: str | None) -> list[Any]:
    """The values of every example, of an output of any form."""
    if isinstance(output, Tensor):
        return _values(output, expects, [])[0]
    if isinstance(output, Mapping):
        return _rows(
            {str(key): _each(each, expects) for key, each in cast("Mapping[Any, Any]", output).items()}
        )
    return list(zip(*(_each(each, expects) for each in cast("Sequence[Any]", output)), strict=True))


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Any]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _expected(objective: Any) -> str | None:
    return "logits" if isinstance(objective, nn.CrossEntropyLoss) else getattr(objective, "expects", None)


def _of_labels(output: Tensor, problem: Problem) -> str | None:
    """What the logits of a model with its own loss are of: classes, where the labels are their numbers."""
    target = problem.splitter(next(iter(problem.train_source.stored(2))))[2]
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dim() != 1:
        return None
    return "logits" if output.dim() == 2 and output.shape[1] > 1 else None


def _values(output: Tensor, expects: str | None, classes: list[str]) -> tuple[list[Any], Tensor | None]:
    rows = output.reshape(len(output), -1) if output.dim() < 3 else output
    if expects == "logit" or (expects == "probability" and rows.shape[1:] == (1,)):
        yes = rows.sigmoid() if expects == "logit" else rows
        rows = torch.cat([1 - yes, yes], dim=1) if yes.shape[1] == 1 else yes
    elif expects == "logits" and rows.dim() == 2:
        rows = rows.double().softmax(1).to(output.dtype)
    elif expects == "log-probabilities" and rows.dim() == 2:
        rows = rows.exp()
    elif expects != "probabilities":
        return cast(
            "list[Any]", output.squeeze(1).tolist() if output.shape[1:] == (1,) else output.tolist()
        ), None
    if rows.dim() != 2:
        return cast("list[Any]", rows.argmax(-1).tolist()), rows
    likeliest = cast("list[int]", rows.argmax(1).tolist())
    return [classes[i] if classes else i for i in likeliest], rows
