"""What the criteria of terrain and generalisation read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from downslope.diagnosis.measure import ground, modes
from scripts.pictures.symptoms.curves import Pair, bars, examples, legend, level, thinned
from scripts.pictures.symptoms.data import limit, named


def _ground(run: Any) -> Any:
    return run.facts.get("ground") or ground.measure(run, run.problem)


def _plateau(axis: Any, pair: Pair) -> None:
    values = [_win(_ground(run), run) for run, _, _ in pair.runs]
    what = "what a short move could change, of the way"
    bars(axis, values, limit("plateau", "FLAT"), what=what, log=True, over=named("plateau", "FLAT"))


def _win(found: Any, run: Any) -> float:
    base = run.facts["constant"]["loss"]
    reach, most = found["reach"], max(abs(found["lambda_max"]), abs(found["lambda_min"]))
    return float(reach * found["grad_norm"] + 0.5 * reach**2 * most) / base


def _saddle(axis: Any, pair: Pair) -> None:
    width = 0.38
    for offset, (run, colour, label) in zip((-width / 2, width / 2), pair.runs, strict=True):
        found = _ground(run)
        most = max(abs(found["lambda_min"]), abs(found["lambda_max"]))
        values = [found["lambda_min"] / most, found["lambda_max"] / most]
        axis.bar(np.arange(2) + offset, values, width, color=colour, label=label)
    axis.set_xticks([0, 1])
    axis.set_xticklabels(["smallest", "largest"])
    axis.axhline(0, color="#8a8f98", lw=0.8)
    axis.set(title="How we know", ylabel="curvature in the largest", ylim=(-1.2, 1.2))
    level(axis, -limit("saddle-point", "NEGATIVE"), f"-{named('saddle-point', 'NEGATIVE')}", at=0.5)
    legend(axis, "lower right")
    axis.grid(visible=False, axis="x")


def _spread(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        x, _ = examples(run.problem.train_source, run.problem)
        values = torch.linalg.eigvalsh(torch.corrcoef(x.double().T)).flip(0)
        axis.plot(range(1, len(values) + 1), values / values[0], "o-", ms=4, color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="direction of the inputs")
    axis.set_ylabel("curvature in the steepest's")
    level(axis, 1 / limit("ill-conditioned", "UNEVEN"), f"1 / {named('ill-conditioned', 'UNEVEN')}", at=0.01)
    legend(axis, (0.03, 0.3))


def _gap(axis: Any, pair: Pair) -> None:
    run = pair.sick.run
    for column, colour, label in (
        ("train_epoch_loss", "#0072b2", "training"),
        ("valid_loss", "#b3123f", "validation"),
    ):
        steps, values = thinned(run, column)
        axis.plot(steps[1:], values[1:], color=colour, label=label)
    base = run.facts["constant"]["valid_loss"]
    axis.axhline(base, color="#8a8f98", lw=1.0, ls=":", label="a constant guess")
    missing = pair.finding("high-variance").evidence.value
    said = f"fault: {missing:.0%} of the way is missing ({named('high-variance', 'GAP')})"
    axis.text(0.03, 0.97, said, transform=axis.transAxes, va="top", fontsize=8.5)
    axis.set(title="How we know", xlabel="step", ylabel="loss", ylim=(0, 2.3 * base))
    legend(axis, (0.02, 0.5))


def _bias(axis: Any, pair: Pair) -> None:
    run = pair.sick.run
    rows = {each["what"]: each["loss"] for each in run.facts["references"]}
    plain = next(value for name, value in rows.items() if name.startswith("a plain"))
    same = next(value for name, value in rows.items() if name.startswith("the same"))
    known = {
        "a constant guess": run.facts["constant"]["loss"],
        "this model, sound recipe": same,
        "this model, L-BFGS": run.facts["capacity"]["loss"],
        "a plain network": plain,
    }
    best = min(same, run.facts["capacity"]["loss"])
    needed = best - limit("high-bias", "MATERIAL") * (known["a constant guess"] - plain)
    colours = ["#8a8f98", "#b3123f", "#b3123f", "#0072b2"]
    places = np.arange(len(known))[::-1]
    axis.barh(places, list(known.values()), height=0.55, color=colours)
    for place, value in zip(places, known.values(), strict=True):
        axis.annotate(
            f"{value:.2g}", (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axis.axvline(needed, color="#30343b", lw=1.1, ls="--")
    axis.annotate(
        named("high-bias", "MATERIAL"),
        (needed, 3.55),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=8.5,
    )
    axis.set_yticks(places)
    axis.set_yticklabels(list(known))
    axis.set(title="How we know", xlabel="loss on the training data", ylim=(-0.5, 3.9))
    axis.margins(x=0.15)
    axis.grid(visible=False, axis="y")


def _modes(axis: Any, pair: Pair) -> None:
    shares = []
    for run, _, _ in pair.runs:
        found = run.facts.get("modes") or modes.measure(run, run.problem, run.recipe)
        shares.append((found["eval"] - found["train"]) / (run.facts["constant"]["loss"] - found["train"]))
    bars(
        axis,
        shares,
        limit("mode-gap", "GAP"),
        what="eval mode's loss in training mode's gain",
        over=named("mode-gap", "GAP"),
    )


DRAWN = {
    "plateau": _plateau,
    "saddle-point": _saddle,
    "ill-conditioned": _spread,
    "mode-gap": _modes,
    "high-variance": _gap,
    "high-bias": _bias,
}
