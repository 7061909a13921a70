"""What makes a function an objective: its attributes, and the alignment that forbids silent broadcasting.

An objective is any ``(output, target) -> scalar tensor``, a mean over examples. The ones of this package
carry, besides, what they expect, what they stand for and what they sum over, so that a diagnosis can read
it. Nothing here looks at the values of a target, because that would stop a GPU at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError

Expects = Literal["real", "logit", "logits", "probability", "log-probabilities", "probabilities", "sign"]
"""What the model's output has to be: any number; one or several unnormalised scores; a number in [0, 1];
the logarithms, or the values, of probabilities over classes; a score of which only the sign decides."""

Target = Literal["class", "binary", "real", "probability"]
"""What the target has to be: class indices; 0 or 1; any number; probabilities over classes."""

Reduction = Literal["mean", "none"]
"""One number, the mean over examples; or the loss of each example, shape (n,), whose mean that number is."""

Kind = Literal["objective", "metric"]

Objective = Callable[..., Tensor]
F = TypeVar("F", bound=Callable[..., Tensor])


def objective(
    *,
    expects: Expects,
    target: Target,
    surrogate_for: str | None = None,
    sum_over: str | None = None,
    likelihood: str | None = None,
) -> Callable[[F], F]:
    """Mark a function as an objective; it stays the same function, with attributes.

    Args:
        expects: what the output has to be, kept as ``.expects``.
        target: what the target has to be, kept as ``.target``.
        surrogate_for: the quantity one would like to minimise but cannot differentiate; None where the
            objective is itself what one cares for.
        sum_over: the axis summed within an example ("classes"); every other axis is averaged, so that
            the value does not depend on the batch size.
        likelihood: the distribution whose negative log-likelihood it is, up to scale and constant.

    Returns:
        A decorator.
    """

    def mark(function: F) -> F:
        function.__dict__.update(
            expects=expects,
            target=target,
            surrogate_for=surrogate_for,
            sum_over=sum_over,
            likelihood=likelihood,
            reduction="mean",
        )
        return function

    return mark


def shape_of(tensor: Tensor) -> str:
    """``(64, 10)``: a shape as it is told in a message."""
    return str(tuple(tensor.shape))


def tensors(output: object, target: object, name: str, kind: Kind = "objective") -> tuple[Tensor, Tensor]:
    """`output` and `target`, known to be tensors with at least one example.

    Args:
        output: Of the model.
        target: What it is compared with.
        name: What asks, for messages.
        kind: Whether an objective or a metric asks.

    Raises:
        ObjectiveError: one of them is no tensor, or there is no example.
    """
    for what, given in (("output", output), ("target", target)):
        if not isinstance(given, Tensor):
            way = _way(given, name, kind)
            raise ObjectiveError(f"{name}: the {what} is {type(given).__name__}, and must be a tensor; {way}")
        if given.numel() == 0:
            raise ObjectiveError(f"{name}: the {what} has shape {shape_of(given)}: no example to average")
    return cast(Tensor, output), cast(Tensor, target)


def _way(given: object, name: str, kind: Kind) -> str:
    """What to do about an output or target of several parts."""
    own = (
        "give an objective of your own, (output, target) -> scalar"
        if kind == "objective"
        else "give a metric of your own, (output, target) -> float"
    )
    if not isinstance(given, Mapping) or not given:
        return f"{own}, that picks the tensor it needs"
    parts = ", ".join(f"{task!r}: {name!r}" for task in cast("Mapping[str, object]", given))
    each = f"composite({{{parts}}})" if kind == "objective" else f"metric={{{parts}}}"
    return f"name one for each of its parts, such as {each}, or {own}"


def align(output: object, target: object, name: str, kind: Kind = "objective") -> tuple[Tensor, Tensor]:
    """`output` and `target` in one shape: equal already, or equal but for one trailing axis of length 1.

    ``(n, 1)`` and ``(n,)`` become ``(n,)``. Torch would broadcast them to ``(n, n)`` and train on the mean.

    Raises:
        ObjectiveError: any other pair of shapes, or something that is no tensor.
    """
    output, target = tensors(output, target, name, kind)
    if output.shape == target.shape:
        return output, target
    if output.shape == (*target.shape, 1):
        return output.squeeze(-1), target
    if target.shape == (*output.shape, 1):
        return output, target.squeeze(-1)
    raise ObjectiveError(
        f"{name}: output {shape_of(output)} and target {shape_of(target)} differ in shape: only (n, 1) with "
        "(n,) is aligned and nothing is broadcast; reshape one of them"
    )


def wide(output: Tensor) -> Tensor:
    """`output` in at least float32: bfloat16 has three digits, and a square in float16 ends at 65504."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def apart(reduction: Reduction) -> bool:
    """Whether the loss of each example is wanted, and not their mean.

    Raises:
        ObjectiveError: another word.
    """
    if reduction not in ("mean", "none"):
        raise ObjectiveError(
            f"reduction={reduction!r}: must be 'mean', or 'none' for the loss of each example; a sum would "
            "make the step grow with the batch"
        )
    return reduction == "none"


def over_examples(entries: Tensor) -> Tensor:
    """The mean of the entries of each example, shape (n,); `entries` has shape (n,) or (n, ...)."""
    return entries.flatten(1).mean(1) if entries.ndim > 1 else entries


def of_ratio(sums: Tensor, weights: Tensor) -> Tensor:
    """What each example contributes to ``R = sum_i a_i / sum_i b_i``, shape (n,), with the mean R.

    To first order: ``u_i = R + (a_i - R b_i) / mean(b)``, so that ``std(u) / sqrt(n)`` is the standard error
    of R (the delta method; Cochran 1977, Sampling techniques, section 2.11).

    Args:
        sums: a, shape (n,).
        weights: b, shape (n,), each at least 0 and one above.
    """
    ratio = sums.sum() / weights.sum()
    return ratio + (sums - ratio * weights) / weights.mean()


def as_real(target: Tensor, output: Tensor) -> Tensor:
    """`target` in the output's dtype, but at least float32, where whole numbers up to 2**24 are exact."""
    return target.to(torch.promote_types(output.dtype, torch.float32))


def is_index(target: Tensor) -> bool:
    """Whether the target's dtype can hold class indices: an integer, no bool, no float."""
    return target.dtype != torch.bool and not target.is_floating_point() and not target.is_complex()


def class_axis(output: Tensor, target: Tensor, name: str) -> int:
    """The axis of `output` that holds the classes, for a target of class indices.

    Axis 1 as in torch, ``(n, C, ...)`` with ``(n, ...)``, or the last one, ``(n, L, C)`` with ``(n, L)``.

    Raises:
        ObjectiveError: neither fits, or both fit and would mean different things.
    """
    first = output.ndim >= 2 and target.shape == (output.shape[0], *output.shape[2:])
    last = output.ndim >= 2 and target.shape == output.shape[:-1]
    if first and last and output.ndim > 2:
        raise ObjectiveError(
            f"{name}: in an output {shape_of(output)} both axis 1 and the last could be the classes of a "
            f"target {shape_of(target)}; flatten both to (n, C) and (n,)"
        )
    if not (first or last):
        raise ObjectiveError(
            f"{name}: output {shape_of(output)} does not fit the class indices {shape_of(target)}: allowed "
            "are (n, C) with (n,), (n, C, ...) with (n, ...) and (n, L, C) with (n, L)"
        )
    return 1 if first else output.ndim - 1
