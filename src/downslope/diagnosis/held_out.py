"""What a watched loop computed on data that it does not train on, and whether it says something of variance.

The losses of training and validation are compared only where they are of one kind: the same function, or two
series that begin on one level. A loss in other units, a sum, or an accuracy handed over as a loss would look
like a model that fails on new data.
"""

from __future__ import annotations

import inspect
import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core.history import Series
from downslope.core.run import Run
from downslope.diagnosis.ear import Call
from downslope.diagnosis.shown import Overheard, Shown
from downslope.diagnosis.tally import Tally

BATCHES = 4
"""Batches whose spread gives the standard error of their mean; of fewer the examples are counted."""

SPREAD = 2.0
"""Deviation of the losses of single examples in their mean, taken where it was not measured: that of a
classifier that is sure of itself and wrong once in five."""

EXAMPLES = 40
"""Validation examples that are taken for granted where their number was not said. Convention."""

FAR = 2.0
"""First validation loss in that of a constant guess beyond which it is no loss of the same kind: an untrained
model does a little worse than a constant, and one that is trained better. Convention."""

RISE = 0.05
"""Rise of what was handed over as a loss, within 0 and 1, from which it may be an accuracy. Convention."""

_REDUCTIONS = ("reduction", "size_average", "reduce")

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])

Place = tuple[tuple[str, int], ...]
"""Where in a script a score was asked for: files and lines."""

Scored = list[tuple[float, int]]
"""Loss and examples of each batch of a validation pass."""


class HeldOut:
    """The losses that a script computed without gradients, apart by the place that asked for them."""

    def __init__(self) -> None:
        self._calls: dict[Place, Call] = {}
        self._passes: dict[Place, dict[int, Scored]] = {}
        self._most = 0
        self.shown = Overheard()
        """Batches of what was scored, as the model was handed them."""
        self.tally = Tally()
        """What was last said of all that is scored at a place."""
        self.chosen: Place | None = None
        """The place whose scores counted for the latest run, where they are of the loss trained by."""

    def trained_on(self, target: Tensor) -> Tensor:
        """The same; noted is how many examples it holds."""
        self._most = max(self._most, _rows(target))
        return target

    def beyond(self, target: Tensor) -> bool:
        """Whether it holds more examples than any batch that was trained on: it is none from their loader."""
        return _rows(target) > self._most

    def scored(self, place: Place, step: int, call: Call) -> None:
        """A loss without a gradient, after `step` steps of all optimizers."""
        target, value = call.args[1], float(call.value.mean())
        if place not in self._calls:
            # A call is kept for what it is, not for what went through it.
            empty = target[:0].detach() if target.dim() else target.detach()
            self._calls[place] = call._replace(args=(empty, empty, *call.args[2:]), value=empty)
        rows = _rows(target)
        parts = target.numel() if _of_sums(call) else 1
        self._passes.setdefault(place, {}).setdefault(step, []).append((value / max(parts, 1), rows))
        self.shown.scored(place, call.args[0], target)
        self.tally.add(place, step, call.args[0], target)

    def conclude(self, run: Run, span: tuple[int, int], trained: Call | None) -> None:
        """What this says of one optimizer's run: the history ``valid_loss`` and the fact ``ending``.

        Of several places the one that scores by the function of training counts, and of those the one that
        came back most often; of equals the later.

        Args:
            run: Gets both, or the reason why not.
            span: First and last step of the optimizer, counted over all optimizers.
            trained: The loss that it trains by; None where it was not recognised.
        """
        if "valid_loss" in run.history:  # concluded before
            return
        found: list[tuple[bool, dict[int, Scored], Call]] = []
        self.chosen = None
        self.shown.close()
        for place, passes in self._passes.items():
            own = {step: rows for step, rows in passes.items() if span[0] <= step <= span[1]}
            if own:
                call = self._calls[place]
                found.append((trained is not None and alike(call, trained), own, call))
        if not found:
            run.facts["not_measured"]["ending"] = NOTHING
            return
        same, passes, call = max(reversed(found), key=lambda each: (each[0], len(each[1])))
        if same:  # another function may want other outputs, such as a probability in eval mode
            self.chosen = next(place for place, each in self._calls.items() if each is call)
        share = run.summary["steps"] / max(span[1] - span[0] + 1, 1)
        error, examples = math.nan, 0
        for step, rows in passes.items():
            mean, error, examples = mean_and_error(rows)
            run.history.log(round((step - span[0] + 1) * share), valid_loss=mean)
        run.summary["valid_loss"] = run.history.last("valid_loss")
        conclude(run, same=same or None, error=error, examples=examples)
        one_scale = same and trained is not None and not _of_sums(trained)
        if not one_scale and "ending" not in run.facts:
            run.facts["valid_apart"] = inspect.unwrap(call.function).__name__

    @property
    def kept(self) -> Shown | None:
        """Batches of the place that counted; None where there was none, or it scores by another loss."""
        return None if self.chosen is None else self.shown.parts.get(self.chosen)


NOTHING = "no loss on held-out data was seen: compute it by a loss of torch.nn, under torch.no_grad()"


def _of_sums(call: Call) -> bool:
    found = _arguments(call, reductions=True)
    return found is not None and found.get("reduction") == "sum"


def mean_and_error(rows: Scored) -> tuple[float, float, int]:
    """Mean over the examples, its standard error, and the number of examples."""
    total = max(sum(n for _, n in rows), 1)
    mean = sum(value * n for value, n in rows) / total
    if len(rows) < BATCHES:
        return mean, SPREAD * abs(mean) / math.sqrt(total), total
    return mean, statistics.stdev(value for value, _ in rows) / math.sqrt(len(rows)), total


def alike(first: Call, second: Call) -> bool:
    """Whether two calls are of one loss function with the same arguments, but for how they reduce."""
    if inspect.unwrap(first.function) is not inspect.unwrap(second.function):
        return False
    given, other = _arguments(first), _arguments(second)
    return given is not None and other is not None and all(_same(given[k], other.get(k)) for k in given)


def _arguments(call: Call, *, reductions: bool = False) -> dict[str, Any] | None:
    try:
        found = inspect.signature(call.function).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        return None
    found.apply_defaults()
    return {k: v for k, v in list(found.arguments.items())[2:] if reductions or k not in _REDUCTIONS}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
        return first is second or (both and torch.equal(first, second))
    return bool(first == second)


def conclude(
    run: Run, *, same: bool | None, error: float | None = None, examples: int | None = None, said: bool = True
) -> None:
    """Put the fact ``ending`` into `run`, or the reason why validation and training cannot be compared.

    Args:
        run: Its history has the validation losses; ``constant`` is known where it could be.
        same: Whether the validation loss is of the function that is trained by; None where that was not seen.
        error: Standard error of the last validation loss; None where it was not measured.
        examples: Validation examples; None where they were not counted.
        said: Whether the values are known to be a loss.
    """
    valid, reasons = run.history.series("valid_loss"), run.facts["not_measured"]
    values = valid.values[valid.steps > 0]
    train = run.summary.get("train_loss")
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    base = constant.get("loss")
    if not len(values):
        return
    reasons.pop("ending", None)
    if train is None or not math.isfinite(train) or not math.isfinite(values[-1]):
        reasons["ending"] = "the loss of training or validation is not finite"
    elif base is None:
        reasons["ending"] = "what a constant guess costs is not known, to which both losses would be held"
    elif not same and (why := unlike(values, base, said)) is not None:
        reasons["ending"] = why
    else:
        last = float(values[-1])
        guessed = SPREAD * abs(last) / math.sqrt(examples or EXAMPLES)
        run.facts["ending"] = {
            "steps": run.summary["steps"], "train_loss": train, "train_stderr": _spread(run),
            "valid_loss": last, "valid_stderr": guessed if error is None else error,
            "valid_n": examples or EXAMPLES, "best_valid_loss": float(np.nanmin(values)),
        }  # fmt: skip
        # The targets of both parts are taken to be alike.
        run.facts["constant"] = dict(constant) | {"valid_loss": base}


def unlike(values: Any, base: float, said: bool) -> str | None:
    """Why validation losses cannot be of the objective that is trained by; None where they can."""
    first, last = float(values[0]), float(values[-1])
    if base <= 0:
        return "the training loss can be negative, so that its size says nothing"
    if first > FAR * base:
        return (
            f"the first validation loss, {first:.3g}, is far above the {base:.3g} that a constant guess "
            "costs in training: it is another loss, a sum, or in other units"
        )
    rising = first <= values.min() + 0.02 and last >= values.max() - 0.02 and last - first > RISE
    if not said and values.min() >= 0 and values.max() <= 1 and rising:
        return (
            f"the validation value rose from {first:.3g} to {last:.3g}, which an accuracy does too: call "
            "monitor.validate(loss=...) or monitor.validate(metric=...)"
        )
    return None


def _rows(target: Tensor) -> int:
    return len(target) if target.dim() else 1


def _spread(run: Run) -> float:
    series: Series = run.history.series("train_loss")
    tail = series.values[-max(2, len(series.values) // 10) :]
    return float(tail.std() / math.sqrt(len(tail)))


def place() -> Place:
    """Where in the script a score was asked for: the lines of the user's frames, outermost last."""
    frame: Any = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] (there is no public way that is cheap)
    found: list[tuple[str, int]] = []
    while frame is not None and len(found) < 6:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _OURS)):
            found.append((name, frame.f_lineno))
        elif name.endswith("script.py") and name.startswith(_OURS):
            break
        frame = frame.f_back
    return tuple(found)
