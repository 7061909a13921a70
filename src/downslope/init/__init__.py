"""Initialisations: ``(weight, generator) -> None`` in place, `initialise` and `measure` for a whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
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

lazily(
    __name__,
    {
        "auto": "auto",
        "chosen": "check settings_of",
        "constant": "constant",
        "fixup": "branches fixup",
        "he": "he he_uniform",
        "initialise": "initialise",
        "lecun": "lecun lecun_uniform",
        "lsuv": "lsuv",
        "measure": "Measured measure",
        "mup": "mup mup_recipe",
        "normal": "normal",
        "orthogonal": "orthogonal",
        "remarks": "remark",
        "start": "start",
        "truncated_normal": "truncated_normal",
        "uniform": "uniform",
        "xavier": "xavier xavier_uniform",
        "zeros": "zeros",
    },
)
