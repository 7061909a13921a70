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
    expects: Expects
    """What the model's output has to be."""
    target: Target
    """What the target has to be."""
    surrogate_for: str | None
    """What one would like to minimise and cannot differentiate; None where it is what one cares for."""
    likelihood: str | None
    """The distribution whose negative log-likelihood it is, up to scale and constant."""
    settings: Mapping[str, Any]
    """What can be set, with the defaults."""

    def __str__(self) -> str:
        stands = self.surrogate_for or "itself"
        said = ", ".join(f"{key} ({_domain(key)})" for key in self.settings) or "nothing"
        return f"{self.name}: expects {self.expects}, target {self.target}; stands for {stands}; set: {said}"


def catalogue() -> tuple[ObjectiveRow, ...]:
    """One row for each objective of the table of names, in its order."""
    return tuple(_row(name, names.resolve("objective", name)) for name in names.TABLE["objective"])


def _row(name: str, function: Any) -> ObjectiveRow:
    return ObjectiveRow(
        name=name,
        function=function,
        formula=" ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split()),
        expects=function.expects,
        target=function.target,
        surrogate_for=function.surrogate_for,
        likelihood=function.likelihood,
        settings=settings_of(function),
    )


def _domain(key: str) -> str:
    return DOMAINS[key].domain if key in DOMAINS else "any"
