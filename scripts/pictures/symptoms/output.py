"""What the criteria of output and objective read."""

from __future__ import annotations

from typing import Any

import torch

from scripts.pictures.symptoms.curves import Pair, bars, examples, legend
from scripts.pictures.symptoms.data import limit, named


def _output(axis: Any, pair: Pair) -> None:
    for run, colour, label in pair.runs:
        x, _ = examples(run.problem.train_source, run.problem)
        with torch.no_grad():
            scores = run.model("last").eval()(x)
        top = scores.sort(1).values
        axis.hist(
            (top[:, -1] - top[:, 0]).clamp(max=40),
            bins=40,
            histtype="stepfilled",
            color=colour,
            alpha=0.75,
            label=label,
        )
    axis.axvline(1.0, color="#30343b", lw=1.1, ls="--")
    axis.annotate(
        "a softmax ends here",
        (1.0, 0.75),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8.5,
    )
    axis.set(
        title="How we know",
        xlabel="gap between the largest and the smallest score",
        ylabel="examples",
        yscale="log",
        ylim=(0.8, 2e3),
    )
    legend(axis, "upper right")


def _mismatch(axis: Any, pair: Pair) -> None:
    values = [_broadcast(each) for each in pair.facts("objective")]
    what = "relative difference that one shape makes"
    bars(
        axis,
        values,
        limit("objective-mismatch", "DIFFERENT"),
        what=what,
        log=True,
        floor=1e-5,
        over=named("objective-mismatch", "DIFFERENT"),
    )


def _broadcast(objective: Any) -> float:
    value, aligned = objective.get("value"), objective.get("aligned")
    return 0.0 if aligned is None else abs(value - aligned) / abs(aligned)


def _unstable(axis: Any, pair: Pair) -> None:
    z = torch.linspace(-40, 40, 161)
    p, y = torch.sigmoid(z), torch.zeros(161)
    by_hand = torch.stack([pair.made["entropy"](a[None], b[None]) for a, b in zip(p, y, strict=True)])
    safe = torch.nn.functional.softplus(z)
    axis.plot(z, safe, color="#0072b2", label="on the score: log(1 + exp z)")
    axis.plot(z, by_hand, color="#b3123f", label="on the probability, float32")
    last = float(z[torch.isfinite(by_hand)].max())
    first = float(z[torch.isfinite(by_hand)].min())
    for at in (last,) if first == float(z[0]) else (first, last):
        axis.axvline(at, color="#30343b", lw=1.1, ls="--")
    axis.text(last + 1, 3, "not a\nfinite\nnumber", fontsize=8.5, va="bottom")
    axis.set(title="How we know", xlabel="score z of an example of class 0", ylabel="its loss")
    legend(axis, "upper left")


def _summed(axis: Any, pair: Pair) -> None:
    values = [float(each["growth"]) for each in pair.facts("objective")]
    bars(
        axis,
        values,
        limit("summed-objective", "SUM"),
        what="loss of a batch taken twice in that of it once",
        over=named("summed-objective", "SUM"),
    )


def _flat(axis: Any, pair: Pair) -> None:
    z = torch.linspace(-2, 2, 161, requires_grad=True)
    target = torch.zeros(1)
    for objective, colour, label in (
        (pair.made["errors"], "#b3123f", "fault: rounded"),
        (torch.nn.functional.mse_loss, "#0072b2", "twin: squared error"),
    ):
        values = torch.stack([objective(each[None], target) for each in z])
        axis.plot(z.detach(), values.detach(), color=colour, label=label)
    axis.set(title="How we know: no slope anywhere", xlabel="output, target 0", ylabel="loss")
    legend(axis, "upper center")


DRAWN = {
    "non-differentiable": _flat,
    "output-activation": _output,
    "objective-mismatch": _mismatch,
    "unstable-objective": _unstable,
    "summed-objective": _summed,
}
