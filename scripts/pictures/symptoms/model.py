"""What the criteria of model and start read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from downslope.diagnosis.measure import affine, lags, mixed
from scripts.pictures.symptoms.curves import Pair, bars, legend, level, probe
from scripts.pictures.symptoms.data import limit, named


def _affine(axis: Any, pair: Pair) -> None:
    values = [float(affine.measure(run, run.problem, run.recipe)["bend"]) for run, _, _ in pair.runs]
    what = "bend half way between two inputs, in deviations"
    bars(
        axis,
        values,
        limit("missing-nonlinearity", "EXACT"),
        what=what,
        log=True,
        floor=1e-16,
        over=named("missing-nonlinearity", "EXACT"),
    )


def _mixed(axis: Any, pair: Pair) -> None:
    values = [float(mixed.measure(run.problem, run.recipe)["share"]) for run, _, _ in pair.runs]
    bars(
        axis,
        values,
        limit("mixed-examples", "APART"),
        what="share of an answer's change that others make",
        log=True,
        floor=1e-10,
        over=named("mixed-examples", "APART"),
    )


def _alike(axis: Any, pair: Pair) -> None:
    width = 0.38
    for offset, (run, colour, label) in zip((-width / 2, width / 2), pair.runs, strict=True):
        counts = [
            len(torch.unique(p.detach().round(decimals=6), dim=0))
            for p in (run.problem.build(0)[0].weight, run.model("last")[0].weight)
        ]
        axis.bar(np.arange(2) + offset, counts, width, color=colour, label=label)
        for at, count in enumerate(counts):
            axis.annotate(f"{count}", (at + offset, count), ha="center", va="bottom", fontsize=9)
    axis.set_xticks([0, 1])
    axis.set_xticklabels(["before the first step", "after the last"])
    axis.set(title="How we know", ylabel="different units of 64", ylim=(0, 85))
    legend(axis, "upper center", ncols=2)
    axis.grid(visible=False, axis="x")


def _layers(axis: Any, pair: Pair, key: str) -> None:
    for (run, colour, label), start in zip(pair.runs, pair.facts("start"), strict=True):
        del run
        values = [each[key] for each in start["layers"]]
        axis.plot(range(1, len(values) + 1), values, "o-", ms=4, color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="layer, before the first step")
    axis.set_xticks(range(1, len(pair.facts("start")[0]["layers"]) + 1))
    legend(axis)


def _gain(axis: Any, pair: Pair) -> None:
    _layers(axis, pair, "gain")
    axis.set(ylabel="gain, rms(W) √(fan in)", ylim=(0.1, 100))
    level(axis, limit("init-scale", "LARGE"), named("init-scale", "LARGE"))
    level(axis, limit("init-scale", "SMALL"), named("init-scale", "SMALL"))
    legend(axis, (0.03, 0.14))


def _faded(axis: Any, pair: Pair) -> None:
    _layers(axis, pair, "grad_rms")
    late = max(each["grad_rms"] for each in pair.facts("start")[0]["layers"][1:])
    axis.set(ylabel="gradient per weight")
    level(axis, limit("vanishing-gradient", "FADED") * late, "fault: FADED × the largest", at=0.01)
    legend(axis, "lower right")


def _frozen(axis: Any, pair: Pair) -> None:
    names = ["trunk", "head"]
    width = 0.38
    for offset, (run, colour, label) in zip((-width / 2, width / 2), pair.runs, strict=True):
        start, end = run.problem.build(run.recipe.seed, run.recipe.init), run.model("last")
        moved = [_moved(getattr(start, name), getattr(end, name)) for name in names]
        axis.bar(np.arange(2) + offset, moved, width, color=colour, label=label)
        for at, each in enumerate(moved):
            axis.annotate(f"{each:.2g}", (at + offset, each), ha="center", va="bottom", fontsize=9)
    axis.set_xticks([0, 1])
    axis.set_xticklabels(names)
    axis.set(title="How we know: what no step changes", ylabel="change of the weights in their size")
    axis.margins(y=0.35)
    legend(axis, "upper left")
    axis.grid(visible=False, axis="x")


def _moved(before: torch.nn.Module, after: torch.nn.Module) -> float:
    one, two = (torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (before, after))
    return float((two - one).norm() / one.norm())


def _saturated(axis: Any, pair: Pair) -> None:
    probe(
        axis,
        pair,
        "saturated_fraction",
        limit("saturated-units", "SATURATED"),
        what="outputs at an end, worst layer",
        text=named("saturated-units", "SATURATED"),
    )


def _dead(axis: Any, pair: Pair) -> None:
    probe(
        axis,
        pair,
        "dead_fraction",
        limit("dead-units", "DEAD"),
        what="units always zero, worst layer",
        text=named("dead-units", "DEAD"),
    )


def _by_step(axis: Any, pair: Pair, faded: float, text: str) -> None:
    for run, colour, label in pair.runs:
        found = lags.measure(run.problem, run.recipe)
        profile = np.array(found["profile"])
        profile = profile / profile[-max(1, len(profile) // 8) :].max()
        axis.plot(np.arange(1, len(profile) + 1) - len(profile), profile, color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="step of the sequence, counted from its end")
    axis.set_ylabel("derivative of the output by it")
    level(axis, faded, text, at=0.01 if faded < 1 else 0.99)
    legend(axis)


def _lags(axis: Any, pair: Pair) -> None:
    _by_step(axis, pair, limit("long-term-dependency", "FADED"), named("long-term-dependency", "FADED"))


def _grown(axis: Any, pair: Pair) -> None:
    _by_step(axis, pair, limit("exploding-gradient", "GROWN"), named("exploding-gradient", "GROWN"))


DRAWN = {
    "mixed-examples": _mixed,
    "missing-nonlinearity": _affine,
    "symmetric-init": _alike,
    "init-scale": _gain,
    "frozen-parameters": _frozen,
    "saturated-units": _saturated,
    "vanishing-gradient": _faded,
    "exploding-gradient": _grown,
    "dead-units": _dead,
    "long-term-dependency": _lags,
}
