"""Which parameters a route takes, said as data: by name, dimensions, shape and role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.groups import Group
from downslope.core.names import did_you_mean
from downslope.optim.roles import ROLES, check_found, check_roles, known_as, role_of, spellings
from downslope.optim.routes import Routes, Where, names_of, routed
from downslope.optim.rule import AnyRule, Chain, chain

__all__ = ["Pick", "check_patterns", "picked", "route"]


@runtime_checkable
class Checked(Protocol):
    """A predicate that was written down in names or patterns."""

    def check_names(self, named: Sequence[str]) -> None:
        """Refuses those that fit none of `named`."""
        ...


_NAMED = {"embedding", "head", "norm"}
"""Roles that no shape tells."""

_KEYS = ("params", "ndim", "shape", "role")


@dataclass(frozen=True)
class Pick:
    """A predicate that can be written down: whatever is given must hold.

    Args:
        params: names, or patterns in which ``*`` is any text; any of them.
        ndim: numbers of dimensions; any of them.
        shape: sizes, in which None is any size.
        role: any of ``"embedding"``, ``"head"``, ``"norm"``, ``"bias"``, ``"hidden"``.
        roles: names or patterns to roles, as `downslope.optim.roles` finds them in a model; without, the
            role is read off name and shape.
    """

    params: tuple[str, ...] = ()
    ndim: tuple[int, ...] = ()
    shape: tuple[int | None, ...] | None = None
    role: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict[str, str])

    def __call__(self, p: Tensor, name: str = "") -> bool:
        """Whether the parameter is one of these.

        Raises:
            RecipeError: it has no name, and what is given asks for names.
        """
        if not name and (self.params or (self.role and (self.roles or set(self.role) & _NAMED))):
            asked = {"params": list(self.params)} if self.params else {"role": list(self.role)}
            raise RecipeError(
                f"{asked} asks for names, and parameters were given without: pass model.named_parameters()"
            )
        if not Group(params=self.params, ndim=self.ndim).takes(spellings(name), p.ndim):
            return False
        if self.shape is not None and not _alike(tuple(p.shape), self.shape):
            return False
        return not self.role or role_of(p, name, self.roles) in self.role

    def check_names(self, named: Sequence[str]) -> None:
        """Refuses a name or pattern that fits no parameter of an optimizer.

        A table of roles that has all of `named` is of a whole model: what else it names lies in other parts.

        Raises:
            RecipeError: it fits none.
        """
        of_all = bool(self.roles) and all(known_as(name, self.roles) for name in named)
        others = [key for key in self.roles if "*" not in key] if of_all else []
        check_found((*self.params, *self.roles), [*named, *others])

    def to_dict(self) -> dict[str, Any]:
        """The table that `picked` reads; roles are not part of it."""
        listed = {key: getattr(self, key) for key in _KEYS}
        return {key: list(value) for key, value in listed.items() if value}


def _alike(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(want is None or size == want for size, want in pairs)


def picked(given: Any, roles: Mapping[str, str] | None = None) -> Pick:
    """The `Pick` that a table says: ``{"role": ["hidden"], "ndim": [2]}``; one value stands for a list of it.

    Raises:
        RecipeError: a misspelt key, a role that is none, or a value of another kind.
    """
    if isinstance(given, Pick):
        return given
    if not isinstance(given, Mapping):
        raise RecipeError(
            f"{given!r} does not say which parameters: must be a table of {', '.join(_KEYS)}, such as "
            "{'role': ['hidden'], 'ndim': [2]}"
        )
    table = cast("Mapping[str, Any]", given)
    for key in table:
        if key not in _KEYS:
            raise RecipeError(f"{key!r} does not say which parameters{did_you_mean(key, _KEYS)}")
    role = _several(table, "role", str)
    for each in role or ():
        if each not in ROLES:
            raise RecipeError(f"role={each!r}: must be one of {', '.join(ROLES)}{did_you_mean(each, ROLES)}")
    return Pick(
        params=_several(table, "params", str) or (),
        ndim=_several(table, "ndim", int) or (),
        shape=_several(table, "shape", (int, type(None))),
        role=role or (),
        roles=check_roles(roles) or {},
    )


def _several(table: Mapping[str, Any], key: str, kind: Any) -> tuple[Any, ...] | None:
    given = table.get(key)
    if given is None:
        return None
    listed = list(cast("Sequence[Any]", given)) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(each, kind) and not isinstance(each, bool) for each in listed):
        raise RecipeError(f"{key}={given!r}: must be one or a list of {'names' if kind is str else 'sizes'}")
    return tuple(listed)


def route(
    *routes: tuple[Where | Mapping[str, Any], Chain | AnyRule],
    otherwise: Chain | AnyRule,
    roles: Mapping[str, str] | None = None,
) -> Routes:
    """Several chains for one optimizer: each parameter takes the first whose predicate it fits.

        rule = ds.optim.route(
            ({"role": ["embedding", "head"]}, chain(ScaleByAdam(), ScaleByLr(lr=3e-4))),
            ({"ndim": [2], "params": ["blocks.*"]}, chain(Orthogonalise(), ScaleByLr(lr=3e-4))),
            otherwise=chain(ScaleByLr(lr=3e-4)),
            roles=ds.optim.roles(model),
        )
        ds.optim.Custom(model.named_parameters(), rule)

    Each route keeps what it was given: no decay on biases is ``({"ndim": [0, 1]}, chain(ScaleByAdam(),
    ScaleByLr(lr=3e-4)))``, or a chain of the same links with another `weight_decay`. A hyper-parameter that
    is the same in all routes is one entry of the parameter group. Where they differ, lr and weight_decay are
    one entry too, the largest of them, to which each route keeps its ratio, so that a scheduler moves all;
    any other is an entry for each route, such as ``betas_0`` and ``betas_otherwise``.

    Args:
        routes: pairs of a predicate and a chain, or one rule. A predicate is a table of `Pick`, or a function
            ``(parameter, name) -> bool``; the name is "" where parameters are given without.
        otherwise: the chain of the parameters that fit none.
        roles: names to roles, for tables that ask for a role; see `downslope.optim.roles`.

    Raises:
        RecipeError: a table that does not say which parameters, or no rule.
    """
    pairs: list[tuple[Where, Chain]] = []
    for i, given in enumerate(routes):
        pair = cast("Any", given)
        if not isinstance(pair, tuple) or len(cast("tuple[Any, ...]", pair)) != 2:
            raise RecipeError(
                f"route {i} is {pair!r}: must be a pair of a predicate and a chain, such as "
                "({'ndim': [2]}, chain(ScaleByLr(lr=0.1)))"
            )
        where, rule = cast("tuple[Any, AnyRule]", pair)
        pairs.append((cast("Where", where) if callable(where) else picked(where, roles), chain(rule)))
    return Routes(tuple(pairs), chain(otherwise))


def check_patterns(
    groups: Sequence[Mapping[str, Any]], compose: Callable[[Mapping[str, Any]], Chain | Routes]
) -> None:
    """Refuses names and patterns of an optimizer's routes that fit none of its parameters.

    Args:
        groups: all of the optimizer.
        compose: from a group's settings to its chain or routes.

    Raises:
        RecipeError: one fits none. Parameters without names are not asked.
    """
    names = [name for group in groups for name in names_of(group)]
    if not all(names):
        return
    for group in groups:
        for where, _ in routed(compose(group)).routes:
            if isinstance(where, Checked):
                where.check_names(names)
