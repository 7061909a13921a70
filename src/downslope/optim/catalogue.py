"""All optimizers by name, with where they come from, what they cost and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.listing import Listing
from downslope.optim.domains import domain_text
from downslope.optim.driver import Optimizer
from downslope.optim.kernel.store import missing
from downslope.optim.native import match
from downslope.optim.plan import programs_of, told
from downslope.optim.routes import Routes, routed
from downslope.optim.rule import Scope
from downslope.optim.wrapper import Wrapper

__all__ = ["Catalogue", "CatalogueRow", "HyperParameter", "catalogue"]


@dataclass(frozen=True)
class HyperParameter:
    """One argument of an optimizer."""

    name: str
    default: Any
    domain: str


@dataclass(frozen=True)
class CatalogueRow:
    """One optimizer."""

    name: str
    cls: type[Any]
    title: str
    """The first paragraph of its documentation."""
    source: str
    state: tuple[str, ...]
    """Tensors kept for each parameter at the default settings, by their names in ``optimizer.state``."""
    memory: str
    """Their shapes for a parameter of shape (m, n): ``"2 (m, n)"`` is two tensors like the parameter."""
    scope: Scope
    backends: tuple[str, ...]
    """Those of a CPU; for GPUs there is ``compiled`` too, wherever the scope is not ``matrix``."""
    hyper_parameters: tuple[HyperParameter, ...]
    routes: tuple[str, ...] = ()
    """Where parameters take several chains: a matrix's links and state, then those of a vector of n."""

    @property
    def kept(self) -> str:
        """`memory`, with that of vectors where they take another chain."""
        return "; vectors ".join((self.memory, *(route.rpartition(": ")[2] for route in self.routes[1:])))


_OF_ALL = ("reference", "eager")


class Catalogue(Listing[CatalogueRow]):
    """One row for each optimizer: see `Listing`."""

    __slots__ = ()

    head = ("name", "state of (m, n)", "scope", "fast", "source")
    narrow = 1
    foot = f"all have the backends {' and '.join(_OF_ALL)} too"
    elsewhere = (
        "a wrapper and its base have a row each in ds.optim.catalogue(), ds.methods.catalogue() has the "
        "methods that step by curvature"
    )

    def cells(self, row: CatalogueRow) -> tuple[str, ...]:
        """What the columns say of one optimizer."""
        fast = ", ".join(each for each in row.backends if each not in _OF_ALL)
        return (row.name, row.kept, row.scope, fast, row.source)


def catalogue() -> Catalogue:
    """One row for each optimizer of the table of names that lives here, as those of curvature do not.

    ``print(ds.optim.catalogue())`` shows name, state, scope, backends and source; the `routes` of a row say
    who steps vectors where that is another chain.
    """
    rows: list[CatalogueRow] = []
    for name in names.TABLE["optimizer"]:
        cls = names.resolve("optimizer", name)
        if isinstance(cls, type) and issubclass(cls, Optimizer | Wrapper):
            rows.append(_row(name, cls))
    return Catalogue(rows)


def _row(name: str, cls: type[Any]) -> CatalogueRow:
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.name not in {"params", "backend"} and parameter.kind is not parameter.VAR_KEYWORD
    }
    chain = routed(cls.compose(defaults)).active()
    return CatalogueRow(
        name=name,
        cls=cls,
        title=" ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()),
        source=cls.source,
        state=_keys(chain),
        memory=_memory(chain),
        scope=chain.scope,
        backends=_backends(chain, defaults),
        hyper_parameters=tuple(
            HyperParameter(n, value, domain_text(n, cls.domains)) for n, value in defaults.items()
        ),
        routes=tuple(_route(chain, p) for p in _BLANKS) if chain.routes else (),
    )


_SIZES = {1: "1", 5: "m", 3: "n"}


_BLANKS = (torch.empty(5, 3, device="meta"), torch.empty(3, device="meta"))
"""A matrix and a vector."""


def _route(routes: Routes, p: Tensor) -> str:
    return f"{told(routes.chains[routes.index(p)])}: {_memory(routes, p)}"


def _keys(routes: Routes) -> tuple[str, ...]:
    """The state's names over all routes, those of a matrix first."""
    p = _BLANKS[0]
    own = routes.chains[routes.index(p)].keys_of(p)
    return tuple(dict.fromkeys((*own, *routes.keys)))


def _memory(routes: Routes, p: Tensor = _BLANKS[0]) -> str:
    """The shapes of the state of a parameter, as text."""
    chain = routes.chains[routes.index(p)]
    shapes = [tuple(tensor.shape) for state in chain.init(p) for tensor in state]
    counts = {shape: shapes.count(shape) for shape in shapes}
    parts = [
        f"{n} ({', '.join(_SIZES.get(size, str(size)) for size in shape)})".removeprefix("1 ")
        for shape, n in counts.items()
    ]
    return " + ".join(parts) or "none"


def _backends(routes: Routes, defaults: Mapping[str, Any]) -> tuple[str, ...]:
    maximize = bool(defaults.get("maximize", False))
    fused = all(match(chain, maximize) is not None for chain in routes.chains)
    loops = not missing() and all(not isinstance(programs_of(chain), str) for chain in routes.chains)
    return ("reference", "eager", *(["native"] if fused else []), *(["kernel"] if loops else []))
