"""Methods that step by curvature, or that have to look again: Newton and its heirs, conjugate gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.methods.block_coordinate_descent import BlockCoordinateDescent
    from downslope.terrain.methods.catalogue import MethodRow, catalogue
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
        "BlockCoordinateDescent": "downslope.terrain.methods.block_coordinate_descent:BlockCoordinateDescent",
        "MethodRow": "downslope.terrain.methods.catalogue:MethodRow",
        "catalogue": "downslope.terrain.methods.catalogue:catalogue",
        "Solved": "downslope.terrain.methods.conjugate_gradients:Solved",
        "conjugate_gradients": "downslope.terrain.methods.conjugate_gradients:conjugate_gradients",
        "CoordinateDescent": "downslope.terrain.methods.coordinate_descent:CoordinateDescent",
        "GaussNewton": "downslope.terrain.methods.gauss_newton:GaussNewton",
        "HessianFree": "downslope.terrain.methods.hessian_free:HessianFree",
        "KFAC": "downslope.terrain.methods.kfac:KFAC",
        "LBFGS": "downslope.terrain.methods.lbfgs:LBFGS",
        "LevenbergMarquardt": "downslope.terrain.methods.levenberg_marquardt:LevenbergMarquardt",
        "Line": "downslope.terrain.methods.line_search:Line",
        "Trial": "downslope.terrain.methods.line_search:Trial",
        "backtracking": "downslope.terrain.methods.line_search:backtracking",
        "strong_wolfe": "downslope.terrain.methods.line_search:strong_wolfe",
        "Method": "downslope.terrain.methods.method:Method",
        "Step": "downslope.terrain.methods.method:Step",
        "more_thuente": "downslope.terrain.methods.more_thuente:more_thuente",
        "NaturalGradient": "downslope.terrain.methods.natural_gradient:NaturalGradient",
        "Newton": "downslope.terrain.methods.newton:Newton",
        "NewtonCG": "downslope.terrain.methods.newton_cg:NewtonCG",
        "NonlinearCG": "downslope.terrain.methods.nonlinear_cg:NonlinearCG",
        "ground": "downslope.terrain.methods.own_loop:ground",
        "SaddleFreeNewton": "downslope.terrain.methods.saddle_free_newton:SaddleFreeNewton",
        "TrustRegion": "downslope.terrain.methods.trust_region:TrustRegion",
    },
)
