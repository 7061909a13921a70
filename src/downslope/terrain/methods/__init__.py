"""Methods that step by curvature, or that have to look again: Newton and its heirs, conjugate gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.methods.block_coordinate_descent import BlockCoordinateDescent
    from downslope.terrain.methods.catalogue import MethodRow, Methods, catalogue
    from downslope.terrain.methods.conjugate_gradients import Solved, conjugate_gradients
    from downslope.terrain.methods.coordinate_descent import CoordinateDescent
    from downslope.terrain.methods.gauss_newton import GaussNewton
    from downslope.terrain.methods.hessian_free import HessianFree
    from downslope.terrain.methods.kfac import KFAC
    from downslope.terrain.methods.lbfgs import LBFGS
    from downslope.terrain.methods.levenberg_marquardt import LevenbergMarquardt
    from downslope.terrain.methods.line_search import Line, Trial, backtracking, strong_wolfe
    from downslope.terrain.methods.method import Method, Step
    from downslope.terrain.methods.more_thuente import more_thuente
    from downslope.terrain.methods.natural_gradient import NaturalGradient
    from downslope.terrain.methods.newton import Newton
    from downslope.terrain.methods.newton_cg import NewtonCG
    from downslope.terrain.methods.nonlinear_cg import NonlinearCG
    from downslope.terrain.methods.own_loop import ground
    from downslope.terrain.methods.saddle_free_newton import SaddleFreeNewton
    from downslope.terrain.methods.trust_region import TrustRegion

__all__ = [
    "BlockCoordinateDescent",
    "CoordinateDescent",
    "KFAC",
    "LBFGS",
    "GaussNewton",
    "HessianFree",
    "LevenbergMarquardt",
    "Line",
    "Method",
    "MethodRow",
    "Methods",
    "NaturalGradient",
    "Newton",
    "NewtonCG",
    "NonlinearCG",
    "SaddleFreeNewton",
    "Solved",
    "Step",
    "Trial",
    "TrustRegion",
    "backtracking",
    "catalogue",
    "conjugate_gradients",
    "ground",
    "more_thuente",
    "strong_wolfe",
]

lazily(
    __name__,
    {
        "block_coordinate_descent": "BlockCoordinateDescent",
        "catalogue": "MethodRow Methods catalogue",
        "conjugate_gradients": "Solved conjugate_gradients",
        "coordinate_descent": "CoordinateDescent",
        "gauss_newton": "GaussNewton",
        "hessian_free": "HessianFree",
        "kfac": "KFAC",
        "lbfgs": "LBFGS",
        "levenberg_marquardt": "LevenbergMarquardt",
        "line_search": "Line Trial backtracking strong_wolfe",
        "method": "Method Step",
        "more_thuente": "more_thuente",
        "natural_gradient": "NaturalGradient",
        "newton": "Newton",
        "newton_cg": "NewtonCG",
        "nonlinear_cg": "NonlinearCG",
        "own_loop": "ground",
        "saddle_free_newton": "SaddleFreeNewton",
        "trust_region": "TrustRegion",
    },
)
