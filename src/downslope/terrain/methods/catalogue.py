"""All methods by name: what they are, where they are from, what they need, what they take."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from downslope.core import names
from downslope.core.listing import Listing
from downslope.optim.catalogue import HyperParameter
from downslope.optim.domains import DOMAINS as OF_RULES
from downslope.terrain.methods.domains import CHOICES, DOMAINS
from downslope.terrain.methods.method import Method

__all__ = ["MethodRow", "Methods", "catalogue"]


@dataclass(frozen=True)
class MethodRow:
    """One method."""

    name: str
    cls: type[Method]
    title: str
    """The first paragraph of its documentation."""
    source: str
    batch: str | None
    """ "full", "large", or None: the batches that it needs."""
    hyper_parameters: tuple[HyperParameter, ...]


class Methods(Listing[MethodRow]):
    """One row for each method: see `Listing`."""

    __slots__ = ()

    head = ("name", "batches", "source", "settings")
    narrow = 2
    elsewhere = "ds.methods.catalogue() has the methods that step by curvature, ds.optim.catalogue() the rest"

    def cells(self, row: MethodRow) -> tuple[str, ...]:
        """What the columns say of one method."""
        settings = ", ".join(each.name for each in row.hyper_parameters)
        return (row.name, row.batch or "any", row.source, settings)


def catalogue() -> Methods:
    """One row for each method of the table of names; `downslope.optim.catalogue` has the rules.

    ``print(ds.methods.catalogue())`` shows name, batches, source and settings.
    """
    rows: list[MethodRow] = []
    for name in names.TABLE["optimizer"]:
        cls = names.resolve("optimizer", name)
        if isinstance(cls, type) and issubclass(cls, Method):
            rows.append(_row(name, cls))
    return Methods(rows)


def _row(name: str, cls: type[Method]) -> MethodRow:
    title = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    taken = [p for p in inspect.signature(cls).parameters.values() if p.name != "params"]
    settings = tuple(HyperParameter(p.name, p.default, domain_text(p.name)) for p in taken)
    return MethodRow(name, cls, title, cls.source, cls.batch, settings)


def domain_text(name: str) -> str:
    """What a setting may be: ``"[0, inf)"``, ``"one of ..."``, or "any"."""
    if name in CHOICES:
        return f"one of {', '.join(str(each) for each in CHOICES[name])}"
    found = OF_RULES.get(name) or DOMAINS.get(name)
    return "any" if found is None else str(found)
