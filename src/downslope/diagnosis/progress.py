"""How far a run came: the one gate through which alarms about the step and the terrain have to pass.

Everything is measured on the way from the best constant prediction down to what is reachable. `reachable`
is the lowest loss that this run, a reference or a paired trial got to with no more steps. Where there is
held-out data, only those count that did better there than this run: what memorises shows nothing that was to
be learnt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.core.run import Run

FAR = 0.75
"""A run that covers less of the way is far from what is reachable. Convention."""

SOLVED = 0.9
"""Share of the way to a perfect score at which a run counts as solved. Convention; bench/diagnosis."""

STANDING = 0.1
"""A run that covers less of the way is no better than a constant. Convention; bench/diagnosis."""

FUTILE = 0.1
"""Share of the way to a perfect score that something must reach before a run is blamed. Convention."""

BEYOND = 2.0
"""Standard errors by which another run has to be better on held-out data to count. Convention."""

LEAST = 0.02
"""Share of the way from a constant to a perfect score, on held-out data, below which nothing was reached
there."""

UNTOLD = 0.01
"""Share of a constant's loss on held-out data that has to be taken off before anything was told there.
Convention."""

BATCHES = 5
"""Batch losses at least of which a mean is taken for the loss at the end. Convention."""

_FLOORED = {"logits", "logit", "probability", "probabilities", "log-probabilities", "real", "sign"}
"""What objectives expect whose lowest value is 0 (or, for NLL on real numbers, is not known)."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run came, in shares of the way from the best constant prediction to what is reachable."""

    constant: float | None
    """Loss of the best constant prediction; the first loss where it is not known; None if neither is."""
    first: float | None
    """Loss of the untrained model."""
    final: float | None
    """Loss at the end; None where the run left the finite numbers."""
    reachable: float | None
    """The lowest loss known to be reachable in as many steps; None where nothing was compared."""
    share: float | None
    """Share of the way covered, at most 1; negative for a run that ended above the constant."""
    valid_share: float | None
    """The same by the validation metric, or the validation loss without a metric."""
    solved: bool
    """The goal is reached, or the score is close to perfect."""
    diverged: bool
    """The run left the finite numbers."""
    futile: bool
    """In as many steps nothing that was compared got further than a tenth of the way to a perfect score: the
    run is too short, or the data has nothing to learn."""
    falling: float
    """Fall of the loss in the last fifth of the run, as a share of what is left to reach."""

    @property
    def ended_far(self) -> bool:
        """Whether more than a quarter of the way was left, and the run is not solved."""
        if self.diverged:
            return True
        if self.solved or self.share is None or self.futile:
            return False
        if self.valid_share is not None and self.valid_share >= 1 - (1 - FAR) / 2:
            return False
        return self.share < FAR

    @property
    def standing(self) -> bool:
        """Whether the run ended no better than a constant prediction."""
        return self.diverged or (not self.solved and self.share is not None and self.share < STANDING)


def progress(run: Run) -> Progress:
    """How far `run` came, by what is recorded; pure."""
    facts = run.facts
    sign = -1.0 if run.maximize else 1.0
    ending: Mapping[str, Any] = facts.get("ending") or {}
    constant_scores: Mapping[str, Any] = facts.get("constant") or {}
    first = _signed(table(run, "start").get("loss"), sign)
    if first is None:
        first = _signed(_early(run), sign)
    final = final_loss(run)
    final = None if final is None else sign * final
    diverged = run.status == "diverged" or facts.get("nonfinite") is not None
    diverged = diverged or (final is None and bool(len(run.history.series("train_loss").steps)))
    constant = _signed(constant_scores.get("loss"), sign)
    base = constant if constant is not None else first
    others = [each for each in _others(facts) if each.get("loss") is not None]
    better = [sign * each["loss"] for each in others if _beyond(run, ending, each)]
    reached = [each for each in (final, *better) if each is not None and math.isfinite(each)]
    # A remedy that failed does not say that there is nothing further; a reference does.
    reachable = min(reached) if reached and (better or facts.get("references")) else None
    solved = _solved(run, base, final, constant_scores, ending)
    floor = bottom(run)
    futile = False
    if reachable is not None and base is not None and floor is not None and facts.get("references"):
        futile = base - reachable < FUTILE * (base - floor)
    return Progress(
        constant=None if base is None else sign * base,
        first=None if first is None else sign * first,
        final=None if final is None else sign * final,
        reachable=None if reachable is None else sign * reachable,
        share=None if facts.get("rivals") and not diverged else _share(base, final, reachable, diverged, run),
        valid_share=_valid_share(run, constant_scores, ending),
        solved=solved and not diverged,
        diverged=diverged,
        futile=futile,
        falling=_falling(run, sign, base, reachable),
    )


def table(run: Run, fact: str) -> Mapping[str, Any]:
    """A recorded table of measurements; empty where it was not made."""
    return run.facts.get(fact) or {}


def final_loss(run: Run) -> float | None:
    """Loss at the end in the user's units: the better of the scored model and the last batches' mean.

    A mean over batches holds for models whose eval mode differs (few steps of batch norm), the scored model
    for those that train under dropout.
    """
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    found = [ending.get("train_loss"), smoothed(run)]
    finite = [float(each) for each in found if each is not None and math.isfinite(each)]
    if not finite or run.facts.get("nonfinite") is not None:
        return None
    return max(finite) if run.maximize else min(finite)


def untold(run: Run) -> bool:
    """Whether the loss on held-out data never was below that of a constant guess, as far as it was scored."""
    lowest, base = table(run, "ending").get("best_valid_loss"), table(run, "constant").get("valid_loss")
    if lowest is None or base is None or run.maximize or not base > 0:
        return False
    return float(lowest) >= (1 - UNTOLD) * float(base)


def smoothed(run: Run, until: int | None = None) -> float | None:
    """Mean batch loss over the last tenth of the steps up to `until`, five at least: fewer batches are noise.

    None if not finite or not recorded.
    """
    series = run.history.series("train_loss")
    values = series.values if until is None else series.values[series.steps <= until]
    if not len(values):
        return None
    tail = values[-max(BATCHES, len(values) // 10) :]
    return float(tail.mean()) if bool(np.isfinite(tail).all()) else None


SHARES = ("accuracy", "balanced_accuracy", "f1", "auc")
"""Metrics that count examples: their error is that of a share."""


def bounded(run: Run) -> bool:
    """Whether the metric is one whose best value is 1 (accuracy, F1, AUC, R2)."""
    return run.metric_name in (*SHARES, "r2")


def _signed(value: float | None, sign: float) -> float | None:
    return None if value is None or not math.isfinite(value) else sign * value


def _early(run: Run) -> float | None:
    values = run.history.series("train_loss").values
    return float(values[0]) if len(values) and math.isfinite(values[0]) else None


def _others(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What was reached beside the run: by references, by other rates, and by paired trials of full length."""
    yield from facts.get("references") or ()
    yield from (facts.get("rates") or {}).get("scores") or ()
    for each in (facts.get("trials") or {}).values():
        if each.get("full") and not each.get("longer"):
            yield each


def _beyond(run: Run, ending: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `other` did better on held-out data than the run's last model, or nothing there tells.

    By the loss, or by a metric that is a share, whose errors are known.
    """
    told = [
        gain > BEYOND * error
        for key, up in (("loss", run.maximize), ("metric", True))
        if (error := _error(run, ending, key)) is not None
        and (gain := _gain(ending.get(f"valid_{key}"), other.get(f"valid_{key}"), up)) is not None
    ]
    return not told or any(told)


def _gain(own: float | None, other: float | None, up: bool) -> float | None:
    if own is None or other is None or not (math.isfinite(own) and math.isfinite(other)):
        return None
    return other - own if up else own - other


def _error(run: Run, ending: Mapping[str, Any], key: str) -> float | None:
    """Standard error of the last model's held-out score; None where it is not known.

    A loss whose error is of its own size has a few examples far off, and does not tie with a small one.
    """
    value, count = ending.get(f"valid_{key}"), ending.get("valid_n")
    if value is None or not count:
        return None
    if key == "loss":
        error = ending.get("valid_stderr")
        return None if error is None else min(float(error), 0.25 * abs(float(value)))
    if run.metric_name not in SHARES:
        return None
    p = min(max(float(value), 0.5 / count), 1 - 0.5 / count)
    return math.sqrt(p * (1 - p) / count)


def _share(
    base: float | None, final: float | None, reachable: float | None, diverged: bool, run: Run
) -> float | None:
    if diverged:
        return -math.inf
    if base is None or final is None:
        return None
    least = 1e-6 * max(abs(base), 1e-12)
    # Others that got no further than a constant do not say what is reachable.
    lowest = bottom(run)
    material = max(least, LEAST * (base - (final if lowest is None else min(final, lowest))))
    known = reachable is not None and base - reachable > material
    floor = reachable if known else lowest
    if floor is None or base - floor <= least:
        return 0.0 if final >= base - least else None
    return (base - final) / (base - floor)


def bottom(run: Run) -> float | None:
    """The lowest value that the objective can take, where that is known."""
    expects = table(run, "output").get("expects")
    return 0.0 if expects in _FLOORED else None


def _solved(
    run: Run,
    base: float | None,
    final: float | None,
    constant: Mapping[str, Any],
    ending: Mapping[str, Any],
) -> bool:
    if run.status == "goal":
        return True
    if run.problem is not None and run.problem.reached(run.summary.get("valid_metric")):
        return True
    if bounded(run) and ending.get("train_metric") is not None:
        pairs = [(ending["train_metric"], constant.get("metric"))]
        if ending.get("best_valid_metric") is not None:
            pairs.append((ending["best_valid_metric"], constant.get("valid_metric")))
        return all(value - (low or 0.0) >= SOLVED * (1 - (low or 0.0)) for value, low in pairs)
    floor = bottom(run)
    if floor is None or base is None or final is None or base <= floor:
        return False
    return (base - final) / (base - floor) >= SOLVED


def _valid_share(run: Run, constant: Mapping[str, Any], ending: Mapping[str, Any]) -> float | None:
    """Share of the way by the validation metric, else the validation loss, against what others reached."""
    key = "metric" if ending.get("best_valid_metric") is not None else "loss"
    own, base = ending.get(f"best_valid_{key}"), constant.get(f"valid_{key}")
    if own is None or base is None:
        return None
    sign = -1.0 if _higher_is_better(run, key) else 1.0
    others = [e.get(f"valid_{key}") for e in _others(run.facts)]
    known = [sign * each for each in (own, *others) if each is not None and math.isfinite(each)]
    if len(known) < 2 or not math.isfinite(own):
        return None
    reach = min(known)
    if reach == sign * own and not run.facts.get("references"):
        return None  # a remedy that failed does not say that there is nothing further
    # Where nobody told held-out data better than a constant, it does not say who came further.
    least = LEAST * (abs(1.0 - base) if key == "metric" and bounded(run) else abs(base))
    return (sign * base - sign * own) / (sign * base - reach) if sign * base - reach > least else None


def _higher_is_better(run: Run, key: str) -> bool:
    return run.metric_up if key == "metric" else run.maximize


def _falling(run: Run, sign: float, base: float | None, reachable: float | None) -> float:
    """Fall over the last fifth of the steps, in shares of the way from the constant to what is reachable."""
    values = sign * run.history.series("train_loss").values
    if len(values) < 10 or base is None:
        return 0.0
    fifth = max(1, len(values) // 5)
    before, after = float(np.median(values[-2 * fifth : -fifth])), float(np.median(values[-fifth:]))
    fall = before - after
    way = base - (reachable if reachable is not None else min(0.0, float(values.min())))
    return fall / way if math.isfinite(fall) and way > 0 else 0.0
