"""Linear probes: how well each layer's output can be read by a linear model (Alain and Bengio 2016)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import batches, names
from downslope.core.errors import DataError, InputError, ModelError
from downslope.core.fixed_sample import sample
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.training.evaluate import evaluate
from downslope.training.layer_outputs import Reducer, collect, convolves_along_steps, layers_of, modules_of
from downslope.training.linear_reader import Reader

RESAMPLES = 200
"""Bootstrap samples for a standard error, whose own relative error is then 5 %."""


@dataclass(frozen=True)
class LayerProbe:
    """A linear model on the output of one layer."""

    name: str
    """Qualified name; "input" is the input itself, "" the model."""
    kind: str
    """Class of the module."""
    shape: tuple[int, ...]
    """Shape of its output for one example."""
    features: int
    """Numbers that the linear model saw of it."""
    train: float
    """The metric on the examples that it was fitted to."""
    valid: float
    """The metric on validation examples."""
    stderr: float
    """Standard error of `valid`, by bootstrap over the validation examples."""


@dataclass(frozen=True)
class LayerProbes:
    """Probes in the order of the layers; printed they are a table."""

    rows: tuple[LayerProbe, ...]
    metric: str
    """Name of the metric."""
    own: float
    """The model's own value of the metric on the same validation examples; NaN where it cannot read it."""
    n: int
    """Validation examples."""

    def __iter__(self) -> Iterator[LayerProbe]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> LayerProbe:
        """The probe of the layer called so."""
        for row in self.rows:
            if row.name == name:
                return row
        known = [row.name for row in self.rows]
        raise KeyError(f"no layer {name!r} was probed{names.did_you_mean(name, known)}")

    def __str__(self) -> str:
        head = ("layer", "", "output", "features", "train", "valid")
        table = [head, *(_line(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
        own = f"{self.metric} {self.own:.4g}"
        if math.isnan(self.own):
            own = f"gives no output that {self.metric} reads,"
        return "\n".join([*lines, f"the model itself: {own} on {self.n} examples"])


def probe_layers(
    problem: Problem,
    model: nn.Module,
    *,
    layers: str | Sequence[str] | None = None,
    examples: int = 5000,
    features: int = 1024,
    l2: float = 1e-3,
) -> LayerProbes:
    """Fit a linear model to the output of every layer of `model`, and judge it by the problem's metric.

    The model itself does not change: it is a row of functions, f(g(k(x))), and the probe asks at which of
    them a linear last layer would do. For classes softmax regression (logistic for two), for numbers ridge
    regression: ``min_w mean loss(w . phi(x), y) + l2 / 2 |w|^2`` on standardised features phi, biases free.
    Outputs with many pixels or steps are averaged over as fine a grid as keeps them within `features`; what
    is wider still is hashed into so many sums with random signs.

    Args:
        problem: its training part fits the probes, its validation part judges them, by its metric; without
            one by accuracy, or R^2.
        model: trained or not; any module that takes the problem's inputs. Modes and gradients stay.
        layers: names or patterns (``"blocks.*"``); None takes every leaf, but a block that occurs more than
            once as a whole.
        examples: at most so many of each part, a fixed sample; at least 2.
        features: numbers of an output that a probe sees, at least 1.
        l2: penalty, float in (0, inf).

    Returns:
        A row for the input, where it is numbers, and one for each layer, in the order of definition.

    Raises:
        DataError: no validation part, a target that is no single tensor, or several labels an example.
        ModelError: no module fits `layers`, or the model cannot take the data.
        InputError: an argument outside its domain.

    Memory: 256 MiB of features at most, beside two copies of the layer that is being fitted.
    """
    for what, given, least in (("examples", examples, 2), ("features", features, 1)):
        if given < least:
            raise InputError(f"{what}={given}: must be a whole number of at least {least}")
    if not 0 < l2 < math.inf:
        raise InputError(f"l2={l2}: must be positive, it keeps the probes' weights finite; 1e-3 is usual")
    if problem.valid_source is None:
        raise DataError("probe_layers judges on validation data, and the problem has none: give valid=(X, y)")
    train, valid = (sample(each, examples, None) for each in (problem.train_source, problem.valid_source))
    reader = Reader.of(problem, _target(problem, train), l2)
    target, truth = (reader.rows(_target(problem, each)) for each in (train, valid))
    reduce = Reducer(features, channels_first=convolves_along_steps(model), per_step=reader.per_step)
    modules = modules_of(model)
    chosen = ["input", *layers_of(model, layers)]
    found = (collect(model, problem.splitter, each, chosen, reduce) for each in (train, valid))
    rows: list[LayerProbe] = []
    for (name, seen), (_, unseen) in zip(*found, strict=True):
        if len(seen.values) != len(target):
            continue  # behind the read-out of a whole sequence, or over the batch
        scores = reader.fit(seen.values, target)
        on_train, on_valid = scores(seen.values), scores(unseen.values)
        value, stderr = _bootstrapped(reader.metric, on_valid, truth)
        kind = type(modules[name]).__name__ if name in modules else ""
        wide = seen.values.shape[1]
        rows.append(LayerProbe(name, kind, seen.shape, wide, reader.metric(on_train, target), value, stderr))
    if not rows:
        raise ModelError(
            "no layer gave a floating tensor with a row for each example: name others by layers="
        )
    own = _own(problem.edit(metric=reader.metric), model, Memory(valid))
    return LayerProbes(tuple(rows), reader.metric_name, own, len(truth))


def _own(problem: Problem, model: nn.Module, valid: Memory) -> float:
    """The metric of the model's own output; NaN of an output that only an own objective can read."""
    try:
        own = evaluate(problem, model, valid).metric
    except InputError:
        return math.nan
    return math.nan if own is None else own


def _target(problem: Problem, batch: Any) -> Tensor:
    found = batches.tensors(problem.splitter(batch)[2])
    if len(found) != 1:
        raise DataError("probe_layers reads one target tensor: give a split=batch -> (args, kwargs, target)")
    return found[0]


def _bootstrapped(metric: Any, scores: Tensor, truth: Tensor) -> tuple[float, float]:
    """The metric, and its standard deviation over resampled examples."""
    draw = torch.Generator().manual_seed(0)
    values: list[float] = []
    for _ in range(RESAMPLES):
        again = torch.randint(len(truth), (len(truth),), generator=draw)
        try:
            values.append(float(metric(scores[again], truth[again])))
        except InputError:  # a resample may lack a class
            continue
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(metric(scores, truth)), spread


def _line(row: LayerProbe) -> tuple[str, ...]:
    shape = " x ".join(map(str, row.shape)) or "1"
    valid = f"{row.valid:.4g} +- {row.stderr:.2g}"
    return row.name or "(model)", row.kind, shape, str(row.features), f"{row.train:.4g}", valid
