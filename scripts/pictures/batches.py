"""Picture of chapter 14: one example a step, ten, a hundred, all of them, against the clock and the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import downslope as ds
from downslope.racing.batch_sizes import BatchRace
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, beside

TONES = {1: ORANGE, 10: GREEN, 100: BLUE, "full": GREY}


def batch_race() -> Path:
    """Four sizes on digits, each at the best of eight rates: sixteen passes, alone on the machine."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train)
    race = ds.batch_sizes(problem, ds.Recipe(optimizer="sgd", epochs=16), trials=8, progress=False)
    return beside(
        "batch-race",
        lambda axis: _against(axis, race, "seconds"),
        lambda axis: _against(axis, race, "epochs"),
        width=9.4,
        height=3.4,
    )


def _against(axis: Any, race: BatchRace, what: str) -> None:
    for each in race.curves:
        name = f"{'all 1437' if each.size == 'full' else each.size}, lr {each.lr:.2g}"
        axis.plot(getattr(each, what), each.loss, "o-", color=TONES[each.size], ms=2.6, lw=1.4, label=name)
    of = {"seconds": "Against the clock", "epochs": "Against the data"}[what]
    axis.set(title=of, xlabel={"seconds": "seconds", "epochs": "passes over the data"}[what])
    axis.set(ylabel="cross-entropy", xscale="log", yscale="log")
    axis.set_yticks([0.01, 0.1, 1], labels=["0.01", "0.1", "1"])
    ticks = {"seconds": [1e-3, 1e-2, 1e-1, 1], "epochs": [1e-3, 1e-2, 1e-1, 1, 10]}[what]
    axis.set_xticks(ticks, labels=[f"{each:g}" for each in ticks])
    axis.minorticks_off()
    if what == "seconds":
        axis.legend(title="examples a step", loc="lower left", title_fontsize=8.5)
