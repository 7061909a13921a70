"""Data: standard sets by name, files and folders by path, and the facts of data that a diagnosis needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.data.bundled import breast_cancer, diabetes, digits, wine
    from downslope.data.corpora import tinyshakespeare
    from downslope.data.curriculum import Curriculum
    from downslope.data.image_folder import images
    from downslope.data.image_sets import cifar10, fashion_mnist, mnist
    from downslope.data.inspect import facts
    from downslope.data.paths import load_path
    from downslope.data.sequences import adding, motifs
    from downslope.data.split import split
    from downslope.data.table import Loaded, Streamed, Table, Text
    from downslope.data.table_sets import a1a, a9a, airfoil
    from downslope.data.text_file import text
    from downslope.data.windows import Windows

__all__ = [
    "Curriculum", "Loaded", "Streamed", "Table", "Text", "Windows", "a1a", "a9a", "adding", "airfoil",
    "breast_cancer", "cifar10", "diabetes", "digits", "facts", "fashion_mnist", "images", "load_path",
    "mnist", "motifs", "split", "text", "tinyshakespeare", "wine",
]  # fmt: skip

lazily(
    __name__,
    {
        "bundled": "breast_cancer diabetes digits wine",
        "corpora": "tinyshakespeare",
        "curriculum": "Curriculum",
        "image_folder": "images",
        "image_sets": "cifar10 fashion_mnist mnist",
        "inspect": "facts",
        "paths": "load_path",
        "sequences": "adding motifs",
        "split": "split",
        "table": "Loaded Streamed Table Text",
        "table_sets": "a1a a9a airfoil",
        "text_file": "text",
        "windows": "Windows",
    },
)
