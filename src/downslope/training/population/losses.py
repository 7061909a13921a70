"""The losses of all members on their batches in one forward pass, a gradient flowing back to each row.

    loss_i = objective(model_i, batch_i)          `torch.func.vmap` over the members
    losses.sum().backward()                       once, outside: no term of it belongs to two members

Objectives that are plain means are taken outside the vmap, on the examples of all members in one table: the
same numbers, and under softmax cross-entropy each member may have a label smoothing of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree  # torch's own

from downslope.core.adapted import Adapted, unwrap
from downslope.core.class_targets import IGNORED
from downslope.core.loss import Loss
from downslope.core.outputs import read_by
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.objectives.configured import Configured
from downslope.objectives.cross_entropy import cross_entropy, indexed
from downslope.objectives.objective import is_index, over_examples, wide
from downslope.objectives.penalised import Penalised
from downslope.training.population.backward import ByHand
from downslope.training.population.chain import LayerChain, Views
from downslope.training.population.draws import Draws
from downslope.training.population.entropies import cross_entropies, means, with_slopes
from downslope.training.population.feed import Fed
from downslope.training.population.joined import JoinedMeans
from downslope.training.population.mapped import side_by_side
from downslope.training.population.stack import Stack
from downslope.training.population.strengths import Strengths
from downslope.training.state import StepState

ROWS = 8192
"""Examples of all members of one forward pass in evaluation: what their layers hold stays in the cache."""

IMAGES = 1024
"""Those of all members together where they are convolved."""


class Made(NamedTuple):
    """What one forward pass gave."""

    losses: Tensor
    """(M,), each to go down on, with a gradient."""
    values: list[float]
    """The risks in the user's units; where the loss is not finite, that."""
    terms: dict[str, list[float]]
    """Named terms, one value a member."""
    leaf: Tensor | None = None
    """The outputs at which a backward pass by hand begins; None where autograd goes all the way."""
    slope: Tensor | None = None
    """The gradient of the sum of the losses there, where it is known already."""


class Seen(NamedTuple):
    """Outputs and targets of all members on their batches, as the objective sees them in training."""

    output: Any
    """(M, B, ...)."""
    target: Any
    shared: bool
    """Whether all members have the same target, (B, ...); else (M, B, ...)."""


def smoothing(problem: Problem) -> float | None:
    """The label smoothing of an objective that is a plain mean of softmax cross-entropies; None of others."""
    settings = _entropy(problem.objective)
    if settings is None or settings.get("weight") is not None:
        return None
    source = problem.train_source
    if not isinstance(source, Memory):
        return None
    ignored = int(settings.get("ignore_index", IGNORED))
    known = _WHOLE.setdefault(source, {})
    if (key := (ignored, problem.split)) not in known:
        target = problem.splitter(source.batch)[2]
        known[key] = isinstance(target, Tensor) and is_index(target) and not left_out(ignored, target)
    return float(settings.get("label_smoothing", 0.0)) if known[key] else None


_WHOLE: WeakKeyDictionary[Memory, dict[Any, bool]] = WeakKeyDictionary()
"""Of data, by what is ignored and how they are split: whether their targets are classes that all count."""


def left_out(ignored: int, target: Tensor) -> bool:
    """Whether some entry of `target` does not count."""
    return bool(((target == IGNORED) | (target == ignored)).any())


def _entropy(risk: Any) -> dict[str, Any] | None:
    """The settings of a softmax cross-entropy that is a mean; None of another objective."""
    if isinstance(risk, Penalised):
        risk = risk.objective
    settings: dict[str, Any] = {}
    if isinstance(risk, Configured):
        risk, settings = risk.function, dict(risk.settings)
    if type(risk) is nn.CrossEntropyLoss:
        if risk.reduction != "mean":
            return None
        keys = ("weight", "label_smoothing", "ignore_index")
        return {key: getattr(risk, key) for key in keys}
    return settings if risk is cross_entropy or risk is functional.cross_entropy else None


class Losses:
    """``losses(fed) -> Made`` for the members of a stack.

    A chain of plain layers is computed layer by layer for all members, any other model under
    `torch.func.vmap`; the objective from the examples of all in one table where it is a plain mean over them,
    else under vmap too.

    Args:
        stack: The members' rows and their template.
        draws: The template's random modules.
        states: Of the members, whose objectives are alike but for the label smoothing.
    """

    def __init__(self, stack: Stack, draws: Draws, states: Sequence[StepState]) -> None:
        self.stack, self.draws = stack, draws
        self.models = [state.model for state in states]
        self.objectives = [state.objective for state in states]
        shares = [smoothing(state.problem) for state in states]
        self.smoothings = cast("list[float]", shares) if all(each is not None for each in shares) else None
        self.objective = objective = self.objectives[0]
        risk = (
            objective.function.objective if isinstance(objective.function, Penalised) else objective.function
        )
        plain = not (objective.wants_inputs or objective.wants_model)
        self.means = JoinedMeans(risk) if plain and JoinedMeans.runs(risk) else None
        self.joined = self.smoothings is not None or self.means is not None
        self.ignored = int((_entropy(objective.function) or {}).get("ignore_index", IGNORED))
        self.penalised = hasattr(objective.function, "penalties")
        functions = [each.function for each in self.objectives]
        own = self.joined and all(isinstance(each, Penalised) for each in functions)
        self.strengths = Strengths(functions, stack.flat) if own else None
        template = stack.template
        self.restores = isinstance(template, Adapted) and template.transforms_target
        chained = self.joined and _is_pair(states[0]) and LayerChain.runs(template)
        self.chain = LayerChain(template, draws.drawn) if chained else None
        self.hand = ByHand(self.chain) if self.chain is not None and not self.penalised else None

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`."""
        self.models = [self.models[i] for i in rows]
        self.objectives = [self.objectives[i] for i in rows]
        if self.smoothings is not None:
            self.smoothings = [self.smoothings[i] for i in rows]
        if self.strengths is not None:
            self.strengths.keep(rows)

    def __call__(self, fed: Fed) -> Made:
        """The losses of one step; buffers of the members move as the forward pass moves them."""
        if self.hand is not None:
            return self._by_hand(self.hand, fed)
        parts = self.stack.parts()
        if not self.joined:
            losses, terms, penalty, seen = self._mapped(parts, fed)
        else:
            seen = self._chained(parts, fed) if self.chain is not None else self._outputs(parts, fed)
            losses, terms, penalty = self._risks(seen), {}, None
            if self.penalised and (found := self._penalties(parts)):
                penalty = functools.reduce(torch.add, found.values())
                losses = losses + penalty
                terms = {**found, "objective": self.objective.sign * losses}
        values = self._values(losses.detach(), penalty, seen, fed)
        told = {name: cast("list[float]", each.detach().tolist()) for name, each in terms.items()}
        return Made(losses, values, told)

    def slopes(self, made: Made) -> None:
        """Put the gradients of all members in the place of the former ones."""
        stack, slope = self.stack, made.slope
        if slope is None:
            at = stack.flat if made.leaf is None else made.leaf
            slope = torch.autograd.grad(made.losses.sum(), at)[0]
        if self.hand is None:
            stack.gradient.copy_(slope)
        else:
            self.hand.backward(slope, stack.slopes)

    def _by_hand(self, hand: ByHand, fed: Fed) -> Made:
        """Without a graph of the model."""
        stack, chain = self.stack, hand.chain
        x, target = fed.batch
        leaf = hand.forward(stack.numbers, x, shared=fed.shared)
        seen = Seen(leaf, *chain.target(stack.numbers, target, shared=fed.shared))
        losses, slope = self._with_slope(seen) or (self._risks(seen), None)
        return Made(losses, self._values(losses.detach(), None, seen, fed), {}, leaf, slope)

    def _with_slope(self, seen: Seen) -> tuple[Tensor, Tensor] | None:
        """The losses of all members and the gradient of their sum by the outputs; None where autograd is to
        tell it.
        """
        output = seen.output.detach()
        if self.means is not None or output.dim() != 3 or output.device.type != "cpu":
            return None
        table, given, share = self._table(Seen(output, seen.target, seen.shared))
        if given.is_floating_point() or table.dtype != output.dtype:
            return None
        losses, slopes = with_slopes(table, given, output.shape[1], share)
        if self.objective.sign < 0:
            return -losses, slopes.neg_().view(output.shape)
        return losses, slopes.view(output.shape)

    # -- outputs ------------------------------------------------------------------------------------------

    def _chained(self, parts: Sequence[Tensor], fed: Fed) -> Seen:
        """Outputs of a chain of layers, without vmap."""
        chain = cast("LayerChain", self.chain)
        views = self.stack.views(parts)
        x, target = fed.batch
        output = chain.forward(views, x, shared=fed.shared)
        return Seen(output, *chain.target(views, target, shared=fed.shared))

    def _outputs(self, parts: Sequence[Tensor], fed: Fed) -> Seen:
        """Outputs of any model that gives one tensor an example."""

        def one(batch: Any) -> Any:
            output, target, _ = self.objective.forward(self.stack.template, batch)
            return read_by(self.objective.function, output), target

        output, target = self._vmap(one, parts, fed)
        return Seen(output, target, shared=False)

    def _mapped(
        self, parts: Sequence[Tensor], fed: Fed
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Seen | None]:
        """Model and objective as they stand."""

        def one(batch: Any) -> Any:
            template = self.stack.template
            output, target, args = self.objective.forward(template, batch)
            loss = self.objective.trained(output, target, args, template)
            kept = (loss.output, target) if self.restores else ()
            return loss.value, dict(loss.terms), () if loss.penalty is None else loss.penalty, kept

        losses, terms, penalty, kept = self._vmap(one, parts, fed)
        seen = Seen(*kept, shared=False) if kept else None
        return losses, terms, penalty if isinstance(penalty, Tensor) else None, seen

    def _penalties(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The penalties of every member, (M,) each."""
        strengths = self.strengths
        act = self.objective.function.penalties if strengths is None else strengths.of
        found = self._vmap(lambda _: act(unwrap(self.stack.template)), parts, Fed((), shared=True))
        return found if strengths is None else strengths.times(found)

    def _vmap(self, act: Callable[[Any], Any], parts: Sequence[Tensor], fed: Fed) -> Any:
        """``act(batch)`` for every member, its tensors in the template."""
        leaves, spec = pytree.tree_flatten(fed.batch)

        def one(own: Any, others: Any, anchor: Tensor, *given: Any) -> Any:
            self.stack.put(own, others)
            self.draws.anchor = anchor
            made = act(pytree.tree_unflatten(list(given), spec))
            if not self.stack.still_there(others):
                raise TypeError("the model hangs new tensors in the places of its buffers")
            return made

        at = [None if fed.shared or not isinstance(leaf, Tensor) else 0 for leaf in leaves]
        anchor = torch.arange(len(self.stack), device=self.stack.flat.device)
        try:
            return side_by_side(one, (0, 0, 0, *at), list(parts), self.stack.others, anchor, *leaves)
        finally:
            self.stack.restore()

    # -- objectives ---------------------------------------------------------------------------------------

    def _risks(self, seen: Seen) -> Tensor:
        """The objective of every member, (M,), to go down on."""
        if self.means is not None:
            found = self.means(seen.output, seen.target, shared=seen.shared)
        else:
            found = means(cross_entropies(*self._table(seen)).reshape(len(seen.output), -1))
        return self.objective.sign * found

    def _entries(self, seen: Seen, rows: Sequence[int] | None = None) -> Tensor:
        """The losses of the examples of members, of all or of those in `rows`, (M, B)."""
        if self.means is not None:
            return self.means.entries(seen.output, seen.target, shared=seen.shared)
        return over_examples(cross_entropies(*self._table(seen, rows))).reshape(seen.output.shape[:2])

    def _table(self, seen: Seen, rows: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits and targets of the examples of all members in one table, and their label smoothing."""
        output, target = seen.output, seen.target
        members, count = output.shape[:2]
        target = target.expand(members, *target.shape) if seen.shared else target
        table, given = wide(output.flatten(0, 1)), target.flatten(0, 1)
        if not given.is_floating_point():
            table, given = indexed(table, given, "cross_entropy")
        shares = cast("list[float]", self.smoothings)
        shares = shares if rows is None else [shares[i] for i in rows]
        if not any(shares):
            return table, given, None
        share = torch.tensor(shares, dtype=table.dtype, device=table.device)
        return table, given, share.repeat_interleave(count)

    def measured(self, rows: Sequence[int], batch: Any) -> tuple[Tensor, Tensor, Sequence[Tensor]] | None:
        """Outputs in the user's units, losses of the examples and objectives of `rows`, in eval mode.

        None where they are not to be had without a look at each member.
        """
        chain = self.chain
        if chain is None or (self.smoothings is not None and left_out(self.ignored, batch[1])):
            return None
        views = self.stack.numbers
        if len(rows) < len(self.stack):
            index = torch.tensor(list(rows), device=self.stack.flat.device)
            views = {name: each[index] for name, each in views.items()}
        output = self._outputs_of(chain, views, batch[0])
        entries = self._entries(Seen(output, batch[1], shared=True), rows)
        if self.restores and not bool(entries.isfinite().all()):
            return None
        return output, entries, self._objectives(rows, output, batch[1], entries)

    def _outputs_of(self, chain: LayerChain, views: Views, x: Tensor) -> Tensor:
        """Outputs of all whose `views` these are, in passes of a size that stays in the cache.

        Convolutions are parted by examples, others by members: a product of fewer rows may have other bits.
        """
        members = len(next(iter(views.values())))
        if chain.convolves:
            size = len(x) if chain.mixes else max(1, IMAGES // members)
            parts = cast("tuple[Tensor, ...]", x.split(size))  # pyright: ignore[reportUnknownMemberType]
            return torch.cat([chain.forward(views, each, shared=True, whole=True) for each in parts], 1)
        size = max(1, ROWS // len(x))
        cuts = (slice(start, start + size) for start in range(0, members, size))
        some = [{name: each[cut] for name, each in views.items()} for cut in cuts]
        return torch.cat([chain.forward(each, x, shared=True, whole=True) for each in some])

    def _objectives(
        self, rows: Sequence[int], output: Tensor, target: Any, entries: Tensor
    ) -> Sequence[Tensor]:
        """What the objectives of the members in `rows` give, each to go down on."""
        if self.smoothings is not None and output.dim() == 3 and not any(self.smoothings[i] for i in rows):
            return (self.objective.sign * means(entries)).unbind()
        pairs = zip(rows, output, strict=True)
        return [self.objectives[i].of(made, target, (), self.models[i]).value for i, made in pairs]

    def _values(self, losses: Tensor, penalty: Tensor | None, seen: Seen | None, fed: Fed) -> list[float]:
        """What is reported of each member, as ``Step.forward`` does."""
        sign = self.objective.sign
        values = cast("list[float]", (sign * losses).tolist())
        if self.restores and seen is not None:
            return [
                self._restored(i, seen, fed) if math.isfinite(value) else value
                for i, value in enumerate(values)
            ]
        if penalty is None:
            return values
        risks = cast("list[float]", (sign * (losses - penalty.detach())).tolist())
        return [risk if math.isfinite(value) else value for risk, value in zip(risks, values, strict=True)]

    def _restored(self, i: int, seen: Seen, fed: Fed) -> float:
        """The risk of one member in the user's units."""
        output, target = (
            pytree.tree_map_only(Tensor, lambda leaf: leaf[i].detach(), each) for each in (seen.output, ())
        )
        loss = Loss(torch.zeros(()), output, target, {})
        return self.objectives[i].restored(self.models[i], loss, fed.of(i)).item()


def _is_pair(state: StepState) -> bool:
    """Whether a batch is one input and its target, which no split of the user's takes apart."""
    batch: Any = state.batch
    pair = isinstance(batch, (tuple, list)) and len(cast("tuple[Any, ...]", batch)) == 2
    return pair and state.problem.split is None and all(isinstance(each, Tensor) for each in batch)
