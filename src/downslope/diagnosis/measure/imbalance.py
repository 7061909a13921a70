"""Classes that the metric overlooks: what is recognised of each, and what weights for the rare ones
change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.edits import SetObjective
from downslope.core.fixed_sample import Held
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.progress import table
from downslope.diagnosis.trials import train
from downslope.objectives.adapters import Weighted
from downslope.objectives.metrics import balanced_accuracy
from downslope.objectives.metrics.balanced_accuracy import recalls
from downslope.training.evaluate import evaluate

RARE = 0.25
"""Share of the rarest class in that of equal classes below which the classes count as unequal."""


def measure(
    run: Run, problem: Problem, recipe: Recipe, held: Held, steps: int | None
) -> dict[str, Any] | None:
    """Recall of every class of the run's last model on held-out data, and with a weighted objective.

    Args:
        run: Finished.
        problem: As the user gave it.
        recipe: How to train the weighted twin.
        held: Examples to score on; validation data where there is any.
        steps: Length of the twin's run.

    Returns:
        ``recalls`` (by class; -1 for one that does not occur), ``balanced`` (their mean), ``weighted`` (the
        mean with weights; None where no weights can be given to the objective) and then also
        ``weighted_recalls``; ``counts`` (held-out examples by class), ``rare`` (the classes that are),
        ``classes``, ``rarest`` (share of the rarest).
    """
    found = unequal(run)
    if found is None:
        return None
    labels, shares = found
    part = held.valid or held.train
    scored = problem.edit(metric=balanced_accuracy, metric_goal="max", goal=None)
    rows: list[Tensor] = []

    counts: list[int] = []

    def each(output: Tensor, target: Tensor) -> float:
        rows.append(recalls(output, target))
        counts[:] = torch.bincount(target.flatten().long().clamp(min=0), minlength=len(rows[-1])).tolist()
        return float(rows[-1].nanmean())

    scored = scored.edit(metric=each)
    own = evaluate(scored, run.model("last"), part)
    answer: dict[str, Any] = {
        "recalls": rows[-1].nan_to_num(-1.0).tolist(), "balanced": own.metric, "weighted": None,
        "classes": len(labels), "rarest": min(shares), "counts": counts.copy(),
        "rare": [int(k) for k, share in zip(labels, shares, strict=True) if share < RARE / len(labels)],
    }  # fmt: skip
    edit = weighted(problem, labels, shares)
    if edit is not None and _overlooks(answer):
        changed = edit.apply_to_problem(problem)
        answer["weighted"] = evaluate(scored, train(changed, recipe, steps).model("last"), part).metric
        answer["weighted_recalls"] = rows[-1].nan_to_num(-1.0).tolist()
    return answer


def unequal(run: Run) -> tuple[Sequence[float], list[float]] | None:
    """Labels and shares of classes that are far from equal; None for equal ones and for numbers."""
    target = cast("Mapping[str, Any]", table(run, "data").get("target") or {})
    labels: list[float] | None = target.get("labels")
    counts: list[int] | None = target.get("counts")
    if target.get("kind") not in ("binary", "classes") or labels is None or counts is None:
        return None
    if len(labels) < 2:
        return None
    shares = [each / sum(counts) for each in counts]
    return (labels, shares) if min(shares) < RARE / len(labels) else None


def weighted(problem: Problem, labels: Sequence[float], shares: Sequence[float]) -> SetObjective | None:
    """The objective with weights that make every class count the same; None where it takes none.

    One that hands parts of an output on to a function of torch (`taking`) hands them on to a weighted one.
    """
    objective = problem.objective
    taking: Callable[[Any], Any] = getattr(objective, "taking", lambda made: made)
    inner = getattr(objective, "function", objective)
    name = _plain(inner) or getattr(inner, "__name__", "")
    if isinstance(inner, nn.CrossEntropyLoss) or name == "cross_entropy":
        count = int(max(labels)) + 1
        weight = torch.ones(count)
        for label, share in zip(labels, shares, strict=True):
            weight[int(label)] = 1.0 / (len(labels) * share)
        return SetObjective(taking(Weighted("classes", tuple(float(each) for each in weight))))
    logit = isinstance(inner, nn.BCEWithLogitsLoss) or name in _LOGIT
    if logit and set(labels) == {0.0, 1.0}:
        return SetObjective(taking(Weighted("yes", (shares[0] / shares[1],))))
    return None


def _plain(function: Any) -> str:
    """The name of the function of torch that a script called with nothing but what it does by itself."""
    if not isinstance(function, functools.partial) or function.args:
        return ""
    found = cast("functools.partial[Any]", function)
    usual = all(value in _USUAL.get(key, ()) for key, value in found.keywords.items())
    return found.func.__name__ if usual else ""


_USUAL: dict[str, tuple[Any, ...]] = {
    "reduction": ("mean",),
    "ignore_index": (-100,),
    "label_smoothing": (0.0,),
}
_LOGIT = ("logistic", "binary_cross_entropy_with_logits")


def _overlooks(answer: Mapping[str, Any]) -> bool:
    return min(each for each in answer["recalls"] if each >= 0) < 0.5
