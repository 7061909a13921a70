"""All optimizers by name, with where they come from, what they cost and what they take."""

from __future__ import annotations

import inspect
import itertools
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import UnknownNameError
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


class Catalogue(tuple[CatalogueRow, ...]):
    """Rows for machines, by place or by name; ``print`` shows them as a table.

    ``for row in rows`` gives rows, each with its ``name``; ``rows["adam"]`` one of them, under any spelling
    or alias that a recipe takes; ``"adam" in rows`` asks for a name, and ``rows.keys()`` has all of them, so
    that ``dict(rows)`` is names to rows.

    Raises:
        UnknownNameError: no row has that name; the message names the nearest.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, at: str | SupportsIndex) -> CatalogueRow: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[CatalogueRow, ...]: ...

    def __getitem__(self, at: str | SupportsIndex | slice) -> CatalogueRow | tuple[CatalogueRow, ...]:
        if not isinstance(at, str):
            return super().__getitem__(at)
        rows = {row.name: row for row in self}
        name = _named(at)
        if name not in rows:
            raise UnknownNameError(
                f"ds.optim.catalogue() has no row {at!r}: a wrapper and its base have a row each, "
                "ds.methods.catalogue() has the methods that step by curvature"
            )
        return rows[name]

    def __contains__(self, at: object) -> bool:
        """Whether a row has that name, in any spelling, or is that row."""
        if not isinstance(at, str):
            return super().__contains__(at)
        try:
            return _named(at) in self.keys()
        except UnknownNameError:
            return False

    def keys(self) -> tuple[str, ...]:
        """The names, in the order of the rows."""
        return tuple(row.name for row in self)

    def __str__(self) -> str:
        """As wide as the terminal."""
        head = ("name", "state of (m, n)", "scope", "fast", "source")
        lines = [
            head,
            *(
                (r.name, r.kept, r.scope, ", ".join(b for b in r.backends if b not in _OF_ALL), r.source)
                for r in self
            ),
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        columns = shutil.get_terminal_size((120, 24)).columns
        widths[1] = min(widths[1], max(_LEAST, columns // 5))
        room = columns - sum(widths[:-1]) - 2 * len(widths[:-1])
        widths[-1] = max(room, _LEAST)
        rows = [text for line in lines for text in _wrapped(line, widths)]
        return "\n".join([*rows, f"all have the backends {' and '.join(_OF_ALL)} too"])


def _named(given: str) -> str:
    """The name of a row: of a wrapper its own, not that of it and its usual base."""
    name = names.canonical("optimizer", given)
    return name if "(" in given else name.partition("(")[0]


_OF_ALL = ("reference", "eager")

_LEAST = 12
"""Characters that are left to a column whatever the terminal has."""


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The lines of one row."""
    parts = [
        textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths, strict=True)
    ]
    for line in itertools.zip_longest(*parts, fillvalue=""):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


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
