"""From whatever was given to the site that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.terrain import functions
from downslope.terrain.escapes.sites.learnt import learnt
from downslope.terrain.escapes.sites.named import network, of_function
from downslope.terrain.escapes.sites.site import Inside, Site
from downslope.terrain.escapes.sites.tilted import tilted
from downslope.terrain.functions import Function
from downslope.terrain.functions.own import check_values
from downslope.terrain.ground.stand import Standing

Where = str | Site | Problem | Function | Callable[[Tensor], Tensor]
"""A name, a site, a problem, a classic function, or any function of points of shape (..., size)."""

_TAKES = ("point", "inside", "noise", "examples")


def site_of(
    where: Where,
    *,
    point: Any = None,
    model: Standing = None,
    inside: float | Inside | None = None,
    noise: float | None = None,
    examples: int | Literal["all"] | None = None,
) -> Site:
    """The site of a name, a problem at a model, or a function at a point.

    Args:
        where: What is to be left: the name of a function, or "deep_linear" or "symmetric_mlp", and so on.
        point: Of a function: numbers or a tensor, of a classic one also "saddle" or "minimum".
        model: Of a problem.
        inside: A radius, or a predicate on points of shape (members, size).
        noise: Of a function: standard deviation of one example's slope, see `tilted`.
        examples: That the loss is a mean over.

    Raises:
        InputError: what does not belong to what was given, or a function without a point.
        ObjectiveError: a function that does not give a value for each point.
    """
    told: dict[str, Any] = {
        "point": point,
        "model": model,
        "inside": inside,
        "noise": noise,
        "examples": examples,
    }
    told = {name: value for name, value in told.items() if value is not None}
    if isinstance(where, Site):
        return _only(told, (), "a site", lambda: where)
    if isinstance(where, str):
        named = known(where, examples if isinstance(examples, int) else None)
        if isinstance(named, Site):
            return _only(told, ("examples",), f"the network {where!r}", lambda: named)
        where = named
    if isinstance(where, Function):
        return _only(told, _TAKES, "a function", lambda: of_function(where, **told))
    if isinstance(where, Problem):
        return _only(told, ("model", "inside", "examples"), "a problem", lambda: learnt(where, **told))
    given = cast("Any", where)
    if not callable(given):
        raise InputError(
            f"cannot escape from {type(given).__name__}: give a name such as 'saddle', a problem, a function"
        )
    return _only(
        told,
        ("point", "inside", "noise", "examples"),
        "a function",
        lambda: _function(cast("Any", given), told),
    )


def known(name: str, examples: int | None = None) -> Site | Function:
    """What a name stands for: the site of a network, or a classic function.

    Raises:
        UnknownNameError: neither.
        InputError: a setting that it does not have, or outside its domain.
    """
    return network(name, examples) or functions.get(name)


def _only(told: dict[str, Any], allowed: tuple[str, ...], what: str, make: Callable[[], Site]) -> Site:
    for name in told:
        if name not in allowed:
            listed = f"; {what} takes {', '.join(allowed)}" if allowed else ""
            raise InputError(f"{name}= does not belong to {what}{listed}")
    return make()


def _function(function: Callable[[Tensor], Tensor], told: dict[str, Any]) -> Site:
    if "point" not in told:
        raise InputError("a function needs point=, where it is critical: escape(f, point=[0.0, 0.0])")
    point = torch.as_tensor(told.pop("point"), dtype=torch.float64).reshape(-1)
    check_values(function, point)
    name = getattr(function, "name", None) or getattr(function, "__name__", "function")
    return tilted(function, point, name=str(name), **told)
