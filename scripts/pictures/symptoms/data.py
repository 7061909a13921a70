"""What the criteria of the data read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from downslope.diagnosis.symptom import registry
from scripts.pictures.symptoms.curves import SICK, Pair, bars, examples, legend, level
from scripts.symptoms import limits


def limit(symptom: str, name: str) -> float:
    """The constant `name` of a symptom's file."""
    return next(float(each.value) for each in limits(registry()[symptom]) if each.name == name)


def named(symptom: str, name: str) -> str:
    """The constant `name` with its value."""
    return f"{name} {limit(symptom, name):g}"


def _non_finite(axis: Any, pair: Pair) -> None:
    x = pair.made["broken"]
    axis.imshow(
        torch.isnan(x[:40]).float(), aspect="auto", cmap="Reds", vmin=0, vmax=1, interpolation="nearest"
    )
    row, column = [int(i) for i in torch.isnan(x).nonzero()[0]]
    axis.annotate(
        f"row {row}, column {column}: nan",
        (column, row),
        xytext=(12, 22),
        textcoords="offset points",
        fontsize=9,
        color=SICK,
        arrowprops={"arrowstyle": "-", "color": SICK},
    )
    axis.grid(visible=False)
    axis.set(
        title="How we know: one value is not finite", xlabel="column", ylabel="row of the training inputs"
    )


def _shift(axis: Any, pair: Pair) -> None:
    problem = pair.sick.run.problem
    parts = ("training inputs", problem.train_source), ("held-out inputs", problem.valid_source)
    for label, source in parts:
        axis.hist(source.batch[0].flatten().numpy(), bins=12, density=True, alpha=0.6, label=label)
    closed = pair.finding("dataset-shift").evidence.value
    least = limit("dataset-shift", "CLOSED")
    said = f"brought together, the same model\ncloses {closed:.0%} of the gap (limit {least:.0%})"
    axis.text(0.97, 0.6, said, transform=axis.transAxes, fontsize=8.5, ha="right")
    axis.set(yscale="log", title="How we know: other inputs", xlabel="input", ylabel="density")
    legend(axis, "upper right")


def _constant(axis: Any, pair: Pair) -> None:
    values = [float(each["target"]["distinct"]) for each in pair.facts("data")]
    bars(axis, values, 2.0, what="different values of the target", over="2 are needed")


def _uninformative(axis: Any, pair: Pair) -> None:
    values = [float(each["z"]) for each in (pair.facts("signal")[0], _signal(pair))]
    what = "ranking by trees, deviations above chance"
    bars(
        axis,
        values,
        limit("uninformative-inputs", "CHANCE"),
        what=what,
        over=named("uninformative-inputs", "CHANCE"),
    )


def _signal(pair: Pair) -> Any:
    """Of the twin, which no diagnosis had reason to measure."""
    from downslope.diagnosis.measure import signal

    return signal.measure(_twin(pair))


def _twin(pair: Pair) -> Any:
    problem = pair.well.run.problem
    if problem is None:
        raise ValueError("the twin's run has no problem")
    return problem


def _features(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        x, _ = examples(run.problem.train_source, run.problem)
        rms = x.double().square().mean(0).sqrt().sort().values
        axis.plot(range(1, len(rms) + 1), rms, "o-", ms=3.5, color=colour, label=label)
    axis.set(yscale="log", title="How we know", xlabel="feature, in the order of its size")
    axis.set_ylabel("root mean square")
    level(axis, limit("unscaled-inputs", "LARGE"), named("unscaled-inputs", "LARGE"))
    level(axis, limit("unscaled-inputs", "SMALL"), named("unscaled-inputs", "SMALL"))
    legend(axis, "upper left")


def _targets(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        y = examples(run.problem.train_source, run.problem)[1].flatten()
        axis.hist(
            np.sign(y) * np.log10(1 + y.abs()),
            bins=40,
            histtype="stepfilled",
            color=colour,
            alpha=0.75,
            label=label,
        )
    large = limit("unscaled-targets", "LARGE")
    axis.axvline(np.log10(1 + large), color="#30343b", lw=1.1, ls="--")
    axis.annotate(
        "LARGE",
        (np.log10(1 + large), 0.6),
        xycoords=("data", "axes fraction"),
        fontsize=8.5,
        xytext=(3, 0),
        textcoords="offset points",
    )
    ticks = np.array([-1, 0, 1, 5, 20, 100, 300])
    axis.set_xticks(np.sign(ticks) * np.log10(1 + np.abs(ticks)))
    axis.set_xticklabels([str(each) for each in ticks])
    axis.set_ylim(0, 32)
    axis.set(title="How we know", xlabel="target (logarithmic)", ylabel="examples")
    legend(axis, "upper center")


def _recall(axis: Any, pair: Pair) -> None:
    width = 0.38
    for offset, (run, colour, label) in zip((-width / 2, width / 2), pair.runs, strict=True):
        model = run.model("last").eval()
        x, y = examples(run.problem.valid_source, run.problem)
        with torch.no_grad():
            said = model(x).argmax(1)
        recalls = [float((said[y == k] == k).float().mean()) for k in (0, 1)]
        axis.bar(np.arange(2) + offset, recalls, width, color=colour, label=label)
    level(axis, limit("class-imbalance", "GIVEN_UP"), named("class-imbalance", "GIVEN_UP"), at=0.5)
    axis.set_xticks([0, 1])
    axis.set_xticklabels(["common class", "rare class"])
    axis.set(title="How we know", ylabel="recall on held-out data", ylim=(0, 1.1))
    axis.grid(visible=False, axis="x")


def _order(axis: Any, pair: Pair) -> None:
    served = DataLoader(pair.made["data"], batch_size=32), pair.made["shuffled"]
    for loader, (_, colour, label) in zip(served, pair.runs, strict=True):
        means = [float(y.double().mean()) for _, y in loader]
        axis.plot(means, color=colour, label=label)
    found = pair.facts("order")[0]
    most = found["expected"] + limit("unshuffled-data", "BETWEEN")
    said = f"{found['explained']:.0%} of the variance lies between batches\n(limit {most:.0%})"
    axis.text(0.03, 0.97, said, transform=axis.transAxes, va="top", fontsize=8.5, color=SICK)
    axis.set(
        title="How we know", xlabel="batch of the epoch", ylabel="mean label of the batch", ylim=(-0.4, 11)
    )
    legend(axis, "lower right")


def _noise(axis: Any, pair: Pair) -> None:
    values = [float(pair.facts("signal")[0]["noise"]), float(_signal(pair)["noise"])]
    bars(
        axis,
        values,
        limit("label-noise", "NOISE"),
        what="share of labels that trees contradict",
        over=named("label-noise", "NOISE"),
    )


DRAWN = {
    "non-finite-data": _non_finite,
    "dataset-shift": _shift,
    "constant-target": _constant,
    "uninformative-inputs": _uninformative,
    "unscaled-inputs": _features,
    "unscaled-targets": _targets,
    "class-imbalance": _recall,
    "unshuffled-data": _order,
    "label-noise": _noise,
}
