"""Accuracy and error: the share of right, and of wrong, answers."""

from __future__ import annotations

from torch import Tensor

from downslope.objectives.metrics.metric import labels, metric
from downslope.objectives.objective import over_examples


def right(output: Tensor, target: Tensor, *, threshold: float | None = None) -> Tensor:
    """The share of each example that is right, float64, shape (n,); arguments are those of `accuracy`."""
    found = labels(output, target, "accuracy", threshold)
    entries = ((found.predicted == found.truth) & found.finite).double()
    if entries.ndim == 1 and len(entries) == target.numel() > len(output):
        entries = entries.reshape(len(output), -1)  # of a sequence: where none is left out
    return over_examples(entries)


def wrong(output: Tensor, target: Tensor, *, threshold: float | None = None) -> Tensor:
    """The share of each example that is wrong."""
    return 1.0 - right(output, target, threshold=threshold)


@metric(goal="max", most=1.0, shares=right)
def accuracy(output: Tensor, target: Tensor, *, threshold: float | None = None) -> float:
    """The share of right answers, in [0, 1]; of a multi-label output the share of right entries.

    Equivalent to `sklearn.metrics.accuracy_score` on the labels that the output names. An output of NaN is
    a wrong answer.

    Args:
        output: class scores (n, C), (n, C, ...) or (n, L, C), of any scale; one score (n,) or (n, 1); or
            several independent ones (n, k).
        target: class indices, one-hot rows or probabilities for class scores; 0 and 1, or -1 and 1, for
            independent scores. Class indices of -100 do not count.
        threshold: what an independent score must exceed for a yes; by default 0.5 where all outputs lie in
            [0, 1], else 0. Giving it makes an (n, k) output multi-label even if every row has one 1.

    Returns:
        A fraction.

    Raises:
        ObjectiveError: the shapes or the target's values do not fit.
    """
    found = labels(output, target, "accuracy", threshold)
    return ((found.predicted == found.truth) & found.finite).double().mean().item()


@metric(goal="min", most=1.0, shares=wrong)
def error(output: Tensor, target: Tensor, *, threshold: float | None = None) -> float:
    """The share of wrong answers: 1 - accuracy, with the same arguments."""
    return 1.0 - accuracy(output, target, threshold=threshold)
