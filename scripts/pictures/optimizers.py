"""The picture of chapter 22: how near each step comes to what memory can do, beside other libraries.

Drawn from bench/optimizers.json, which ``python bench/optimizers.py --publish`` measures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench._steps import METHODS
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save

FIGURES = Path(__file__).resolve().parents[2] / "bench" / "optimizers.json"

MARKS = {
    "torch loop": (GREY, "o"),
    "torch foreach": (GREY, "s"),
    "torch fused": (ORANGE, "D"),
    "pytorch_optimizer": (GREEN, "^"),
    "optimi": (GREEN, "v"),
    "heavyball": (RED, "P"),
    "optax": (PURPLE, "X"),
    "ours": (BLUE, "o"),
}

WIDEST = 1.5
"""A quartile beyond is a round in which the probe was disturbed."""

SETS = ("11.7 M in 62", "124 M in 148")
"""Those that no cache holds."""


def optimizers() -> Path:
    """A row for each method, a mark for each library; the quartiles of ours."""
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    titles = [title for title in SETS if any(each["set"] == title for each in found["results"])]
    methods = list(dict.fromkeys(each["method"] for each in found["results"] if each["set"] in titles))
    there = {row["contestant"] for each in found["results"] if each["set"] in titles for row in each["rows"]}
    figure, axes = panels(len(titles), height=1.2 + 0.24 * len(methods), sharey=True)
    for axis, title in zip(axes, titles, strict=True):
        for each in found["results"]:
            if each["set"] == title:
                _row(axis, each["rows"], methods.index(each["method"]))
        axis.axvline(1.0, color=GREY, lw=1.0, ls="--")
        axis.set(title=f"{title} tensors", xlabel="fraction of the bandwidth\n", xlim=(0, WIDEST))
        axis.set_yticks(range(len(methods)), [METHODS[method].title for method in methods])
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    handles = [
        axes[0].plot([], [], ls="", marker=mark, color=colour, ms=5, label=name)[0]
        for name, (colour, mark) in MARKS.items()
        if name in there
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), bbox_to_anchor=(0.5, 0.0))
    return save(figure, "optimizers")


def _row(axis: Any, rows: list[dict[str, Any]], place: int) -> None:
    for row in rows:
        if "failed" in row:
            continue
        colour, mark = MARKS[row["contestant"]]
        middle, low, high = row["add_"]
        if row["contestant"] == "ours":
            axis.plot([low, high], [place, place], color=colour, lw=3.0, alpha=0.35, solid_capstyle="butt")
        axis.plot([middle], [place], ls="", marker=mark, color=colour, ms=6 if mark == "o" else 5)
