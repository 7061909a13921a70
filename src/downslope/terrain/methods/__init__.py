"""Methods that step by curvature, or that have to look again: Newton and its heirs, conjugate gradients."""

from __future__ import annotations

from downslope.terrain.methods.conjugate_gradients import Solved, conjugate_gradients
from downslope.terrain.methods.lbfgs import LBFGS
from downslope.terrain.methods.line_search import Line, Trial, backtracking, strong_wolfe
from downslope.terrain.methods.method import Method, Step
from downslope.terrain.methods.more_thuente import more_thuente
from downslope.terrain.methods.newton import Newton

__all__ = [
    "LBFGS",
    "Line",
    "Method",
    "Newton",
    "Solved",
    "Step",
    "Trial",
    "backtracking",
    "conjugate_gradients",
    "more_thuente",
    "strong_wolfe",
]
