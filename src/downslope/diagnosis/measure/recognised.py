"""What a model recognises of every rare class, by the outputs and targets that its loss was handed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from downslope.diagnosis.measure.signal import area

WIDEST = 20
"""Classes at most: of more, as of the words of a language, many are rare, and nobody wants them all."""

RARE = 0.25
"""Share of a class in that of equal classes below which it counts as rare; as `measure.imbalance` has it."""

_CLASSES = ("logits", "log-probabilities")
_COLUMNS = ("logit", "probability")


class _Scored(NamedTuple):
    """Scores of one class against the rest, log-odds of shape (m,), and whether an example is of it."""

    label: int
    score: Tensor
    truth: Tensor
    said: Tensor
    """Whether the model names it."""
    classes: int


def measure(output: Tensor, target: Tensor, expects: str | None) -> dict[str, Any] | None:
    """Recall of the rare classes, and how well the model's own scores tell them from the rest.

    Args:
        output: Scores as a loss was handed them: (n, classes) or (n, classes, ...) with class indices, or
            (n,) or (n, columns) with zeros and ones.
        target: What it was compared with.
        expects: What the objective expects of the output.

    Returns:
        ``rows``, and ``rare``, of each rare class ``label``, ``share``, ``n``, ``recall``, ``way`` (share of
        the way from a constant guess of this class to a sure one that the model came) and ``area`` (under
        the curve of its scores: 0.5 by chance); None for other forms.
    """
    found: list[_Scored] = []
    if expects in _CLASSES:
        found = _by_class(output, target)
    elif expects in _COLUMNS:
        found = _by_column(output, target, probability=expects == "probability")
    if not found:
        return None
    rare = [each for each in found if _is_rare(each)]
    return {"rows": len(found[0].truth), "rare": [_of(each) for each in rare]}


def _is_rare(each: _Scored) -> bool:
    return 0 < float(each.truth.double().mean()) < RARE / each.classes


def _by_class(output: Tensor, target: Tensor) -> list[_Scored]:
    if target.is_floating_point() or output.dim() != target.dim() + 1 or not 1 < output.shape[1] <= WIDEST:
        return []
    scores = output.detach().double().movedim(1, -1).flatten(0, -2)
    truth = target.flatten()
    kept = (truth >= 0) & (truth < scores.shape[1]) & scores.isfinite().all(1)
    scores, truth = scores[kept], truth[kept]
    if not len(truth):
        return []
    said, found = scores.argmax(1), list[_Scored]()
    for k in range(scores.shape[1]):
        rest = torch.cat([scores[:, :k], scores[:, k + 1 :]], 1).logsumexp(1)
        found.append(_Scored(k, scores[:, k] - rest, truth == k, said == k, scores.shape[1]))
    return found


def _by_column(output: Tensor, target: Tensor, *, probability: bool) -> list[_Scored]:
    if output.shape != target.shape or output.dim() not in (1, 2):
        return []
    scores, truth = (each.detach().double().reshape(len(each), -1) for each in (output, target))
    binary = bool(((truth == 0) | (truth == 1)).all())
    if not binary or scores.shape[1] > WIDEST or not bool(scores.isfinite().all()):
        return []
    if truth.shape[1] > 1 and bool((truth.sum(1) == 1).all()):  # classes: each is rare beside all others
        return []
    if probability:
        scores = torch.logit(scores.clamp(0, 1), eps=1e-7)
    if scores.shape[1] == 1:  # either answer may be the rare one
        own, score = truth[:, 0] == 1, scores[:, 0]
        return [_Scored(1, score, own, score > 0, 2), _Scored(0, -score, ~own, score <= 0, 2)]
    return [_Scored(k, scores[:, k], truth[:, k] == 1, scores[:, k] > 0, 2) for k in range(scores.shape[1])]


def _of(each: _Scored) -> dict[str, Any]:
    n = int(each.truth.sum())
    share = n / len(each.truth)
    constant = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    loss = float(functional.binary_cross_entropy_with_logits(each.score, each.truth.double()))
    ranked, yes = np.asarray(each.score), np.asarray(each.truth)
    return {
        "label": each.label, "share": share, "n": n, "recall": float(each.said[each.truth].double().mean()),
        "way": 1 - loss / constant, "area": area(ranked, yes)[0],
    }  # fmt: skip
