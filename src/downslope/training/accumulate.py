"""Gradient accumulation: the gradient of a whole batch, put together from parts that fit into memory.

    grad L(B) = sum_i w_i grad L(B_i),   w_i = n_i / n for a mean over what counts, 1 for a sum

What counts is not the example where targets are masked or classes are weighted: a mean over tokens weighs a
part by its tokens (transformers#34191 weighed parts alike). So the weights are never trusted: every step the
objective of all outputs together is compared with the weighted sum. Where they differ, the objective couples
its examples (a softmax over the batch, a rank, an area under a curve), and the gradient goes through the
outputs, which is exact for any objective and costs one forward pass more:

    grad L = sum_i J_i^T dL/do_i,   o_i = f(x_i)          (Gao et al. 2021, gradient cache, arXiv 2101.06983)
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import Adapted
from downslope.core.class_targets import IGNORED
from downslope.core.counted import Counted, by_examples, counts
from downslope.core.errors import RecipeError
from downslope.core.loss import Loss, learnt
from downslope.training.state import StepState

_log = logging.getLogger("downslope")

_NORMS = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] (base of all batch norms)

Weights = Callable[[Sequence[Any], Sequence[int]], list[float]]


class Parts:
    """Forward and backward pass of one batch in parts.

    Args:
        state: Model and objective, on their device.
        forward: The objective on one part, with a graph.
        context: Under which objectives are formed (autocast).

    Attributes:
        rewind: Puts the step's randomness back to its start, so that a second pass draws the same.

    Raises:
        RecipeError: the gradients of the objective cannot be put together from parts.
    """

    def __init__(
        self,
        state: StepState,
        forward: Callable[[Any], Loss],
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.state, self._forward, self._context = state, forward, context
        self.rewind: Callable[[], None] = lambda: None
        self.count = state.recipe.accumulate
        self._weigh: Weights | None = None
        self._through = self._tried = False
        if hasattr(state.objective.function, "combine"):
            raise RecipeError(
                f"accumulate={self.count}: {state.objective.label} combines the gradients of its terms, "
                "which no weighted sum over parts gives; take accumulate=1"
            )
        if any(isinstance(module, _NORMS) for module in state.model.modules()):
            _log.warning(
                "accumulate=%d: batch norm takes its statistics from each part, not from the whole batch",
                self.count,
            )

    def forward(self, batch: Any) -> Loss:
        """The objective on the whole of `batch`; its gradient stands in ``.grad`` from now on.

        Where the objective is not finite the former gradient stays.

        Raises:
            RecipeError: a model with a loss of its own that no weights put together.
        """
        parts = cut(batch, self.count)
        parameters = [p for p in self.state.model.parameters() if p.requires_grad]
        if (beside := learnt(self.state.objective.function)) is not None:
            parameters += beside.parameters()
        former = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        buffers = [(each, each.clone()) for each in self.state.model.buffers()] if not self._through else []
        whole = self._through_outputs(batch, parts) if self._through else self._weighted(batch, parts)
        if whole is None:  # the weights were wrong
            for p in parameters:
                p.grad = None
            with torch.no_grad():
                for each, kept in buffers:
                    each.copy_(kept)
            self.rewind()
            whole = self._through_outputs(batch, parts)
        if not bool(torch.isfinite(whole.value)):
            for p, grad in zip(parameters, former, strict=True):
                p.grad = grad
        return whole

    # -- parts as pieces of a ground ----------------------------------------------------------------------

    def pieces(self, batch: Any) -> list[tuple[Any, float]]:
        """The parts of `batch` and their weights, of which its objective is the weighted sum.

        Raises:
            RecipeError: it is none, as the objective couples its examples.
        """
        parts = cut(batch, self.count)
        if self._weigh is None:
            self._weigh = self._chosen(batch)
        sizes, targets = [batches.length(part) for part in parts], [self._target(part) for part in parts]
        weights = self._weigh(targets, sizes)
        if not self._tried and self.state.objective.function is not None:
            buffers = [(each, each.clone()) for each in self.state.model.buffers()]
            with torch.no_grad():
                found = [self._forward(part) for part in parts]
                total = torch.stack([w * each.value.double() for w, each in zip(weights, found, strict=True)])
                whole = self._whole(batch, found, sizes)
                for each, kept in buffers:
                    each.copy_(kept)
            if bool(torch.isfinite(whole.value)) and not _close(whole, total):
                raise RecipeError(
                    f"accumulate={self.count} with {self.state.recipe.optimizer}: the objective of a batch "
                    "is no weighted sum over its parts, of which curvature is put together; take accumulate=1"
                )
            self._tried = True
        return list(zip(parts, weights, strict=True))

    def whole(self, batch: Any, found: Sequence[Loss]) -> Loss:
        """The objective of the outputs of all parts together, without a graph."""
        if self.state.objective.function is None:
            return found[-1]
        return self._whole(batch, found, [batches.length(part) for part in cut(batch, self.count)])

    # -- parts weighted -----------------------------------------------------------------------------------

    def _weighted(self, batch: Any, parts: Sequence[Any]) -> Loss | None:
        """One pass; None where the weighted sum is not the objective of the whole."""
        sizes = [batches.length(part) for part in parts]
        targets = [self._target(part) for part in parts]
        if self._weigh is None:
            self._weigh = self._chosen(batch)
        weights = self._weigh(targets, sizes)
        found = [self._part(part, weight) for part, weight in zip(parts, weights, strict=True)]
        # A part whose targets are all masked weighs nothing, and its own mean is 0 / 0.
        values = [w * each.value.double() for w, each in zip(weights, found, strict=True) if w]
        total = torch.stack(values)
        if self.state.objective.function is None:
            return found[-1]._replace(value=total.sum().to(found[-1].value.dtype))
        whole = self._whole(batch, found, sizes)
        if not bool(torch.isfinite(whole.value)) or _close(whole, total):
            return whole
        self._through = True
        _log.warning(
            "accumulate=%d: %s of a batch is no weighted sum over its parts (it couples the examples): the "
            "gradient goes through the outputs, exact, with one forward pass more",
            self.count, self.state.objective.label,
        )  # fmt: skip
        return None

    def _part(self, part: Any, weight: float) -> Loss:
        if not weight:
            with torch.no_grad():
                return detached(self._forward(part))
        loss = self._forward(part)
        (weight * loss.value).backward()
        return detached(loss)

    def _whole(self, batch: Any, found: Sequence[Loss], sizes: Sequence[int]) -> Loss:
        """The objective of the outputs of all parts together."""
        args, kwargs, _ = self.state.objective.split(batch)
        output = batches.join([each.output for each in found], sizes)
        target = batches.join([each.target for each in found])
        with torch.no_grad(), self._context():
            return self.state.objective.trained(output, target, args or (kwargs,), self.state.model)

    def _target(self, part: Any) -> Any:
        target = self.state.objective.split(part)[2]
        return self.state.model.training_target(target) if isinstance(self.state.model, Adapted) else target

    def _chosen(self, batch: Any) -> Weights:
        """What the parts are weighed by; of a model with a loss of its own, by trial on five examples."""
        function = self.state.objective.function
        if getattr(function, "reduction", None) == "sum":
            return _alike
        counted = counts(function) or Counted(IGNORED, None)
        if function is not None:
            return counted
        few = batches.map_tensors(lambda leaf: leaf[:5], batch)
        size = batches.length(few)
        if size < 5:
            return counted
        parts = [batches.map_tensors(lambda leaf, at=at: leaf[at], few) for at in (slice(3), slice(3, 5))]
        targets = [self._target(part) for part in parts]
        model = self.state.model
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad():
                values = [self._forward(part).value.double() for part in parts]
                whole = self._forward(few)
        finally:
            for module, training in modes:
                module.training = training
        for weigh in (Counted(IGNORED, None, shifted=True), counted, by_examples, _alike):
            total = torch.stack([w * v for w, v in zip(weigh(targets, [3, 2]), values, strict=True)])
            if _close(whole, total):
                return weigh
        raise RecipeError(
            f"accumulate={self.count}: the model's own loss of a batch is neither a mean nor a sum over its "
            "parts, so their gradients cannot be put together; give an objective, or take accumulate=1"
        )

    # -- parts through the outputs ------------------------------------------------------------------------

    def _through_outputs(self, batch: Any, parts: Sequence[Any]) -> Loss:
        """Two passes: the outputs of all parts, the objective's gradient in them, then each part's own."""
        model = self.state.model
        kept = [(each, each.clone()) for each in model.buffers()]
        with torch.no_grad():
            first = [self._forward(part) for part in parts]
            for each, former in kept:
                each.copy_(former)
        leaves = [
            [t.detach().requires_grad_() for t in batches.tensors(each.output) if t.is_floating_point()]
            for each in first
        ]
        outputs = [_with_leaves(each.output, own) for each, own in zip(first, leaves, strict=True)]
        args, kwargs, _ = self.state.objective.split(batch)
        target = batches.join([each.target for each in first])
        with self._context():
            joined = batches.join(outputs, [batches.length(part) for part in parts])
            whole = self.state.objective.trained(joined, target, args or (kwargs,), model)
        if not bool(torch.isfinite(whole.value)):
            return detached(whole)
        whole.value.backward()
        self.rewind()
        for part, own in zip(parts, leaves, strict=True):
            made = [t for t in batches.tensors(self._forward(part).output) if t.is_floating_point()]
            pairs = [(t, leaf.grad) for t, leaf in zip(made, own, strict=True) if leaf.grad is not None]
            wanted = [(t, g) for t, g in pairs if t.requires_grad]
            if wanted:
                torch.autograd.backward([t for t, _ in wanted], [g for _, g in wanted])
        return detached(whole)


def cut(batch: Any, count: int) -> list[Any]:
    """`batch` in at most `count` parts of consecutive examples, as equal as can be: views, not copies."""
    if count == 1:
        return [batch]
    size = batches.length(batch)
    count = min(count, size)
    edges = [i * size // count for i in range(count + 1)]
    return [
        batches.map_tensors(lambda leaf, a=a, b=b: leaf[a:b], batch) for a, b in itertools.pairwise(edges)
    ]


def _alike(targets: Sequence[Any], sizes: Sequence[int]) -> list[float]:
    del targets
    return [1.0] * len(sizes)


def _close(whole: Loss, total: Tensor) -> bool:
    """Whether the weighted parts add up to the whole, but for the rounding of the loss's own precision."""
    tensors = [t for t in batches.tensors(whole.output) if t.is_floating_point()]
    eps = max(torch.finfo(t.dtype).eps for t in [*tensors, whole.value])
    size = max(float(total.abs().sum()), abs(float(whole.value)))
    return abs(float(whole.value) - float(total.sum())) <= 64 * eps * size


def detached(loss: Loss) -> Loss:
    """`loss` without its graph."""
    terms = {name: term.detach() for name, term in loss.terms.items()}
    output = batches.map_tensors(lambda t: t.detach(), loss.output)
    penalty = None if loss.penalty is None else loss.penalty.detach()
    return Loss(loss.value.detach(), output, loss.target, terms, penalty=penalty)


def _with_leaves(output: Any, leaves: Sequence[Tensor]) -> Any:
    """`output` with its floating tensors replaced, in stored order."""
    left = iter(leaves)
    return batches.map_tensors(lambda t: next(left) if t.is_floating_point() else t, output)
