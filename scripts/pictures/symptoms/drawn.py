"""One picture: the code of the page is run, and its two runs are drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downslope.diagnosis.symptom import registry
from scripts.pictures.style import panels, save
from scripts.pictures.symptoms import data, model, output, step, terrain
from scripts.pictures.symptoms.curves import Pair, curves
from scripts.symptoms import executed

_SEEN = {"plateau": "train_loss"}
"""Where the metric is left to chance: it counts signs of outputs that are all nearly zero."""

MOST = 60_000
"""Bytes a picture of a symptom may have: there are many of them."""

DRAWN = {**data.DRAWN, **output.DRAWN, **model.DRAWN, **step.DRAWN, **terrain.DRAWN}
"""Symptom to what draws its right half: what the criterion reads."""


def names() -> list[str]:
    """Every symptom, in the order of causes."""
    return list(registry())


def draw(name: str, made: Mapping[str, Any] | None = None) -> Path:
    """The picture of one symptom, of what the code of its page makes (`made`, where that has run already)."""
    made = executed(name)[0] if made is None else made
    pair = Pair(made["sick"], made["well"], made)
    figure, (left, right) = panels(2, height=2.9, width=8.6)
    curves(left, pair, _SEEN.get(name, ""))
    DRAWN[name](right, pair)
    for axis in (left, right):
        axis.minorticks_off()
    return _rounded(save(figure, f"symptoms/{name}"))


def _rounded(path: Path) -> Path:
    """The same drawing with coordinates to a hundredth of a point and no white space in its paths.

    Raises:
        ValueError: it is larger than a page of four screens should load.
    """
    text = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", path.read_text(encoding="utf-8"))
    text = re.sub(r'(?<= d=")[^"]+', lambda found: re.sub(r"\s*([A-Za-z])\s*", r"\1", found[0].strip()), text)
    text = re.sub(r"\n\s+", "\n", text)
    path.write_text(text, encoding="utf-8")
    if len(text) > MOST:
        raise ValueError(f"{path} has {len(text)} bytes, {MOST} are allowed: draw fewer points")
    return path
