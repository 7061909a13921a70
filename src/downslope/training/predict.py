"""What a trained model says of new examples, by what its run has kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import batches, names
from downslope.core.adapted import unwrap
from downslope.core.edits import from_dict
from downslope.core.errors import DataError, DownslopeError, ModelError
from downslope.core.problem import Problem
from downslope.core.run import Run, Which
from downslope.core.sources import as_source
from downslope.data.again import New, read_again
from downslope.data.text_file import decoded, tokens_like
from downslope.data.windows import Windows
from downslope.training.answers import answers, read


class Prediction(NamedTuple):
    """What the model says, example by example."""

    values: list[Any]
    """The likeliest class by its name, or by its index where no name is known; of a regression the number. Of
    several outputs a dict or tuple of these."""
    probabilities: Tensor | None
    """Shape (n, classes); None where the objective gives none."""
    output: Any
    """What the model returned, batches joined, as far as it is example by example: the tensor; `logits` of
    an object; a dict or tuple of several."""
    classes: list[str]
    """What each class index stands for; empty where nobody knows."""
    places: list[str]
    """The line, row or file of each example."""
    unit: str
    """What `places` are."""
    told: tuple[str, ...]
    """What was left out, one sentence each."""


def predict(run: Run, data: Any, which: Which | None = None) -> Prediction:
    """What the trained model of `run` says of `data`; see `Run.predict`."""
    reading = _reading(run)
    if isinstance(data, (str, Path)):
        if reading.get("kind") == "text":
            raise DataError("a run on text continues one: run.continued(prompt)")
        new = read_again(data, reading | {"filled": _fills(run)})
    else:
        inputs = _inputs(data, reading)
        new = New(inputs, [str(i) for i in range(batches.length(inputs, "data"))], "row")
    model, problem = _model(run, which)
    output, left = answers(model, new.inputs, problem.objective)
    classes = cast("list[str]", reading.get("classes") or [])
    values, probabilities = read(output, problem, classes)
    told = (*new.told, *([left] if left else []))
    return Prediction(values, probabilities, output, classes, list(new.places), new.unit, told)


def continued(
    run: Run, prompt: str, count: int, *, temperature: float, seed: int, which: Which | None
) -> str:
    """`count` tokens that a language model writes after `prompt`; see `Run.continued`."""
    reading = _reading(run)
    if reading.get("kind") != "text":
        raise DataError("this run was not trained on text; run.predict(data) tells of new examples")
    tokens = tokens_like(prompt.encode(), str(reading["vocabulary"]), "the prompt")
    if not len(tokens):
        raise DataError("the prompt is empty: give at least one character to begin with")
    model, _ = _model(run, which)
    writer: Any = getattr(unwrap(model), "generate", None)
    if writer is None:
        raise ModelError(f"{type(unwrap(model)).__name__} has no generate(x, count): 'gpt' has")
    draw = torch.Generator().manual_seed(seed)
    found = cast("Tensor", writer(tokens.long()[None], count, temperature=temperature, generator=draw))
    return decoded(found[0], reading)


def _reading(run: Run) -> dict[str, Any]:
    found = run.problem.reading if run.problem is not None else run.described.get("data")
    return cast("dict[str, Any]", found or {})


def _fills(run: Run) -> bool:
    """Whether the model fills in what is missing."""
    described = run.problem.describe() if run.problem is not None else run.described
    return any(edit.get("kind") == "fill-inputs" for edit in described.get("edits", ()))


def _model(run: Run, which: Which | None) -> tuple[nn.Module, Problem]:
    """The model, built without the training data where what the run has kept is enough."""
    if run.problem is None and "data" in run.described:
        try:
            stand_in = replace(run, problem=_stand_in(run.described))
            return stand_in.model(which), stand_in.the_problem()
        except (DownslopeError, KeyError, TypeError):
            pass  # code that no file holds, or a scale whose shape hangs on the data: then the data is read
    return run.model(which), run.the_problem()


def _stand_in(described: dict[str, Any]) -> Problem:
    """The problem with data of the same shapes in the place of its own, which only told sizes."""
    reading = described["data"]
    if reading.get("kind") == "text":
        size = len(reading["vocabulary"]) or 256
        train: Any = Windows(torch.arange(4 * reading["block"] + 1) % size, reading["block"], size, reading)
    else:
        shape, kind, target_shape, target_kind = reading["example"]
        count = max(2, len(reading.get("classes") or ()))
        target = torch.zeros(count, *target_shape, dtype=getattr(torch, target_kind))
        if not target_shape and not target.is_floating_point():
            target = torch.arange(count)
        train = (torch.zeros(count, *shape, dtype=getattr(torch, kind)), target)
    problem = Problem(
        model=described["model"] if ":" not in described["model"] else names.load(described["model"]),
        objective=described["objective"], train=train, arguments=described["arguments"],
    )  # fmt: skip
    return problem.edit(*(from_dict(each) for each in described.get("edits", ())))


def _inputs(data: Any, reading: dict[str, Any]) -> Any:
    """One tensor, or several in a tuple or dict."""
    if isinstance(data, list) and not any(hasattr(each, "__array__") for each in batches.leaves(data)):
        data = np.array(cast("list[Any]", data))  # rows of numbers, and not several inputs
    inputs: Any = getattr(as_source(data, "data"), "batch", None)
    found = batches.tensors(inputs)
    if not found:
        raise DataError(
            "data: give the inputs alone, a tensor or array with the examples on axis 0, or a tuple or dict "
            "of them"
        )
    if "example" in reading and len(found) == 1:
        shape = tuple(cast("list[int]", reading["example"][0]))
        if tuple(found[0].shape[1:]) != shape:
            raise DataError(
                f"data: examples of shape {tuple(found[0].shape[1:])}, those of training have {shape}; one "
                "example alone still needs the axis of the examples"
            )
    return inputs[0] if isinstance(inputs, tuple) and len(cast("tuple[Any]", inputs)) == 1 else inputs
