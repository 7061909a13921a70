"""Kinds of tensors: dense or sparse gradients, real or complex, full or half precision; how each is stepped.

complex                  as pairs of reals, by any backend (`seats.Pairs`)
half precision           "master": its float32 copy, by any backend (`seats.Master`)
                         else: torch's kernel, or the rules in float32, rounded once at the end (`wide`)
sparse gradient          the rows that it names, by the rules (`rows`, `wide`)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from downslope.core.errors import DownslopeError, ModelError, RecipeError
from downslope.optim.rounding import HALVES
from downslope.optim.routes import Routes, routed
from downslope.optim.rows import is_sparse
from downslope.optim.rule import Chain
from downslope.optim.seats import Master, Pairs, Seat

__all__ = ["PLAIN", "Manner", "as_seen", "check_parameters", "manner_of", "seat_of"]


class Manner(NamedTuple):
    """How a parameter is stepped, as its tensors and its group say."""

    sparse: bool = False
    """Whether its gradient is."""
    rounding: str | None = None
    """Of a parameter of half precision."""
    wide_state: bool = False
    """Whether such a one has float32 states."""
    pairs: bool = False
    """Whether it is complex."""
    float16: bool = False
    """Which half precision it has."""

    @property
    def rounds(self) -> bool:
        """Whether no kernel takes such a step: all of them round states and parameters to the nearest."""
        return self.rounding == "stochastic" or (self.wide_state and self.rounding != "master")

    @property
    def counts(self) -> bool:
        """Whether the parameter has a state whatever its rules have: a copy, or how often it was rounded."""
        return self.rounding in ("stochastic", "master")

    @property
    def seen(self) -> str:
        """What is stepped in the parameter's place, to be added to the reason of a backend."""
        copied = self.rounding == "master" and not self.sparse
        return " (pairs of reals)" if self.pairs else " (its float32 copy)" if copied else ""

    def __str__(self) -> str:
        state = ", states in float32" if self.wide_state else ""
        return f"in float32, rounding {self.rounding}{state}"


PLAIN = Manner()


def manner_of(p: Tensor, group: Mapping[str, Any]) -> Manner:
    """How the entries of its `group` and its present gradient have `p` stepped."""
    sparse = p.grad is not None and is_sparse(p.grad)
    if p.dtype not in HALVES:
        return Manner(sparse, pairs=p.is_complex())
    return Manner(
        sparse,
        group.get("rounding", "nearest"),
        group.get("state_dtype") == "float32",
        float16=p.dtype == torch.float16,
    )


def seat_of(p: Tensor, table: MutableMapping[Tensor, Any], manner: Manner) -> Seat | None:
    """What is stepped in the place of `p`; None where it is `p` itself."""
    if p.is_complex():
        return Pairs(p, table)
    return Master(p, table) if manner.rounding == "master" and not manner.sparse else None


def as_seen(p: Tensor, manner: Manner) -> Tensor:
    """A tensor that looks as what is stepped in the place of `p`; nothing is made for it."""
    if p.is_complex():
        return torch.view_as_real(p.detach())
    return p.detach().float() if manner.rounding == "master" and not manner.sparse else p


def check_parameters(params: Any, made: Chain | Routes) -> None:
    """Refuses parameters, or named ones, that their chain cannot step.

    Raises:
        ModelError: sparse, a conjugate, half complex, or complex where rules look at whole matrices.
    """
    routes = routed(made).active()
    listed = [params] if isinstance(params, Tensor) else cast("Iterable[Any]", params or ())
    for i, entry in enumerate(listed):
        name, p = cast("tuple[str, Any]", entry) if isinstance(entry, tuple) else ("", entry)
        if isinstance(p, Tensor):
            _check_index(routes, p, name)
        if isinstance(p, Tensor) and (p.is_complex() or is_sparse(p)):
            _check_parameter(i, p, routes.chains[routes.index(p, name)])


def _check_index(routes: Routes, p: Tensor, name: str) -> None:
    """Asks the predicates, which may ask for names, or be functions that go wrong."""
    try:
        routes.index(p, name)
    except DownslopeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"a predicate of a route raised {type(error).__name__} ({str(error)[:80]}): it is called with "
            "(parameter, name), the name '' where there is none, and returns True or False"
        ) from error


def _check_parameter(i: int, p: Tensor, chain: Chain) -> None:
    if is_sparse(p):
        raise ModelError(
            f"parameter {i} is itself sparse ({p.layout}): a dense parameter may have sparse gradients; make "
            "it dense with to_dense()"
        )
    if not p.is_complex():
        return
    if p.dtype == torch.complex32 or p.is_conj():
        what = "complex32" if p.dtype == torch.complex32 else "the lazy conjugate of another tensor"
        way = "make it complex64" if p.dtype == torch.complex32 else "call resolve_conj() on it"
        raise ModelError(f"parameter {i} is {what}, whose parts cannot be seen as pairs of reals; {way}")
    wide = next((type(link).__name__ for link in chain.links if link.scope == "matrix"), None)
    if wide is not None:
        raise ModelError(
            f"parameter {i} is {p.dtype}: {wide} takes a parameter as a real matrix; give complex ones to "
            "another optimizer, such as Adam"
        )
