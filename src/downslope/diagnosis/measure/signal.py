"""Whether the inputs say anything about the target, by predictors that have nothing to do with the model.

Trees on the flattened inputs, cross-validated: what they find on held-out examples is in the data; where they
contradict a label with certainty, the label is in doubt.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.problem import Problem
from downslope.training.facts.sample import sample

MOST, WIDEST, FEWEST = 1500, 1024, 60
"""Examples at most, numbers in an example at most, and examples at least."""

_TREES, _FOLDS = 50, 3


def measure(problem: Problem) -> dict[str, Any] | None:
    """Out-of-fold predictions of the training targets.

    Returns:
        ``z`` (of classes the area under the curve, of numbers the rank correlation, in standard deviations of
        what chance gives), ``score`` (that area or correlation), ``n``, and of classes ``noise`` (share of
        the labels that the predictions contradict with confidence: the off-diagonal of the confident joint)
        and ``doubted`` (rows in stored order of the sample, the surest first, at most 20); None for data that
        is no table of numbers, too small or too wide for it.
    """
    args, kwargs, target = problem.splitter(sample(problem.train_source, MOST, None))
    given = batches.tensors((args, kwargs))
    if len(given) != 1 or not isinstance(target, Tensor) or len(given[0]) < FEWEST:
        return None
    x = (
        given[0].detach().double().flatten(1)
        if given[0].dim() > 1
        else given[0].detach().double().unsqueeze(1)
    )
    y = target.detach()
    y = y.squeeze(1) if y.dim() == 2 and y.shape[1] == 1 else y
    if (
        y.dim() != 1
        or x.shape[1] > WIDEST
        or not bool(torch.isfinite(x).all() and torch.isfinite(y.double()).all())
    ):
        return None
    inputs, values = x.numpy(), y.double().numpy()
    labels, counts = np.unique(values, return_counts=True)
    discrete = not y.is_floating_point() or (len(labels) <= 20 and bool((labels == labels.round()).all()))
    if len(labels) < 2:
        return None
    if not discrete or len(labels) > 100:
        return _numbers(inputs, values)
    return _classes(inputs, values, labels) if counts.min() >= _FOLDS else None


def _numbers(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> dict[str, Any]:
    from scipy.stats import spearmanr
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=3, random_state=0)
    made = cross_val_predict(forest, x, y, cv=KFold(_FOLDS, shuffle=True, random_state=0))
    found = float(cast("Any", spearmanr(made, y)).statistic)
    rho = 0.0 if math.isnan(found) else found
    return {"score": rho, "z": rho * math.sqrt(len(y) - 1), "n": len(y), "noise": None, "doubted": []}


def _classes(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> dict[str, Any]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    own = np.searchsorted(labels, y)
    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=0)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    p = cast("np.ndarray[Any, Any]", cross_val_predict(forest, x, own, cv=folds, method="predict_proba"))
    areas = [area(p[:, k], own == k) for k in range(len(labels))]
    z = sum(each[1] for each in areas) / math.sqrt(len(areas))
    noise, doubted = _doubts(p, own)
    score = sum(each[0] for each in areas) / len(areas)
    return {"score": score, "z": z, "n": len(y), "noise": noise, "doubted": doubted}


def area(p: np.ndarray[Any, Any], yes: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Area under the curve by ranks, and its excess over 1/2 in deviations of chance (Mann and Whitney
    1947).
    """
    from scipy.stats import rankdata

    a, b = int(yes.sum()), int((~yes).sum())
    area = (float(cast("Any", rankdata(p))[yes].sum()) - a * (a + 1) / 2) / (a * b)
    return area, (area - 0.5) / math.sqrt((a + b + 1) / (12 * a * b))


def _doubts(p: np.ndarray[Any, Any], own: np.ndarray[Any, Any]) -> tuple[float, list[int]]:
    """Confident learning (Northcutt, Jiang and Chuang 2021, equation 1): labels that lose to a confident
    class.

    An example counts for class k where p_k is at least the mean p_k of the examples labelled k; of several
    the largest.
    """
    count = p.shape[1]
    bar = np.array([p[own == k, k].mean() for k in range(count)])
    sure = p >= bar
    best = np.where(sure, p, -1.0).argmax(1)
    counted = sure.any(1)
    wrong = counted & (best != own)
    rows = np.flatnonzero(wrong)
    margin = p[rows, best[rows]] - p[rows, own[rows]]
    share = float(wrong.sum()) / max(int(counted.sum()), 1)
    return share, rows[np.argsort(-margin)][:20].tolist()
