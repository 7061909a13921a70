"""Whether the inputs say anything about the target, by predictors that have nothing to do with the model.

Trees on the flattened inputs, cross-validated: what they find on held-out examples is in the data; where they
contradict a label with certainty, the label is in doubt; and where trees that learnt from training labels
agree with those of the validation part far better than with training labels they were not shown, the latter
are wrong.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.fixed_sample import sample
from downslope.core.problem import Problem
from downslope.core.sources import Source

MOST, WIDEST, FEWEST = 1500, 1024, 60
"""Examples at most, numbers in an example at most, and examples at least."""

COLUMNS = 32
"""Numbers in a target at most."""

HELD = 30
"""Validation examples at least: the error of the comparison says what they are worth. Convention."""

SUREST = 0.25
"""Share of the examples, the surest ones, of which the labels have to be right unless labels are wrong."""

FEW, SETTLED = 50, 100
"""Surest examples at least, and from how many their share counts in full: with fewer the predictors err.

Of clean labels (6 classes by a linear map, 4 quarters of a bent function) up to 0.6 of the surest 15 are
contradicted, 0.4 of 20, 0.27 of 37, 0.24 of 50, 0.21 of 75 and 0.09 of 250.
"""

_TREES, _FOLDS = 50, 3

Array = np.ndarray[Any, Any]
Part = tuple[Array, Array]


def measure(problem: Problem) -> dict[str, Any] | None:
    """Out-of-fold predictions of the training targets, and what the same trees say of the validation part.

    Returns:
        ``z`` (of classes the area under the curve, of numbers the rank correlation, in standard deviations of
        what chance gives), of one target also ``linear`` (the same of a ridge regression),
        ``score`` (that area or correlation), ``n``, and of classes ``noise`` (share of
        the labels that the predictions contradict with confidence: the off-diagonal of the confident joint,
        but at most `floor`; None of fewer than `FEW` / `SUREST` examples)
        and ``doubted`` (rows in stored order of the sample, the surest first, at most 20); with validation
        data ``wrong`` and ``wrong_error`` (`astray`). None for data that is no table of numbers (indices are
        none), too small or too wide for it.
    """
    part = _table(problem, problem.train_source, MOST)
    if part is None or len(part[0]) < FEWEST:
        return None
    x, y = part
    held = _apart(x, None if problem.valid_source is None else _table(problem, problem.valid_source, MOST))
    if y.ndim == 2:
        return _columns(x, y, held)
    labels, counts = np.unique(y, return_counts=True)
    whole = len(labels) <= 20 and bool((labels == labels.round()).all())
    discrete = y.dtype.kind in "iub" or whole
    if len(labels) < 2:
        return None
    if not discrete or len(labels) > 100:
        return _numbers(x, y.astype(np.float64), held)
    return _classes(x, y, labels, held) if counts.min() >= _FOLDS else None


def _table(problem: Problem, source: Source, count: int) -> Part | None:
    """Inputs (n, features) and targets (n,) or (n, columns) of a sample; None for what is no such table."""
    args, kwargs, target = problem.splitter(sample(source, count, None))
    given = batches.tensors((args, kwargs))
    if len(given) != 1 or not isinstance(target, Tensor):
        return None
    if not given[0].is_floating_point():  # indices: their order says nothing, and trees read nothing else
        return None
    x = given[0].detach().double()
    x = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
    y = target.detach()
    y = y.squeeze(1) if y.dim() == 2 and y.shape[1] == 1 else y
    fits = y.dim() == 1 or (y.dim() == 2 and y.shape[1] <= COLUMNS)
    if not fits or x.shape[1] > WIDEST:
        return None
    if not bool(torch.isfinite(x).all() and torch.isfinite(y.double()).all()):
        return None
    return x.numpy(), (y.double() if y.is_floating_point() else y).numpy()


def _apart(x: Array, held: Part | None) -> Part | None:
    """The held-out rows that are no copies of training rows: trees know those by heart."""
    if held is None or held[0].shape[1:] != x.shape[1:]:
        return None
    known = {row.tobytes() for row in x}
    new = np.array([row.tobytes() not in known for row in held[0]], dtype=bool)
    return (held[0][new], held[1][new]) if int(new.sum()) >= HELD else None


def _crossed(forest: Any, folds: Any, x: Array, y: Array, xv: Array | None) -> tuple[Array, Array | None]:
    """Predictions of each row by the forests that have not seen it, and their mean for `xv`."""
    say = forest.predict_proba if hasattr(forest, "predict_proba") else forest.predict
    parts: list[Array] = []
    rows: list[Array] = []
    beyond: Array | None = None
    for seen, unseen in folds.split(x, y):
        forest.fit(x[seen], y[seen])
        parts.append(say(x[unseen]))
        rows.append(unseen)
        if xv is not None:
            beyond = say(xv) / _FOLDS + (0.0 if beyond is None else beyond)
    made = np.concatenate(parts)[np.concatenate(rows).argsort()]
    return made, beyond


def astray(p: Array, y: Array, pv: Array, yv: Array) -> dict[str, float]:
    """Share of the training targets that go astray, told by predictors that never saw either part's rows.

    The slope of prediction on target, ``b = sum cov(p, y) / sum var(y)`` over the columns, is the same in two
    parts of one population. Targets that were shuffled among a share `e` of the rows leave ``(1 - e) b``, so
    ``e = 1 - b_train / b_valid``: whatever is wrong with the labels of one part alone shows, and classes that
    overlap, which make both slopes small, do not.

    Args:
        p: Predictions of training rows by trees that have not seen them, (n, columns).
        y: Their targets, likewise.
        pv: Mean predictions of the validation rows by the same trees.
        yv: Their targets.

    Returns:
        ``wrong`` and ``wrong_error``, its standard error; empty where the trees tell nothing of validation.
    """
    (own, error), (other, beyond) = _slope(p, y), _slope(pv, yv)
    if other <= 3.0 * beyond:
        return {}
    left = own / other
    return {"wrong": 1.0 - left, "wrong_error": math.hypot(error, left * beyond) / other}


def _slope(p: Array, y: Array) -> tuple[float, float]:
    """The slope of prediction on target, and its standard error as that of a ratio of means."""
    from_mean = y - y.mean(0)
    products, squares = ((p - p.mean(0)) * from_mean).sum(1), (from_mean**2).sum(1)
    whole = float(squares.sum())
    if whole <= 0:
        return 0.0, 0.0
    slope = float(products.sum()) / whole
    return slope, math.sqrt(float(((products - slope * squares) ** 2).sum())) / whole


def _compared(p: Array, y: Array, pv: Array | None, yv: Array | None) -> dict[str, float]:
    if pv is None or yv is None or y.shape[1:] != yv.shape[1:]:
        return {}
    wide = [each.reshape(len(each), -1).astype(np.float64) for each in (p, y, pv, yv)]
    return astray(*wide)


def _numbers(x: Array, y: Array, held: Part | None) -> dict[str, Any]:
    from scipy.stats import spearmanr
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold

    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=3, random_state=0)
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    y, held = _to_scale(y, held)
    made, beyond = _crossed(forest, folds, x, y, None if held is None else held[0])
    found = float(cast("Any", spearmanr(made, y)).statistic)
    rho = 0.0 if math.isnan(found) else found
    wrong = _compared(made, y, beyond, None if held is None else held[1])
    line = float(cast("Any", spearmanr(_line(x, y[:, None], folds.split(x))[:, 0], y)).statistic)
    size = math.sqrt(len(y) - 1)
    straight = 0.0 if math.isnan(line) else line * size
    told = {"score": rho, "z": rho * size, "linear": straight, "n": len(y), "noise": None, "doubted": []}
    return told | wrong


def _to_scale(y: Array, held: Part | None) -> tuple[Array, Part | None]:
    """Both targets in float64 and in deviations of the first: trees split no variance below 2e-16."""
    y = y.astype(np.float64)
    size = float(y.std()) or 1.0
    return y / size, None if held is None else (held[0], held[1].astype(np.float64) / size)


def _columns(x: Array, y: Array, held: Part | None) -> dict[str, Any]:
    """Several numbers or labels an example: the mean of their rank correlations."""
    from scipy.stats import spearmanr
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold

    y, held = _to_scale(y, held)
    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=3, random_state=0)
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    made, beyond = _crossed(forest, folds, x, y, None if held is None else held[0])
    moving = [k for k in range(y.shape[1]) if np.ptp(y[:, k]) > 0 and np.ptp(made[:, k]) > 0]
    if not moving:
        return {"score": 0.0, "z": 0.0, "n": len(y), "noise": None, "doubted": []}
    rhos = [float(cast("Any", spearmanr(made[:, k], y[:, k])).statistic) for k in moving]
    # Columns that go together are not independent: the best one counts, as far as so many tries allow.
    z = max(rhos) * math.sqrt(len(y) - 1)
    z -= math.sqrt(2.0 * math.log(len(moving)))
    wrong = _compared(made, y, beyond, None if held is None else held[1])
    told = {"score": sum(rhos) / len(rhos), "z": z, "n": len(y), "noise": None, "doubted": []}
    return told | wrong


def _classes(x: Array, y: Array, labels: Array, held: Part | None) -> dict[str, Any]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold

    own = np.searchsorted(labels, y)
    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=0)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    p, beyond = _crossed(forest, folds, x, own, None if held is None else held[0])
    areas = [area(p[:, k], own == k) for k in range(len(labels))]
    z = sum(each[1] for each in areas) / math.sqrt(together(p, own))
    line = _line(x, (own[:, None] == np.arange(len(labels))).astype(np.float64), folds.split(x, own))
    straight = sum(area(line[:, k], own == k)[1] for k in range(len(labels))) / math.sqrt(together(line, own))
    share, doubted = _doubts(p, own)
    surest, least = floor(p, line, own)
    noise = None if surest < FEW else min(share, least)
    score = sum(each[0] for each in areas) / len(areas)
    one = (y[:, None] == labels).astype(np.float64)
    other = None if held is None or held[1].ndim != 1 else (held[1][:, None] == labels).astype(np.float64)
    wrong = _compared(p, one, beyond, other)
    told = {"score": score, "z": z, "linear": straight, "n": len(y), "noise": noise, "doubted": doubted}
    return told | wrong


def _line(x: Array, y: Array, folds: Any) -> Array:
    """Out-of-fold predictions of `y` (n, columns) by a ridge regression: it sees a weak trend that trees
    cut up.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = np.zeros_like(y)
    for seen, unseen in folds:
        ridge: Any = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 5)))
        found: Array = ridge.fit(x[seen], y[seen]).predict(x[unseen])
        made[unseen] = found.reshape(len(unseen), -1)
    return made


def together(p: Array, own: Array) -> float:
    """Variance that chance gives the sum of the classes' deviations: labels permuted, predictions as they
    are.

    Linear rank statistics of two columns vary together by the correlation of their ranks times that of their
    labels (Hajek, Sidak and Sen 1999, section 3.3): two classes say the same thing twice, and give 4, not 2.
    """
    from scipy.stats import rankdata

    ranks = np.stack([cast("Array", rankdata(column)) for column in p.T])
    labels = np.stack([(own == k).astype(np.float64) for k in range(p.shape[1])])
    if not ranks.std(1).all():  # a column that is the same for every row has no rank, and no deviation
        return float(len(labels))
    return max(float((np.corrcoef(ranks) * np.corrcoef(labels)).sum()), 1.0)


def area(p: Array, yes: Array) -> tuple[float, float]:
    """Area under the curve by ranks, and its excess over 1/2 in deviations of chance (Mann and Whitney
    1947).
    """
    from scipy.stats import rankdata

    a, b = int(yes.sum()), int((~yes).sum())
    area = (float(cast("Any", rankdata(p))[yes].sum()) - a * (a + 1) / 2) / (a * b)
    return area, (area - 0.5) / math.sqrt((a + b + 1) / (12 * a * b))


def floor(p: Array, line: Array, own: Array) -> tuple[int, float]:
    """How many examples two predictors are surest of together, and the share of their labels they contradict.

    Of fewer than `SETTLED` the share is told less twice its standard error: what it is at least.

    Where a predictor is weak its doubts lie at the borders between classes, and the examples far from them
    are told right; labels that are wrong at random are so among the surest too (the noise floor). Surest is
    the `SUREST` share with the largest margin of the sum of both predictions.
    """
    both = p + line.clip(0.0, 1.0)
    ranked = np.sort(both, axis=1)
    count = int(SUREST * len(own))
    rows = np.argsort(ranked[:, -2] - ranked[:, -1], kind="stable")[:count]
    if not count:
        return 0, 0.0
    share = float((both.argmax(1) != own)[rows].mean())
    doubt = 0.0 if count >= SETTLED else 2.0 * math.sqrt(share * (1.0 - share) / count)
    return count, max(share - doubt, 0.0)


def _doubts(p: Array, own: Array) -> tuple[float, list[int]]:
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
