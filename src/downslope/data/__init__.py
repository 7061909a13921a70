"""Data: bundled sets by name, files by path, and the facts of data that a diagnosis needs."""

from __future__ import annotations

from downslope.data.bundled import breast_cancer, diabetes, digits, wine
from downslope.data.inspect import facts
from downslope.data.paths import load_path
from downslope.data.sequences import adding, motifs
from downslope.data.split import split
from downslope.data.table import Loaded, Table

__all__ = [
    "Loaded", "Table", "adding", "breast_cancer", "diabetes", "digits", "facts", "load_path", "motifs",
    "split", "wine",
]  # fmt: skip
