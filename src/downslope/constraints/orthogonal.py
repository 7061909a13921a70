"""Orthogonal matrices: rows (of a tall matrix: columns) of length 1 at right angles; Stiefel's manifold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from downslope.constraints.constraint import By, Constraint
from downslope.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Orthogonal(Constraint):
    """``{W : W W^T = I}``, or ``W^T W = I`` of a tall one; not convex: between W and -W lies 0.

    The nearest point of ``W = U S V^T`` is its polar factor ``U V^T`` (Fan and Hoffman 1955); where a
    singular value is 0 it is one of several. Axes after the first are flattened.
    """

    name: ClassVar[str] = "orthogonal"
    convex: ClassVar[bool | None] = False

    def project(self, w: Tensor) -> Tensor:
        """The polar factor.

        Raises:
            InputError: a vector, which has no rows at right angles.
        """
        if w.dim() < 2:
            raise InputError(f"orthogonal: a parameter of shape {tuple(w.shape)} is no matrix; name others")
        flat = w.flatten(1)
        wide = flat.double() if flat.device.type != "mps" else flat
        u, _, vh = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(wide, full_matrices=False))
        return (u @ vh).to(w.dtype).reshape(w.shape)

    def map(self, w: Tensor) -> nn.Module:
        """Torch's own parametrisation, by the exponential of a skew matrix or by Householder's reflections.

        Raises:
            InputError: more than two axes.
        """
        if w.dim() != 2:
            raise InputError(
                f"orthogonal: a parameter of shape {tuple(w.shape)} has no parametrisation in torch; "
                "by='projection' holds it"
            )
        made: Any = parametrizations.orthogonal(_Holder(self.project(w)))
        return cast("nn.Module", made.parametrizations.weight[0])


class _Holder(nn.Module):
    """A weight alone, from which torch reads what its parametrisation needs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())


def orthogonal(*, params: str | tuple[str, ...] = (), by: By = "projection") -> Orthogonal:
    """Rows (of a tall matrix: columns) of length 1 at right angles.

    Args:
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return Orthogonal(params=params, by=by)
