"""The numbers of one step that a rule works with, and how far its sums reach."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from downslope.core.errors import RecipeError

__all__ = ["Scalar", "Scalars", "Scope", "check_scope", "widest"]

Scalar = float | Tensor
"""A number, or a float64 tensor of one number per member of a population."""

Scope = Literal["element", "tensor", "matrix", "global"]
"""What one output element depends on: its own element, its tensor, its matrix, or every parameter."""

SCOPES: tuple[Scope, ...] = ("element", "tensor", "matrix", "global")
"""From the narrowest to the widest."""


def check_scope(rule: str, scope: object) -> None:
    """Refuses a scope that does not exist.

    Raises:
        RecipeError: `scope`, of the class `rule`, is none of `SCOPES`.
    """
    if isinstance(scope, str) and scope not in SCOPES:
        raise RecipeError(f"scope={scope!r} of {rule} is not known: say one of {', '.join(SCOPES)}")


def widest(scopes: Iterable[Scope]) -> Scope:
    """The widest of `scopes`; "element" if there is none."""
    return SCOPES[max((SCOPES.index(scope) for scope in scopes), default=0)]


class Scalars(SimpleNamespace):
    """The derived scalars of one step, by name; each was formed in float64."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Scalar: ...

    def fit(self, p: Tensor) -> Scalars:
        """The same scalars such that they broadcast against `p`, whose leading dimension is the members'.

        Tensors take `p`'s dtype and device and trailing dimensions of size one; numbers stay numbers.
        """
        return Scalars(**{name: _fitted(value, p) for name, value in vars(self).items()})

    def of(self, place: int | slice) -> Scalars:
        """Those of one parameter, or of some, where there is a number for each."""
        values = vars(self).items()
        return Scalars(**{name: v[place] if isinstance(v, Tensor) and v.ndim else v for name, v in values})


def _fitted(value: Any, p: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0 and value.device.type == "cpu":
        return float(value)  # not rounded to p's dtype, as a number is not
    return value.to(device=p.device, dtype=p.dtype).reshape(value.shape + (1,) * (p.ndim - value.ndim))
