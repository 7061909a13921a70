"""The objective that suits a target and the model's output: what one would train on if nothing were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run


def surrogate(run: Run) -> str | None:
    """Name of the objective that suits the target and the number of outputs; None where that is not plain.

    Class indices with an output each: cross-entropy, or its form for probabilities after a softmax. Zeros and
    ones with one output: the logistic loss, or its form after a sigmoid. Other numbers: squared error.
    """
    data: Mapping[str, Any] = run.facts.get("data") or {}
    output: Mapping[str, Any] = run.facts.get("output") or {}
    target: Mapping[str, Any] = data.get("target") or {}
    units, activation = output.get("units"), output.get("activation")
    if output.get("tensors") != 1 or not target:
        return None
    kind, highest = target.get("kind"), target.get("max") or 0
    if kind == "classes" and units and units > highest:
        return "categorical" if activation == "softmax" else "cross_entropy"
    if kind == "binary" and units == 1:
        return "bernoulli" if activation == "sigmoid" else "logistic"
    if kind == "binary" and units == 2:
        return "categorical" if activation == "softmax" else "cross_entropy"
    return "mse" if kind == "real" else None
