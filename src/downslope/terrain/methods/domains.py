"""What the settings of the methods may be, checked wherever they come from."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean
from downslope.optim.domains import DOMAINS as OF_RULES
from downslope.optim.domains import check as check_rule


class Number(NamedTuple):
    """Numbers from `low` up to `high`, which is left out."""

    low: float
    high: float
    meaning: str
    whole: bool = False
    or_none: bool = False
    open: bool = False
    """Whether `low` is left out too."""
    closed: bool = False
    """Whether `high` is allowed."""

    def __str__(self) -> str:
        none = ", or None" if self.or_none else ""
        return f"{'(' if self.open else '['}{self.low:g}, {self.high:g}{']' if self.closed else ')'}{none}"

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        above = value > self.low if self.open else value >= self.low
        return above and (value <= self.high if self.closed else value < self.high)


_INF = math.inf

DOMAINS: dict[str, Number] = {
    "c1": Number(0, 0.5, "the share of the promised decrease; 1e-4 is usual", open=True),
    "c2": Number(0, 1, "the share of the slope that may be left; 0.9 is usual", open=True),
    "damping": Number(0, _INF, "what is added to the curvature; 0 is usual"),
    "history_size": Number(1, _INF, "the pairs that are remembered; 10 is usual", whole=True),
    "max_eval": Number(2, _INF, "the looks of one line search; 25 is usual", whole=True),
    "max_cg": Number(1, _INF, "the products of one solution", whole=True, or_none=True),
    "radius": Number(0, _INF, "the radius that is trusted at first; 1 is usual", open=True),
    "max_radius": Number(0, _INF, "the largest radius; 1000 is usual", open=True),
    "eta": Number(0, 0.25, "the least ratio accepted; 0.15 is usual"),
    "subspace": Number(1, _INF, "the dimensions of the Lanczos subspace", whole=True),
    "per_step": Number(1, _INF, "the coordinates or blocks of a step", whole=True, or_none=True),
    "inner": Number(1, _INF, "the Newton steps along one coordinate", whole=True),
    "restart": Number(1, _INF, "the steps to a restart", whole=True, or_none=True),
    "kl": Number(0, _INF, "the change of the prediction a step; 0.01 is usual", open=True, closed=True),
    "kl_clip": Number(0, _INF, "the squared length of a step; 0.001 is usual", open=True, closed=True),
    "tol": Number(0, 1, "where a solution ends", open=True),
    "share": Number(0, 1, "the share of the batch that curvature is taken on", open=True, closed=True),
    "precondition": Number(0, 1, "the power of the preconditioner; 0.75 is usual", closed=True),
    "start": Number(0, 1, "the share of the last step that a solve begins at; 0.95 is usual"),
    "factor_decay": Number(0, 1, "the decay of the factors' means; 0.95 is usual"),
    "factors_every": Number(1, _INF, "the steps between two measurements of the factors", whole=True),
    "inverse_every": Number(1, _INF, "the steps between two inverses; 10 is usual", whole=True),
    "seed": Number(0, 2**63, "the seed of the order", whole=True),
}

CHOICES: dict[str, tuple[Any, ...]] = {
    "line_search": ("strong_wolfe", "more_thuente", "armijo", None),
    "formula": ("fletcher_reeves", "polak_ribiere", "hestenes_stiefel", "dai_yuan", "hager_zhang"),
    "update": ("skip", "powell"),
    "order": ("cyclic", "random", "greedy"),
    "fisher": ("true", "exact", "empirical"),
    "sharing": ("expand", "reduce"),
    "eigenvalues": ("kronecker", "corrected"),
    "scaling": ("more", "marquardt", "identity"),
    "solver": ("auto", "dense", "cg"),
    "curvature": ("gauss_newton", "hessian"),
    "blocks": ("tensor", "layer"),
}


def check(name: str, value: Any) -> Any:
    """`value` where it lies in the domain of `name`; names without a row pass.

    Raises:
        RecipeError: it does not; one line.
    """
    if name in OF_RULES:
        return check_rule(name, value)
    if name in CHOICES:
        return _chosen(name, value)
    row = DOMAINS.get(name)
    if row is None or (value is None and row.or_none):
        return value
    kinds = (int,) if row.whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not row.holds(value):
        kind = "a whole number" if row.whole else "a number"
        raise RecipeError(f"{name}={value!r}: must be {kind} in {row}, it is {row.meaning}")
    return value


def _chosen(name: str, value: Any) -> Any:
    given = value.lower().replace("-", "_") if isinstance(value, str) else value
    if given in CHOICES[name]:
        return given
    known = [str(each) for each in CHOICES[name]]
    raise RecipeError(f"{name}={value!r}: must be one of {', '.join(known)}{did_you_mean(str(given), known)}")
