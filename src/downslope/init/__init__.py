"""Initialisations: ``(weight, generator) -> None`` in place, and `initialise` for a whole model."""

from __future__ import annotations

from downslope.init.auto import auto
from downslope.init.he import he, he_uniform
from downslope.init.initialise import initialise
from downslope.init.lecun import lecun
from downslope.init.normal import normal
from downslope.init.orthogonal import orthogonal
from downslope.init.xavier import xavier, xavier_uniform
from downslope.init.zeros import zeros

__all__ = [
    "auto",
    "he",
    "he_uniform",
    "initialise",
    "lecun",
    "normal",
    "orthogonal",
    "xavier",
    "xavier_uniform",
    "zeros",
]
