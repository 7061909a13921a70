"""Standard errors of what is measured on n examples: ``s / sqrt(n)``, s the spread over the examples."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from downslope.core.adapted import unwrap
from downslope.core.loss import Loss, Objective
from downslope.objectives.examples import CLOSE, Examples, examples, rows

Over = Literal["examples", "batches"]


class Spread:
    """Collects the losses of the examples, batch by batch, as long as their mean is the objective.

    Args:
        objective: Of the problem; None collects nothing.
    """

    def __init__(self, objective: Objective | None) -> None:
        self._each: Examples | None = None
        self._losses: list[Tensor] = []
        if objective is None or objective.function is None:
            return
        if not (objective.wants_inputs or objective.wants_model):
            self._each = examples(objective.function)

    def see(self, loss: Loss, each: Tensor | None = None) -> None:
        """Take in one batch, the losses of `each` of its examples where they are at hand.

        An objective that cannot be taken apart is not asked again.
        """
        if self._each is None:
            return
        found = rows(self._each, loss.output, loss.target) if each is None else each
        if found is None:
            self._each = None
        else:
            self._losses.append(found)

    def of(self, values: Tensor, counts: Tensor, share: Tensor) -> tuple[float, Over | None]:
        """The standard error of the mean of all batches, and over what it was taken.

        Args:
            values: float64, shape (k,), the objective of every batch.
            counts: float64, shape (k,), examples of every batch.
            share: float64, shape (k,), of every batch in what counts (targets that are not masked, by the
                weight of their class); they sum to one.

        Returns:
            Over examples; over batches where the losses of the examples are not known or their mean is not
            the objective (a sum, a ranking); NaN and None with a single batch of that kind or one example.
        """
        if self._each is not None and len(self._losses) == len(values):
            means = torch.stack([each.mean() for each in self._losses]).double().cpu()
            sizes = torch.stack([each.abs().mean() for each in self._losses]).double().cpu()
            near = (means - values).abs() <= CLOSE * torch.maximum(values.abs(), sizes)
            if bool((near | (share == 0)).all()):
                return _error(torch.cat(self._weighed(values, counts, share))), "examples"
        k = int((share > 0).sum())
        if k < 2:
            return math.nan, None
        values = torch.where(share > 0, values, 0.0)
        mean = (values * share).sum()
        return float((share.square() * (values - mean).square()).sum().mul(k / (k - 1)).sqrt()), "batches"

    def _weighed(self, values: Tensor, counts: Tensor, share: Tensor) -> list[Tensor]:
        """What each example adds to the mean of all, where a batch may count more than its examples do.

        ``J + f (l_i - J)`` with f the share of the batch in what counts over its share of the examples: the
        mean of these is J (the linearised ratio, as in Cochran 1977, section 6.3, within each batch).
        """
        factors = share * counts.sum() / counts
        if bool((factors == 1).all()):
            return self._losses
        mean = float(torch.where(share > 0, values * share, 0.0).sum())
        return [
            torch.where(torch.isfinite(each), mean + f * (each.double() - mean), mean)
            if f
            else torch.full_like(each, mean, dtype=torch.float64)
            for f, each in zip(map(float, factors), self._losses, strict=True)
        ]


def metric_stderr(metric: Any, output: Any, target: Any) -> float:
    """Standard error of a metric over all examples; NaN where it does not say what each contributes.

    A share that is 0 or 1 has the error of half an example: nobody saw that the rest never happens.

    Args:
        metric: As the problem has it.
        output: Of all examples.
        target: Of all examples.
    """
    settings: dict[str, Any] = {}
    while isinstance(metric, functools.partial):
        partial = cast("functools.partial[Any]", metric)
        settings, metric = partial.keywords | settings, partial.func
    shares = getattr(metric, "shares", None)
    if shares is None:
        return math.nan
    found = rows(functools.partial(shares, **settings), output, target)
    if found is None:
        return math.nan
    error = _error(found)
    return max(error, 0.5 / len(found)) if getattr(metric, "bounds", None) == (0.0, 1.0) else error


def share_stderr(right: Tensor) -> Tensor:
    """What `metric_stderr` says of the accuracy: of each row of `right`, bool (M, n), shape (M,)."""
    count = right.shape[1]
    if count < 2:
        return torch.full((len(right),), math.nan, dtype=torch.float64)
    spread = torch.stack([row.std() for row in right.double()])  # the bits of each row alone
    return (spread / math.sqrt(count)).clamp(min=0.5 / count)


def known_errors(part: str, found: Any) -> dict[str, Any]:
    """What the summary of a run says of the errors of an `Evaluation`; nothing of those not known."""
    named = {f"{part}_loss_stderr": found.stderr, f"{part}_metric_stderr": found.metric_stderr}
    named |= {f"{part}_{column}_stderr": error for column, (_, error) in found.by_task.items()}
    said: dict[str, Any] = {key: value for key, value in named.items() if math.isfinite(value)}
    return said | ({f"{part}_stderr_over": found.over} if found.over == "batches" else {})


def penalties(objective: Objective, model: nn.Module, risk: float) -> dict[str, float]:
    """What the summary says of penalties: each, and the risk with all of them; nothing without any."""
    if not hasattr(objective.function, "penalties"):
        return {}
    with torch.no_grad():
        found = {key: float(each) for key, each in objective.function.penalties(unwrap(model)).items()}
    total = risk + objective.sign * sum(found.values())
    return {f"train_{key}": each for key, each in found.items()} | {"train_objective": total}


def _error(losses: Tensor) -> float:
    wide = losses if losses.device.type == "mps" else losses.double()
    return float(wide.std()) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
