"""What the first steps did: whether they threw the run where it does not come back from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downslope.core.history import Floats, Probe
from downslope.core.run import Run
from downslope.diagnosis.decayed import decayed
from downslope.diagnosis.progress import Progress, progress, smoothed, table

SPIKE = 1.5
"""Loss of the early steps in those of the start beyond which it counts as thrown up."""

RISEN = 1.05
"""Loss at the end in that of the first step beyond which the steps led up: a stable one leads down."""

SURE = 3.0
"""Standard errors of the mean batch loss beyond which a rise is none of the batches' noise."""

USUAL = 1e-3
"""Update of a module in its weights below which no step is too large (CS231n: about 1e-3 is usual)."""

FEWEST = 50
"""Steps from which the end of a run can be told from its beginning."""

CALM = 3
"""Losses that did not rise before one that is not finite, from which that came suddenly. Convention."""

LEVEL = 5
"""Losses whose median is a level; of fewer than two levels, any rise is one. Convention."""

DECADES = 1e6
"""Rise of a loss over its median up to which no gradient next to it overflows. Convention; float32 has 38."""

LEAP = 1.0
"""Update of the weights in the weights themselves from which a step is a leap: nothing is left of them."""

FEW = 20
"""Steps under which a run that stands where it began has told nothing. Convention."""

LITTLE = 0.02
"""Share of a constant guess's loss by which a run must lie below it to have learnt something. Convention."""

EXTREME = 30.0
"""Root mean square of a feature as the first layer has it, or gain of a layer, beyond which the first loss is
of their making: in squares 900 times that of sound ones, and more. The certain limit of unscaled inputs."""

FRO = 4
"""Times in 20 steps that losses cross the line of a throw from which they are those of unlike batches. What
is thrown up comes down once, and may be thrown again. Convention."""

BEGINNING = 20
"""First losses whose differences tell how far a single batch is off. Convention."""

OPENING, HELD = 25, 5
"""Steps in which a rate shows that throws the weights away, and losses in a row that all have to be up: one
hard batch is no throw. Of 390 runs at 1 to 1000 times a sound rate nearly all that were thrown peaked so."""

STRIDE = 0.5
"""What a steady step changes of the median layer's weights, in the weights before the first, from which it is
a stride. Adam at sound rates makes 0.01 to 0.1, and 0.5 to 2 where it was seen to stand."""

ORDERED = 0.3
"""Share of the targets' variance between batches from which they come sorted (`symptoms.unshuffled_data`)."""

QUENCHED = 0.01
"""Gradient of a layer after the opening in that before the first step, median over the layers, below
which the network tells its layers nothing any more. Runs at sound rates that stand for another reason
(shuffled labels) keep 0.1 to 10; those that were thrown had 0 to 0.006, or 1 to 100."""

ALIVE, KILLED = 0.5, 0.9
"""Share of a layer's units dead at the start, at most, and later, at least, if a step killed them."""


def inflated(run: Run) -> bool:
    """Whether the way from the start says nothing, because inputs or weights out of scale made the start.

    So where neither a constant guess nor anything else is known to compare with, and the largest feature or
    the gain of a layer is extreme: the squares of such outputs fall by any step, far above any sound loss.
    """
    if (run.facts.get("constant") or {}).get("loss") is not None or progress(run).reachable is not None:
        return False
    layers: Sequence[Mapping[str, Any]] = table(run, "start").get("layers") or ()
    entry = layers[0].get("entry") if layers else None
    features: Mapping[str, Any] = entry or table(run, "features")
    large = (features.get("max_rms") or 0.0) > EXTREME
    return large or any(each["gain"] > EXTREME for each in layers)


def short(run: Run) -> bool:
    """Whether the run stands where it began because it has hardly begun, with nothing to compare it with."""
    how = progress(run)
    if how.diverged or not how.standing or how.reachable is not None:
        return False
    return (run.summary.get("steps") or 0) < FEW and not thrown(run)


def little(run: Run) -> bool:
    """Whether the run learnt something beyond doubt, though little of the way to a perfect score.

    How much there was to learn is not known where nothing was compared: noisy targets leave little.
    """
    how = progress(run)
    sign = _sign(run)
    known = sign * ((run.facts.get("constant") or {}).get("loss") or 0.0)
    if how.diverged or how.reachable is not None or how.final is None or known <= 0:
        return False
    values = sign * run.history.series("train_loss").values
    if len(values) < FEW:
        return False
    half = values[len(values) // 2 :]  # of a loss that falls its mean is no lower than the end
    noise = SURE * float(half.std()) / math.sqrt(len(half))
    return float(half.mean()) + noise < known and sign * how.final < (1 - LITTLE) * known


def sudden(run: Run) -> bool:
    """Whether the loss left the finite numbers from one step to the next, and nothing led up to it.

    A step that is too large throws the loss up, or the weights, before they overflow. Without either, NaN in
    a batch or the arithmetic of the objective is behind it.
    """
    values = _sign(run) * run.history.series("train_loss").values
    lost = np.flatnonzero(~np.isfinite(values))
    if not len(lost) and run.facts.get("nonfinite") is None:
        return False
    before = values[: lost[0]] if len(lost) else values
    if not len(before):
        return bool(len(values))
    median: float = np.median(before[-FEWEST:]).item()
    usual = min(float(before[0]), median)
    rose = float(before[-1]) - usual > (2 * SPIKE - 1) * abs(usual) and not _broken(run, before)
    moved = _moved(run)
    if rose or (moved is not None and moved > LEAP):
        return False
    return len(before) >= CALM or moved is not None


def ever_rose(run: Run) -> bool:
    """Whether the losses rose at any time before the first that is not finite, by more than batches differ.

    Of an objective that is maximised, whether it fell.
    """
    values = _sign(run) * run.history.series("train_loss").values
    lost = np.flatnonzero(~np.isfinite(values))
    before = values[: lost[0]] if len(lost) else values
    steps = np.diff(before)
    if len(before) < 2 * LEVEL:
        return bool((steps > 0).any())
    usual = SURE * float(np.median(np.abs(steps)))  # of plain noise nearly three standard deviations
    levels = np.median(before[len(before) % LEVEL :].reshape(-1, LEVEL), axis=1)
    return bool(levels[-1] > levels.min() + usual or before.max() > before[0] + 2 * usual)


def _broken(run: Run, before: Floats) -> bool:
    """Whether the gradient next to the loss was not finite while the loss was, and far from overflowing.

    A step that is too large has thrown the loss up by many decades before a gradient overflows.
    """
    found: Mapping[str, Any] = table(run, "nonfinite").get("gradients") or {}
    called = [name for name, row in table(run, "modules").items() if row.get("called")]
    trained = [name for name in called if name in (*found.get("bad", ()), *found.get("sound", ()))]
    calm = abs(float(before[-1])) < DECADES * float(np.median(np.abs(before)))
    return calm and bool(trained) and trained[-1] in found["bad"]


def _moved(run: Run) -> float | None:
    """The largest update of a step in the weights, median over the modules; None where none was measured.

    Infinite where the update of any module overflowed although its gradient had not.
    """
    if "update_ratio" not in run.probes:
        return None
    probe = run.probes["update_ratio"]
    if _overflowed(run, probe):
        return math.inf
    rows = _of_weights(run, probe)
    middle = [float(np.median(row[np.isfinite(row)])) for row in rows if np.isfinite(row).any()]
    return max(middle, default=None)


def _of_weights(run: Run, updates: Probe) -> Floats:
    """The updates in the weights; of such as began at zero in what they grew to: any is large in none."""
    if "weight_norm" not in run.probes:
        return updates.values
    norms, found = run.probes["weight_norm"], updates.values.copy()
    for column, name in enumerate(updates.modules):
        own = norms.of(name) if name in norms.modules else np.ones(1)
        if own[0] == 0.0 and len(own) == len(found):
            grown = float(own[np.isfinite(own)].max())
            found[:, column] *= np.maximum(own, 1e-12) / grown if grown > 0 else np.nan
    return found


def _overflowed(run: Run, updates: Probe) -> bool:
    """Whether a finite gradient made an update that is not."""
    rows, columns = np.nonzero(np.isinf(updates.values))
    if not len(rows) or "grad_norm" not in run.probes:
        return False
    grads = run.probes["grad_norm"]
    for row, column in zip(rows, columns, strict=True):
        at, name = np.flatnonzero(grads.steps == updates.steps[row]), updates.modules[column]
        if len(at) and name in grads.modules and np.isfinite(grads.of(name)[at[0]]):
            return True
    return False


def spike(run: Run, how: Progress) -> float:
    """Median loss of the steps 2 to 20 in the loss before the first; infinite where it left the numbers.

    0 where the losses go to and fro across the first one: that is one batch beside another, such as single
    examples, and not what a step did.
    """
    values = run.history.series("train_loss").values[1:20]
    if how.first is None or not _sign(run) * how.first > 0 or not len(values) or sudden(run):
        return 0.0
    if np.count_nonzero(np.diff(values > SPIKE * how.first)) >= FRO:
        return 0.0
    return math.inf if not np.isfinite(values).all() else float(np.median(values)) / how.first


def tossed(run: Run) -> float:
    """The highest median of some losses in a row among the first ones, in the larger of start and constant.

    0 where no constant is known, or where the targets come sorted: a new class is then a loss that is up.
    """
    how, known = progress(run), table(run, "constant").get("loss")
    values = run.history.series("train_loss").values[:OPENING]
    if known is None or run.maximize or len(values) < HELD or how.first is None or sudden(run):
        return 0.0
    base = max(how.first, float(known))
    if base <= 0 or (table(run, "order").get("explained") or 0.0) > ORDERED:
        return 0.0
    losses: list[float] = [each if math.isfinite(each) else math.inf for each in values.tolist()]
    return max(statistics.median(losses[i : i + HELD]) for i in range(len(losses) - HELD + 1)) / base


def quenched(run: Run) -> float | None:
    """Gradient of the layers after the opening in that before the first step; None where not measured.

    The median over the modules.
    """
    if "grad_norm" not in run.probes:
        return None
    probe = run.probes["grad_norm"]
    later = probe.values[np.asarray(probe.steps) > OPENING]
    if not len(later):
        return None
    there = np.isfinite(probe.values[0]) & np.isfinite(later).all(axis=0) & (probe.values[0] > 0)
    if not there.any():
        return None
    return float(np.median(np.median(later[:, there], axis=0) / probe.values[0][there]))


def stride(run: Run) -> float:
    """Update of the first step in the weights as steady steps make it, median over modules; 0 if unknown.

    Those of RMSprop begin 1 / sqrt(1 - alpha) times as large, with momentum they grow to 1 / (1 - momentum).
    """
    if "update_ratio" not in run.probes:
        return 0.0
    first = _of_weights(run, run.probes["update_ratio"])[0]
    rule = table(run, "optimizer")
    if not np.isfinite(first).any() or rule.get("name") == "adagrad":
        return 0.0
    if rule.get("name") == "signum":  # every step is one rate long
        return float(np.nanmedian(first))
    factor = math.sqrt(1 - float(rule.get("alpha", 0.99))) if rule.get("name") == "rmsprop" else 1.0
    momentum = float(rule.get("momentum") or 0.0)
    return factor * float(np.nanmedian(first)) / max(1 - momentum, 1e-3)


def wrecked(run: Run) -> bool:
    """Whether the first steps threw the loss far up; or up by strides, or with it the gradient down."""
    times, left = tossed(run), quenched(run)
    hard = stride(run) > STRIDE or (left is not None and left < QUENCHED)
    return times > 2 * SPIKE or (times > SPIKE and hard)


def killed(run: Run) -> int | None:
    """The step by which the units of a layer had died that were alive at the start: a step did that.

    None where none died for good, and where decay took the weights from under them.
    """
    if "dead_fraction" not in run.probes or decayed(run) is not None:
        return None
    rows = run.probes["dead_fraction"].values
    if len(rows) < 2:
        return None
    later = rows[-max(1, len(rows) // 4) :].min(axis=0)  # what was not measured compares as no
    dead = np.flatnonzero((rows[0] <= ALIVE) & (later >= KILLED))
    if not len(dead):
        return None
    return int(run.probes["dead_fraction"].steps[int((rows[:, dead] >= KILLED).argmax(axis=0).min())])


def risen(run: Run) -> float:
    """Loss over the last tenth of the steps in the larger of the start's and a constant guess's.

    0 where that is not known, where the rise lies within the noise of the batches (that of the first one too,
    where it alone told the start), where the updates are too small to have led anywhere, or where decay took
    the weights.
    """
    sign = _sign(run)
    series = run.history.series("train_loss").values
    how, end = progress(run), smoothed(run)
    known = [sign * each for each in (how.first, how.constant) if each is not None and sign * each > 0]
    if end is None or len(series) < FEWEST or not known or _crawls(run) or decayed(run) is not None:
        return 0.0
    tail = series[-max(2, len(series) // 10) :]
    noise = SURE * math.hypot(float(tail.std()) / math.sqrt(len(tail)), _of_first(run, tail))
    return sign * end / max(known) if sign * end - noise > max(known) else 0.0


def _of_first(run: Run, tail: Floats) -> float:
    """Deviation of the loss of the first batch by chance, where that is what is known of the start.

    Two estimates, of which the smaller counts: the differences between the first losses (their median is
    0.95 deviations), and the relative spread of the last ones. 0 where the constant is no lower, or hardly.
    """
    values, first = run.history.series("train_loss").values, progress(run).first
    constant = table(run, "constant").get("loss")
    near = constant is not None and first is not None and _sign(run) * (RISEN * constant - first) >= 0
    if first is None or near or values[0] != first:
        return 0.0
    steps = np.abs(np.diff(values[:BEGINNING]))
    spread = float(tail.std()) / max(abs(float(tail.mean())), 1e-300) * abs(first)
    return min(float(np.median(steps)) / 0.95, spread)


def _sign(run: Run) -> float:
    """By which the objective is multiplied to be minimised."""
    return -1.0 if run.maximize else 1.0


def _crawls(run: Run) -> bool:
    if "update_ratio" not in run.probes:
        return False
    values = run.probes["update_ratio"].values
    return bool(np.isfinite(values).any()) and float(np.nanmedian(values)) < USUAL


def thrown(run: Run) -> bool:
    """Whether the step is beyond doubt.

    The loss left the numbers, was thrown up threefold in the first steps, ended above where it began, or
    units that lived at the start died.
    """
    how = progress(run)
    if how.diverged and not sudden(run):
        return True
    return spike(run, how) > 2 * SPIKE or risen(run) > RISEN or killed(run) is not None
