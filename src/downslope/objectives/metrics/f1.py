"""F1: the harmonic mean of precision and recall (van Rijsbergen 1979, Information Retrieval, chapter 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.objectives.metrics.metric import labels, metric
from downslope.objectives.objective import of_ratio


def harmonic(output: Tensor, target: Tensor, *, threshold: float | None = None) -> Tensor:
    """What each example contributes, shape (n,): of the ratio of ``2 tp`` to ``2 tp + fp + fn``."""
    columns = [
        of_ratio(2.0 * (p & t).double(), p.double() + t.double())
        for p, t in _questions(output, target, threshold)
    ]
    return torch.stack(columns).mean(0)


@metric(goal="max", most=1.0, shares=harmonic)
def f1(output: Tensor, target: Tensor, *, threshold: float | None = None) -> float:
    """``2 TP / (2 TP + FP + FN)`` of the yes; of several classes or labels the plain mean over them.

    Equivalent to `sklearn.metrics.f1_score`, with ``average="binary"`` for a yes or no (one score, two
    classes) and ``"macro"`` else: a class that is neither predicted nor present is left out, and a column
    of labels without a yes, true or predicted, counts 0.

    Args:
        output: as for `accuracy`.
        target: as for `accuracy`.
        threshold: as for `accuracy`.

    Returns:
        A number in [0, 1].

    Raises:
        ObjectiveError: the shapes or the target's values do not fit.
    """
    scores = [_score(*each) for each in _questions(output, target, threshold)]
    return torch.stack(scores).mean().item()


def _questions(output: Tensor, target: Tensor, threshold: float | None) -> list[tuple[Tensor, Tensor]]:
    """Predicted and true yes of every question: one, one for each label, or one for each class present."""
    found = labels(output, target, "f1", threshold)
    predicted = torch.where(found.finite, found.predicted, -1)
    if found.classes <= 2 and int(found.truth.max().item()) <= 1:
        columns = (each.reshape(len(each), -1).unbind(1) for each in (predicted == 1, found.truth == 1))
        return list(zip(*columns, strict=True))
    present = torch.bincount(torch.cat([predicted[found.finite], found.truth])).nonzero().flatten()
    return [(predicted == label, found.truth == label) for label in present]


def _score(predicted: Tensor, truth: Tensor) -> Tensor:
    """F1 along axis 0; 0 where there is neither a predicted nor a true yes."""
    both = (predicted & truth).double().sum(0)
    either = predicted.double().sum(0) + truth.double().sum(0)
    return 2 * both / either.clamp(min=1)
