"""All objectives by name: what each expects, what it stands for, and what can be set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from downslope.core import names
from downslope.objectives.configured import DOMAINS, settings_of
from downslope.objectives.objective import Expects, Target

__all__ = ["ObjectiveRow", "catalogue"]


@dataclass(frozen=True)
class ObjectiveRow:
    """One objective."""

    name: str
    function: Callable[..., Tensor]
    formula: str
    """The first paragraph of its documentation."""
    expects: Expects | None
    """What the model's output has to be; None where `formula` says it, an output of several parts."""
    target: Target | None
    """What the target has to be; None likewise."""
    surrogate_for: str | None
    """What one would like to minimise and cannot differentiate; None where it is what one cares for."""
    likelihood: str | None
    """The distribution whose negative log-likelihood it is, up to scale and constant."""
    settings: Mapping[str, Any]
    """What can be set, with the defaults."""

    def __str__(self) -> str:
        stands = self.surrogate_for or "itself"
        said = ", ".join(f"{key} ({_domain(key)})" for key in self.settings) or "nothing"
        wants = f"expects {self.expects or 'several parts'}, target {self.target or 'the inputs'}"
        return f"{self.name}: {wants}; stands for {stands}; set: {said}"


def catalogue() -> tuple[ObjectiveRow, ...]:
    """One row for each objective of the table of names, in its order."""
    return tuple(_row(name, names.resolve("objective", name)) for name in names.TABLE["objective"])


def _row(name: str, function: Any) -> ObjectiveRow:
    return ObjectiveRow(
        name=name,
        function=function,
        formula=" ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split()),
        expects=getattr(function, "expects", None),
        target=getattr(function, "target", None),
        surrogate_for=getattr(function, "surrogate_for", None),
        likelihood=getattr(function, "likelihood", None),
        settings=settings_of(function),
    )


def _domain(key: str) -> str:
    return DOMAINS[key].domain if key in DOMAINS else "any"
