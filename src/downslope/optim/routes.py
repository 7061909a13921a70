"""Several chains for one group: each parameter takes the first route that wants it.

Routes(((is_matrix, orthogonalised),), otherwise=adamw)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean
from downslope.optim.rule import Chain, Scope, widest

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
        """Hyper-parameters of all chains by name; where several have one, the first's."""
        found: dict[str, Any] = {}
        for chain in self.chains:
            found = {**chain.fields(), **found}
        return found

    def replace(self, **changes: Any) -> Routes:
        """The same routes with other hyper-parameters, each given to every chain that has it.

        Raises:
            RecipeError: no chain has such a hyper-parameter, or its value lies outside its domain.
        """
        for name in changes:
            if name not in self.fields():
                raise RecipeError(f"no route has {name!r}{did_you_mean(name, list(self.fields()))}")
        return self._each(
            lambda chain: chain.replace(**{n: v for n, v in changes.items() if n in chain.fields()})
        )

    def active(self) -> Routes:
        """The routes without the idle links of their chains."""
        return self._each(Chain.active)

    def _each(self, change: Callable[[Chain], Chain]) -> Routes:
        return Routes(tuple((where, change(chain)) for where, chain in self.routes), change(self.otherwise))

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


def routed(composed: Chain | Routes) -> Routes:
    """`composed` as routes: a chain is the route of every parameter."""
    return composed if isinstance(composed, Routes) else Routes((), composed)


def names_of(group: Mapping[str, Any]) -> Sequence[str]:
    """The names of a group's parameters, each "" where they were given without."""
    return group.get("param_names") or [""] * len(group["params"])
