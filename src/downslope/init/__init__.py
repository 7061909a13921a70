"""Initialisations: ``(weight, generator) -> None`` in place, `initialise` and `measure` for a whole model."""

from __future__ import annotations

from downslope.init.auto import auto
from downslope.init.chosen import check, settings_of
from downslope.init.constant import constant
from downslope.init.fixup import branches, fixup
from downslope.init.he import he, he_uniform
from downslope.init.initialise import initialise
from downslope.init.lecun import lecun, lecun_uniform
from downslope.init.lsuv import lsuv
from downslope.init.measure import Measured, measure
from downslope.init.mup import mup, mup_recipe
from downslope.init.normal import normal
from downslope.init.orthogonal import orthogonal
from downslope.init.remarks import remark
from downslope.init.start import start
from downslope.init.truncated_normal import truncated_normal
from downslope.init.uniform import uniform
from downslope.init.xavier import xavier, xavier_uniform
from downslope.init.zeros import zeros

__all__ = [
    "Measured",
    "auto",
    "branches",
    "check",
    "constant",
    "fixup",
    "he",
    "he_uniform",
    "initialise",
    "lecun",
    "lecun_uniform",
    "lsuv",
    "measure",
    "mup",
    "mup_recipe",
    "normal",
    "orthogonal",
    "remark",
    "settings_of",
    "start",
    "truncated_normal",
    "uniform",
    "xavier",
    "xavier_uniform",
    "zeros",
]
