"""Balanced accuracy: the mean over classes of the share that is recognised (Brodersen et al. 2010)."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.objectives.metrics.metric import labels, metric


def balanced(output: Tensor, target: Tensor, *, threshold: float | None = None) -> Tensor:
    """``B + n / (C n_c) (right_i - recall_c)``, c the class of i, shape (n,)."""
    found = labels(output, target, "balanced_accuracy", threshold)
    right = ((found.predicted == found.truth) & found.finite).flatten().double()
    truth = found.truth.flatten().long()
    count = torch.bincount(truth).double()
    recall = torch.bincount(truth, right, len(count)) / count
    weight = len(truth) / (count * (count > 0).sum())
    return recall.nanmean() + weight[truth] * (right - recall[truth])


@metric(goal="max", most=1.0, shares=balanced)
def balanced_accuracy(output: Tensor, target: Tensor, *, threshold: float | None = None) -> float:
    """``mean_c (right of class c / examples of class c)`` over the classes that occur.

    Equivalent to `sklearn.metrics.balanced_accuracy_score`: a constant guess of k classes scores 1 / k,
    however rare they are.

    Args:
        output: as for `accuracy`.
        target: as for `accuracy`.
        threshold: as for `accuracy`.

    Returns:
        A number in [0, 1].

    Raises:
        ObjectiveError: the shapes or the target's values do not fit.
    """
    return float(recalls(output, target, threshold=threshold).nanmean())


def recalls(output: Tensor, target: Tensor, *, threshold: float | None = None) -> Tensor:
    """The share that is recognised of every class, float64, shape (classes,); NaN for one that does not
    occur.
    """
    found = labels(output, target, "balanced_accuracy", threshold)
    right = (found.predicted == found.truth) & found.finite
    truth = found.truth.flatten().long()
    count = torch.bincount(truth).double()
    return torch.bincount(truth, right.flatten().double(), len(count)) / count
