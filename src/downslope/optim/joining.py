"""What a chain refuses: links whose names meet, in an order that is none, or that are no rules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from downslope.core.errors import RecipeError

if TYPE_CHECKING:
    from downslope.optim.rule import AnyRule

__all__ = ["check_links", "no_rule"]


def no_rule(given: object) -> RecipeError:
    """The error for what stands in a chain and is no rule."""
    if isinstance(given, type):
        what = f"{given.__name__} is a class"
        way = f"make the link: {given.__name__}(...)"
    elif isinstance(given, torch.optim.Optimizer):
        what = f"{type(given).__name__}(...) is an optimizer, which has its parameters"
        way = f"take its rules: {type(given).__name__}.compose(settings), or the links it is made of"
    else:
        what, way = f"{given!r} is no rule", "pass links such as ScaleByAdam() and ScaleByLr(lr=0.001)"
    return RecipeError(f"chain takes rules, chains and routes, and {what}; {way}")


def check_links(links: Sequence[AnyRule]) -> None:
    """Refuses links that cannot be one chain.

    Raises:
        RecipeError: two links have a hyper-parameter or a state of one name, unless one of them only shares
            it, or share one with another value; a link behind one that must be the last.
    """
    for kind, names in (("hyper-parameter", _owners(links)), ("state", _holders(links))):
        for name, owners in names.items():
            if len(owners) > 1:
                raise RecipeError(
                    f"{' and '.join(owners)} both have a {kind} {name!r}: names in a chain must differ, "
                    "they become entries of one parameter group; rename the field in one of them"
                )
    _check_shared(links)
    _check_ends(links)


def _check_ends(links: Sequence[AnyRule]) -> None:
    for former, link in itertools.pairwise(links):
        if former.ends and link.ends < 2:
            raise RecipeError(
                f"{type(link).__name__} stands behind {type(former).__name__}, which holds weights of its "
                f"own and must see the whole step: put {type(former).__name__} last in the chain"
            )


def _check_shared(links: Sequence[AnyRule]) -> None:
    values = {
        name: value for link in links for name, value in link.fields().items() if name not in link.shares
    }
    for link in links:
        for name in link.shares:
            value = link.fields()[name]
            if values.setdefault(name, value) != value:
                raise RecipeError(
                    f"{type(link).__name__} has {name}={value!r}, the chain {values[name]!r}: it is one "
                    "hyper-parameter; give both the same"
                )


def _owners(links: Sequence[AnyRule]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for link in links:
        for name in [name for name in link.fields() if name not in link.shares]:
            owners.setdefault(name, []).append(type(link).__name__)
    return owners


def _holders(links: Sequence[AnyRule]) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = {}
    for link in links:
        for name in (*link.keys, *link.tally):
            holders.setdefault(name, []).append(type(link).__name__)
    return holders
