"""Several chains for one group: each parameter takes the first route that wants it.

Routes(((is_matrix, orthogonalised),), otherwise=adamw)

Routes keep what each was given. A hyper-parameter that is the same in all of them is one entry of the
parameter group. Where they differ, lr and weight_decay are one entry too, the largest, to which each route
keeps its ratio; any other is an entry for each route: ``betas_0``, ``betas_1``, ``betas_otherwise``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.groups import RATES
from downslope.core.names import did_you_mean
from downslope.optim.domains import DOMAINS, Domains
from downslope.optim.rule import AnyRule, Chain, Scope, chain, widest

__all__ = ["Routes", "Where", "names_of", "routed"]

Where = Callable[[Tensor, str], bool]
"""(parameter, its name or "") to whether it takes the route."""


@dataclass(frozen=True)
class Routes:
    """Chains, and which parameters take which.

    Args:
        routes: pairs of a predicate and a chain, asked in their order.
        otherwise: the chain of the parameters that none of them wants.
    """

    routes: tuple[tuple[Where, Chain], ...]
    otherwise: Chain

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The chains in the order of the routes, `otherwise` last."""
        return (*(chain for _, chain in self.routes), self.otherwise)

    def index(self, p: Tensor, name: str = "") -> int:
        """Which of `chains` the parameter `p` takes."""
        for i, (where, _) in enumerate(self.routes):
            if where(p, name):
                return i
        return len(self.routes)

    def fields(self) -> dict[str, Any]:
        """The entries of a parameter group that hold the hyper-parameters of all chains."""
        found: dict[str, Any] = {}
        for name, values in self._given().items():
            if _alike(list(values.values())):
                found[name] = next(iter(values.values()))
            elif _is_rate(name, values):
                found[name] = max(values.values())
            else:
                found |= {self._entry(name, i): value for i, value in values.items()}
        return found

    @property
    def domains(self) -> Domains:
        """Where the entries may lie, as far as it is known."""
        entries, found = self.fields(), {}
        for i, rule in reversed(list(enumerate(self.chains))):
            known = {**DOMAINS, **{name: each for link in rule.links for name, each in link.domains.items()}}
            for name in known.keys() & rule.fields().keys():
                found[name if name in entries else self._entry(name, i)] = known[name]
        return found

    def replace(self, **changes: Any) -> Routes:
        """The same routes with other hyper-parameters, under the names of `fields`.

        Raises:
            RecipeError: no chain has such a hyper-parameter, or its value lies outside its domain.
        """
        known = self.fields()
        for name in changes:
            if name not in known:
                raise RecipeError(f"no route has {name!r}{did_you_mean(name, list(known))}")
        made: list[Chain] = []
        for i, rule in enumerate(self.chains):
            own: dict[str, Any] = {}
            for name, value in rule.fields().items():
                entry = name if name in known else self._entry(name, i)
                if entry in changes:
                    own[name] = _scaled(changes[entry], value, known[entry])
            made.append(rule.replace(**own))
        return self._of(made)

    def surrounded(self, before: Sequence[AnyRule | Chain], after: Sequence[AnyRule | Chain]) -> Routes:
        """The routes with links before and after each of their chains.

        Raises:
            RecipeError: links that do not go together.
        """
        return self._of([chain(*before, rule, *after) for rule in self.chains])

    def active(self) -> Routes:
        """The routes without the idle links of their chains."""
        return self._of([rule.active() for rule in self.chains])

    def _of(self, chains: Sequence[Chain]) -> Routes:
        pairs = zip(self.routes, chains[:-1], strict=True)
        return Routes(tuple((where, made) for (where, _), made in pairs), chains[-1])

    def _given(self) -> dict[str, dict[int, Any]]:
        """Hyper-parameter to its value in each route that has it."""
        found: dict[str, dict[int, Any]] = {}
        for i, rule in enumerate(self.chains):
            for name, value in rule.fields().items():
                found.setdefault(name, {})[i] = value
        return found

    def _entry(self, name: str, i: int) -> str:
        return f"{name}_{i if i < len(self.routes) else 'otherwise'}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the state tensors of all chains."""
        return tuple(dict.fromkeys(key for chain in self.chains for key in chain.keys))

    @property
    def tally(self) -> dict[str, float]:
        """The numbers that the links of all chains keep."""
        return {name: start for chain in self.chains for name, start in chain.tally.items()}

    @property
    def counts(self) -> bool:
        """Whether any chain needs the number of steps."""
        return any(chain.counts for chain in self.chains)

    @property
    def scope(self) -> Scope:
        """The widest scope of the chains."""
        return widest(chain.scope for chain in self.chains)


def _alike(values: Sequence[Any]) -> bool:
    first = values[0]
    return all(each is first or _equal(each, first) for each in values[1:])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        a, b = cast("tuple[Any, ...]", one), cast("tuple[Any, ...]", other)
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)


def _is_rate(name: str, values: Mapping[int, Any]) -> bool:
    return name in RATES and all(isinstance(value, float) for value in values.values())


def _scaled(now: Any, own: Any, entry: Any) -> Any:
    """What a route has of an entry that is `now`: where its own value is another, it keeps the ratio."""
    if _equal(own, entry):
        return now
    return own if _equal(now, entry) else now * (own / entry)


def routed(composed: Chain | Routes) -> Routes:
    """`composed` as routes: a chain is the route of every parameter."""
    return composed if isinstance(composed, Routes) else Routes((), composed)


def names_of(group: Mapping[str, Any]) -> Sequence[str]:
    """The names of a group's parameters, each "" where they were given without."""
    return group.get("param_names") or [""] * len(group["params"])
