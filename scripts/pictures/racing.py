"""Picture of chapter 21: the rates that were tried, the race on fresh seeds, the performance profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import downslope as ds
from downslope.racing.profile import LIMIT
from downslope.racing.result import Race
from scripts.pictures.style import BLUE, GREEN, ORANGE, PURPLE, beside

COLOURS = {"sgd": ORANGE, "adagrad": GREEN, "rmsprop": PURPLE, "adam": BLUE}
MOST = 10.0
"""Largest ratio of the profile that is drawn."""


def racing() -> Path:
    """Four optimizers, each tuned by 16 runs and raced on the same eight fresh seeds."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, name="digits"
    )
    common = ds.Recipe(batch_size=64, epochs=6)
    race = ds.race(
        problem, list(COLOURS), recipe=common, space={"lr": ds.log(1e-4, 3)}, trials=16, seeds=8,
        early=False, folder=False, progress=False,
    )  # fmt: skip
    return beside(
        "racing",
        lambda axis: _tuned(axis, race),
        lambda axis: _levels(axis, race),
        lambda axis: _profile(axis, race),
        width=10.6,
        height=3.1,
    )


def _tuned(axis: Any, race: Race) -> None:
    """What every trial reached, over its rate."""
    for name, colour in COLOURS.items():
        entry = race.entry(name)
        tried = [(one.values["lr"], one.level) for one in entry.tuning if "lr" in one.values]
        axis.plot(*zip(*tried, strict=True), "o", color=colour, ms=4.2, alpha=0.85, label=name)
    axis.set(title="Tuning: 16 runs each", xlabel="rate", ylabel="loss on validation data")
    axis.set(xscale="log", yscale="log", ylim=(0.07, 4))
    axis.set_yticks([0.1, 0.3, 1, 3], labels=["0.1", "0.3", "1", "3"])
    axis.minorticks_off()
    axis.legend(loc="lower left")


def _levels(axis: Any, race: Race) -> None:
    """Loss on fresh seeds over the steps, the median and the spread."""
    for name, colour in COLOURS.items():
        raced = race.entry(name).raced
        levels = np.asarray([one.levels for one in raced])
        steps = raced[0].steps
        axis.fill_between(steps, levels.min(0), levels.max(0), color=colour, alpha=0.16, lw=0)
        axis.plot(steps, np.median(levels, 0), color=colour, label=name)
    axis.set(title="Race: 8 fresh seeds", xlabel="step", yscale="log", ylim=(0.07, 4))
    axis.set_yticks([0.1, 0.3, 1, 3], labels=["0.1", "0.3", "1", "3"])
    axis.minorticks_off()


def _profile(axis: Any, race: Race) -> None:
    """The staircases of the share of seeds solved within a multiple of the fastest time, in steps."""
    found = race.profile("steps")
    score = found.score()
    axis.axvspan(1, LIMIT, color="#eef1f6", lw=0)
    for name, colour in COLOURS.items():
        taus, shares = found.steps(name)
        x, y = np.append(np.insert(taus, 0, 1.0), MOST), np.append(np.insert(shares, 0, 0.0), 0.0)
        y[-1] = y[-2]
        axis.step(x, y, where="post", color=colour, label=f"{name} {score[name]:.2f}")
    axis.set(title="Profile and score", xlabel="times the fastest's steps to target", xscale="log")
    axis.set(ylabel="share of seeds", ylim=(-0.03, 1.05), xlim=(0.97, MOST))
    axis.set_xticks([1, 2, 4, 8], labels=["1", "2", "4", "8"])
    axis.minorticks_off()
    axis.legend(loc="lower right")
