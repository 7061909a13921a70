"""What the criteria of the step read."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.diagnosis.measure import noise, sharpness
from scripts.pictures.symptoms.curves import Pair, bars, legend, level, thinned
from scripts.pictures.symptoms.data import limit, named


def _sharp(axis: Any, pair: Pair) -> None:
    values = [float(_sharpness(run)["ratio"]) for run, _, _ in pair.runs]
    bars(
        axis,
        values,
        1.0,
        what="λ_max before the first step in the stable limit 2/lr",
        log=True,
        over="stable limit",
    )


def _sharpness(run: Any) -> Any:
    return run.facts.get("sharpness") or sharpness.measure(run.problem, run.recipe)


def _update(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        found = run.probes["update_ratio"]
        axis.plot(found.steps, np.nanmedian(found.values, axis=1), "o-", ms=3, color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="step", ylabel="|update| / |weights|, median")
    level(axis, limit("learning-rate-too-low", "TINY"), named("learning-rate-too-low", "TINY"), at=0.01)
    legend(axis, "center right")


def _stale(axis: Any, pair: Pair) -> None:
    values = [each["kept"] / each["seen"] for each in pair.facts("leftover")]
    bars(
        axis,
        values,
        limit("stale-gradients", "OFTEN"),
        what="share of steps with the last gradient",
        over=named("stale-gradients", "OFTEN"),
    )


def _regularised(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        found = run.probes["weight_norm"]
        axis.plot(found.steps, np.sqrt(np.nansum(found.values**2, axis=1)), color=colour, label=label)
    axis.set(title="What the decay does", xlabel="step", ylabel="norm of all weights", ylim=(0, None))
    legend(axis)


def _wave(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        values = run.history.series("train_loss").values[-200:]
        steps = np.arange(len(values))
        flat = values - np.polyval(np.polyfit(steps, values, 1), steps)
        n = len(flat)
        r = [float(flat[: n - k] @ flat[k:]) * n / (n - k) for k in range(n // 3 + 1)]
        axis.plot(np.array(r) / r[0], color=colour, label=label)
    axis.set(
        title="How we know", xlabel="lag in steps", ylabel="autocorrelation of the loss", ylim=(-1.3, 2.1)
    )
    level(axis, limit("oscillation", "REGULAR"), named("oscillation", "REGULAR"))
    legend(axis, "upper right", ncols=2)


def _leap(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        series = run.history.series("train_loss")
        values = np.where(np.isfinite(series.values), series.values, 1e3)
        before = [np.median(values[max(0, i - 20) : i]) for i in range(20, len(values))]
        axis.plot(series.steps[20:], values[20:] / np.array(before), color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="step", ylabel="loss in the median of the 20 before")
    level(axis, limit("cliff", "LEAP"), named("cliff", "LEAP"))
    legend(axis, "upper right")


def _noise(axis: Any, pair: Pair, symptom: str, constant: str) -> None:
    values = [_scale(run) for run, _, _ in pair.runs]
    bars(
        axis,
        values,
        limit(symptom, constant),
        what="gradient noise scale in the batch size",
        log=True,
        over=named(symptom, constant),
    )


def _scale(run: Any) -> float:
    found = run.facts.get("noise") or noise.measure(run, run.problem, run.recipe) or {}
    return float(found.get("ratio") or 1e4)


def _falling(axis: Any, pair: Pair) -> None:
    run = pair.sick.run
    steps, values = thinned(run, "train_loss")
    fifth = max(1, len(values) // 5)
    axis.plot(steps, values, "o-", ms=3, color="#b3123f", label="fault")
    for part in (slice(-2 * fifth, -fifth), slice(-fifth, None)):
        axis.hlines(np.median(values[part]), steps[part][0], steps[part][-1], color="#30343b", lw=2.2)
    way = (run.facts.get("constant") or {}).get("loss", values[0])
    axis.set(title="How we know: it still falls at the end", xlabel="step", ylabel="loss of the batch")
    share = pair.finding("too-few-steps").evidence.value
    least = limit("too-few-steps", "FALLING")
    said = f"over the last fifth by {share:.0%} of the way\n(limit {least:.0%})"
    axis.text(0.03, 0.06, said, transform=axis.transAxes, fontsize=8.5)
    axis.set_ylim(0, 1.1 * way)


DRAWN = {
    "stale-gradients": _stale,
    "over-regularised": _regularised,
    "learning-rate-too-high": _sharp,
    "learning-rate-too-low": _update,
    "oscillation": _wave,
    "cliff": _leap,
    "noisy-gradient": lambda axis, pair: _noise(axis, pair, "noisy-gradient", "NOISY"),
    "batch-too-large": lambda axis, pair: _noise(axis, pair, "batch-too-large", "LARGE"),
    "too-few-steps": _falling,
}
