"""The losses of all members on their batches in one forward pass, a gradient flowing back to each row.

    loss_i = objective(model_i, batch_i)          `torch.func.vmap` over the members
    losses.sum().backward()                       once, outside: no term of it belongs to two members

Softmax cross-entropy is taken outside the vmap, on the examples of all members in one table: the same
numbers, and each member may have a label smoothing of its own.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree  # torch's own

from downslope.core.adapted import Adapted, unwrap
from downslope.core.class_targets import IGNORED
from downslope.core.loss import Loss, Objective
from downslope.core.outputs import read_by
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.objectives.configured import Configured
from downslope.objectives.cross_entropy import cross_entropy, indexed
from downslope.objectives.objective import is_index, wide
from downslope.objectives.penalised import Penalised
from downslope.training.population.draws import Draws
from downslope.training.population.feed import Fed
from downslope.training.population.stack import Stack

SLOW = "There is a performance drop"
"""How torch begins to say that an operation has no rule for vmap and goes member by member."""


class Made(NamedTuple):
    """What one forward pass gave."""

    losses: Tensor
    """(M,), each to go down on, with a gradient."""
    values: list[float]
    """The risks in the user's units; where the loss is not finite, that."""
    terms: dict[str, list[float]]
    """Named terms, one value a member."""


def smoothing(problem: Problem) -> float | None:
    """The label smoothing of an objective that is a plain mean of softmax cross-entropies; None of others."""
    risk: Any = problem.objective
    if isinstance(risk, Penalised):
        risk = risk.objective
    settings: dict[str, Any] = {}
    if isinstance(risk, Configured):
        risk, settings = risk.function, dict(risk.settings)
    if isinstance(risk, nn.CrossEntropyLoss) and type(risk) is nn.CrossEntropyLoss:
        if risk.weight is not None or risk.reduction != "mean":
            return None
        settings = {"label_smoothing": risk.label_smoothing, "ignore_index": risk.ignore_index}
    elif risk is not cross_entropy and risk is not functional.cross_entropy:
        return None
    if settings.get("weight") is not None or not isinstance(problem.train_source, Memory):
        return None
    target = problem.splitter(problem.train_source.batch)[2]
    if not isinstance(target, Tensor) or not is_index(target):
        return None
    left_out = (target == IGNORED) | (target == int(settings.get("ignore_index", IGNORED)))
    return None if bool(left_out.any()) else float(settings.get("label_smoothing", 0.0))


class Losses:
    """``losses(fed) -> Made`` for the members of a stack.

    Args:
        stack: The members' rows and their template.
        draws: The template's random modules.
        objectives: Of the members, alike but for the label smoothing.
        smoothings: Where every member has one, cross-entropy is taken on the joined examples.
    """

    def __init__(
        self,
        stack: Stack,
        draws: Draws,
        models: Sequence[nn.Module],
        objectives: Sequence[Objective],
        smoothings: Sequence[float] | None,
    ) -> None:
        self.stack, self.draws = stack, draws
        self.models, self.objectives = list(models), list(objectives)
        self.smoothings = None if smoothings is None else list(smoothings)
        self.objective = objectives[0]
        template = stack.template
        self._restores = isinstance(template, Adapted) and template.transforms_target

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`."""
        self.models = [self.models[i] for i in rows]
        self.objectives = [self.objectives[i] for i in rows]
        if self.smoothings is not None:
            self.smoothings = [self.smoothings[i] for i in rows]

    def __call__(self, fed: Fed) -> Made:
        """The losses of one step; buffers of the members move as the forward pass moves them."""
        stack = self.stack
        leaves, spec = pytree.tree_flatten(fed.batch)
        at = [None if fed.shared or not isinstance(leaf, Tensor) else 0 for leaf in leaves]
        anchor = torch.arange(len(stack), device=stack.flat.device)
        one = functools.partial(self._one, spec)
        mapped = torch.func.vmap(one, in_dims=(0, 0, 0, *at), randomness="error")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=SLOW)
            found = mapped(stack.parts(), stack.others, anchor, *leaves)
        if self.smoothings is None:
            losses, terms, penalty, output, target = found
        else:
            output, target, penalties = found
            losses, terms, penalty = self._joined(output, target, penalties)
        values = self._values(losses.detach(), penalty, output, target, fed)
        return Made(losses, values, {name: each.detach().tolist() for name, each in terms.items()})

    def _one(self, spec: Any, parts: Any, others: Any, anchor: Tensor, *leaves: Any) -> Any:
        """One member, as vmap sees it."""
        self.stack.put(parts, others)
        self.draws.anchor = anchor
        template, objective = self.stack.template, self.objective
        batch = pytree.tree_unflatten(list(leaves), spec)
        output, target, args = objective.forward(template, batch)
        if not self.stack.still_there(others):
            raise TypeError("the model hangs new tensors in the places of its buffers")
        if self.smoothings is not None:
            penalised = hasattr(objective.function, "penalties")
            penalties = objective.function.penalties(unwrap(template)) if penalised else {}
            return read_by(objective.function, output), target, penalties
        loss = objective.trained(output, target, args, template)
        kept = (loss.output, target) if self._restores else ((), ())
        return loss.value, dict(loss.terms), () if loss.penalty is None else loss.penalty, *kept

    def _joined(
        self, output: Tensor, target: Tensor, penalties: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], Any]:
        """Cross-entropy of the examples of all members at once."""
        members = len(self.stack)
        rows = wide(output.reshape(-1, *output.shape[2:]))
        given = target.reshape(-1, *target.shape[2:])
        soft = given.is_floating_point()
        if not soft:
            rows, given = indexed(rows, given, "cross_entropy")
        shares = cast("list[float]", self.smoothings)
        if not any(shares):
            entries = functional.cross_entropy(rows, given, reduction="none")
        else:
            share = torch.tensor(shares, dtype=rows.dtype, device=rows.device)
            share = share.repeat_interleave(len(rows) // members)
            share = share.reshape(-1, *[1] * (rows.dim() - 2))
            logs = functional.log_softmax(rows, 1)
            hit = -(given * logs).sum(1) if soft else functional.nll_loss(logs, given, reduction="none")
            entries = (1 - share) * hit - share * logs.mean(1)
        risk = self.objective.sign * entries.reshape(members, -1).mean(1)
        if not penalties:
            return risk, {}, ()
        penalty = functools.reduce(torch.add, penalties.values())
        value = risk + penalty
        return value, {**penalties, "objective": self.objective.sign * value}, penalty

    def _values(self, losses: Tensor, penalty: Any, output: Any, target: Any, fed: Fed) -> list[float]:
        """What is reported of each member, as ``Step.forward`` does."""
        sign = self.objective.sign
        values = cast("list[float]", (sign * losses).tolist())
        has = isinstance(penalty, Tensor)
        if self._restores:
            return [
                self._restored(i, value, output, target, fed) if _finite(value) else value
                for i, value in enumerate(values)
            ]
        if not has:
            return values
        risks = cast("list[float]", (sign * (losses - penalty.detach())).tolist())
        return [risk if _finite(value) else value for risk, value in zip(risks, values, strict=True)]

    def _restored(self, i: int, value: float, output: Any, target: Any, fed: Fed) -> float:
        own = [pytree.tree_map_only(Tensor, lambda leaf: leaf[i].detach(), each) for each in (output, target)]
        loss = Loss(torch.tensor(value), own[0], own[1], {})
        return self.objectives[i].restored(self.models[i], loss, fed.of(i)).item()


def _finite(value: float) -> bool:
    return value - value == 0.0
