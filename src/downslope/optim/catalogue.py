"""All optimizers by name, with where they come from, what they cost and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from downslope.core import names
from downslope.optim.domains import domain_text
from downslope.optim.driver import Optimizer
from downslope.optim.native import match
from downslope.optim.routes import Routes, routed
from downslope.optim.rule import Scope

__all__ = ["CatalogueRow", "HyperParameter", "catalogue"]


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
    cls: type[Optimizer]
    title: str
    """The first paragraph of its documentation."""
    source: str
    state: tuple[str, ...]
    """Tensors kept for each parameter at the default settings, by their names in ``optimizer.state``."""
    scope: Scope
    backends: tuple[str, ...]
    hyper_parameters: tuple[HyperParameter, ...]


def catalogue() -> tuple[CatalogueRow, ...]:
    """One row for each optimizer of the table of names that lives here, as those of curvature do not."""
    rows: list[CatalogueRow] = []
    for name in names.TABLE["optimizer"]:
        cls = names.resolve("optimizer", name)
        if isinstance(cls, type) and issubclass(cls, Optimizer):
            rows.append(_row(name, cls))
    return tuple(rows)


def _row(name: str, cls: type[Optimizer]) -> CatalogueRow:
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
        state=chain.keys,
        scope=chain.scope,
        backends=_backends(chain, defaults),
        hyper_parameters=tuple(
            HyperParameter(n, value, domain_text(n, cls.domains)) for n, value in defaults.items()
        ),
    )


def _backends(routes: Routes, defaults: Mapping[str, Any]) -> tuple[str, ...]:
    maximize = bool(defaults.get("maximize", False))
    fused = any(match(chain, maximize) is not None for chain in routes.chains)
    return ("reference", "eager", "native") if fused else ("reference", "eager")
