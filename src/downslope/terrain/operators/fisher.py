"""The Fisher information matrix: true, over targets that the model draws, and empirical, over those given.

Amari 1998, Natural gradient works efficiently in learning; Martens 2020, New insights and perspectives on the
natural gradient method, sections 5 and 9; Kunstner, Balles and Hennig 2019, Limitations of the empirical
Fisher approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.errors import InputError, ObjectiveError
from downslope.terrain.operators.likelihoods import information
from downslope.terrain.operators.outputs import Outputs
from downslope.terrain.operators.shares import shares

Kind = Literal["true", "empirical"]
Middle = Callable[[Sequence[Tensor]], list[Tensor]]


class Fisher:
    """``F = J^T M J`` on flat vectors, positive semidefinite.

    ``kind="true"``: M is the Fisher information of the output under the distribution whose negative
    log-likelihood the objective is, in closed form, expected over the targets that the model itself would
    draw; nothing is sampled. Where the output is that distribution's natural parameter (cross-entropy and
    logistic on logits, squared error) it does not depend on the target, and F is the generalised
    Gauss-Newton matrix without penalties (Martens 2020, section 9).

    ``kind="empirical"``: ``F = sum_i c_i g_i g_i^T`` with g_i the gradient of example i's own loss and c_i
    its share in the mean, which is 1/n, or what of its targets counts, and 1 in a sum
    (`downslope.terrain.operators.shares`). The g_i are never formed: M takes
    ``(J v)_i`` of each example to ``s_i (s_i^T (J v)_i) / c_i``, s_i the slope of the objective by its
    outputs. That needs outputs that hang on their own example alone: not batch norm in training mode.

    Penalties are no part of either: weights have no likelihood.

    Args:
        outputs: Of the model on a batch.
        kind: Which.

    Attributes:
        note: What is to be known of the shares, where the objective is no mean and no sum; else None.

    Raises:
        ObjectiveError: the objective is no negative log-likelihood ("true"), the outputs cannot be told apart
            by example ("empirical"), or the objective reads the model itself.
        InputError: another kind.
    """

    def __init__(self, outputs: Outputs, kind: Kind) -> None:
        check_kind(kind)
        if outputs.objective.wants_model:
            raise ObjectiveError(
                f"fisher({kind!r}): {outputs.objective.label} reads the model itself, and what hangs on "
                "weights past the output has no part in a Fisher matrix; take hessian() or gauss_newton()"
            )
        self.outputs = outputs
        self.size = outputs.size
        self.note: str | None = None
        if kind == "true":
            self._middle: Middle = information(outputs)
        else:
            found = shares(outputs)
            self.note = found.note
            self._middle = _by_example(outputs, found.each)

    @property
    def exact(self) -> bool:
        """False where ``J v`` is a difference of outputs."""
        return self.outputs.exact

    def product(self, vector: Tensor) -> Tensor:
        """``F v``, shape (size,)."""
        return self.outputs.transposed(self._middle(self.outputs.jacobian(vector)))


def check_kind(kind: Kind) -> Kind:
    """Refuse another word.

    Raises:
        InputError: it is none of the two.
    """
    if kind not in ("true", "empirical"):
        raise InputError(
            f"fisher({kind!r}): must be 'true' (the model's targets) or 'empirical' (the data's)"
        )
    return kind


def _by_example(outputs: Outputs, share: Tensor) -> Middle:
    """``u -> s (s . u) / c``, example by example."""
    count, c = len(share), share.to(outputs.slopes[0] if outputs.slopes else outputs.params[0])
    used = [i for i, slope in enumerate(outputs.slopes) if bool(slope.any())]
    axes = {i: batches.axis_of_examples([outputs.slopes[i]], [count]) for i in used}
    wrong = [tuple(outputs.slopes[i].shape) for i in used if outputs.slopes[i].dim() <= (axes[i] or 0)]
    wrong += [tuple(outputs.slopes[i].shape) for i in used if axes[i] is None]
    if wrong:
        raise ObjectiveError(
            f"fisher('empirical') needs the gradient of each of {count} examples, and an output of shape "
            f"{wrong[0]} does not say which of it belongs to which; put the examples first"
        )
    rows = {i: _rows(outputs.slopes[i], axes[i] or 0, count) for i in used}

    def middle(parts: Sequence[Tensor]) -> list[Tensor]:
        along = [(rows[i] * _rows(parts[i], axes[i] or 0, count)).sum(1) for i in used]
        factor = torch.where(c > 0, torch.stack(along).sum(0) / c, 0.0) if used else c
        found = [torch.zeros_like(each) for each in parts]
        for i in used:
            found[i] = _back(rows[i] * factor[:, None], found[i], axes[i] or 0)
        return found

    return middle


def _rows(part: Tensor, axis: int, count: int) -> Tensor:
    """`part` with one row an example, shape (count, k)."""
    moved = part.movedim(axis, 0)
    return moved.reshape(count, -1)


def _back(rows: Tensor, like: Tensor, axis: int) -> Tensor:
    """The reverse of `_rows`."""
    return rows.reshape(like.movedim(axis, 0).shape).movedim(0, axis)
