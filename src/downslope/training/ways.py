"""The ways to compute one step, timed: float32 or bfloat16, memory as it is or channels last, compiled.

``precision="auto"`` tries them on copies of the model, once for a machine and a model, where the run is long
enough to pay for it; a rule on the size of the run decides that, no clock, so that a small run takes the same
bits everywhere. What bfloat16 gains is taken only where it changes nothing that matters (`training.band`).
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import math
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Generator
from typing import NamedTuple, cast

import torch
from torch import nn

from downslope.core import batches
from downslope.core.adapted import Adapted
from downslope.core.loss import Objective
from downslope.core.run import Run
from downslope.core.sources import Source
from downslope.training import choices
from downslope.training.band import Band, measure
from downslope.training.methods import is_method
from downslope.training.shown import looks_again
from downslope.training.state import StepState
from downslope.training.stochastic import RANDOM_MODULES

WORTH = 5e11
"""Multiply-adds of all forward passes of a run below which nothing is tried: about 20 s on two cores."""

LONG = 1000
"""Steps of a run below which nothing is tried: the trial takes the time of about fifty."""

PAYS = 0.9
"""Share of the time of the best float32 step up to which another way is taken; timing is that unsure."""

COMPILES = 600.0
"""Seconds of a run, as fast as it gets without, above which compiling is tried: it takes half a minute."""

ROUNDS = 3
"""Timed steps of each way, in turns."""

KEPT = ("precision", "channels_last", "compiled", "milliseconds", "band")
"""What is chosen here, under these names in ``run.choices``."""

_exact: contextvars.ContextVar[bool] = contextvars.ContextVar("exact", default=False)


class Way(NamedTuple):
    """How a step is computed."""

    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        words = ["bfloat16" if self.bfloat16 else "float32"]
        words += ["channels last"] * self.channels_last + ["compiled"] * self.compiled
        return ", ".join(words)


PLAIN = Way()


@contextlib.contextmanager
def exact() -> Generator[None]:
    """A block whose runs are float32 as they stand: paired runs must differ in one thing only."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def arrange(
    state: StepState, train: Source, batch_size: int, products: int, total: int | None, *, tell: bool
) -> None:
    """Compute steps in the way of the run that goes on, else in one chosen where the run pays for trying.

    Args:
        state: Before the first step; its weights are laid out as the way wants them.
        train: On the device.
        batch_size: Examples a step.
        products: Multiply-adds of a forward pass.
        total: Steps of the run; None where the data does not tell.
        tell: Whether to say what was chosen on standard error.
    """
    if "channels_last" not in state.run.choices and total is not None and worth(state, products, total):
        choose(state, train, batch_size, total, tell=tell)
    if state.run.choices.get("channels_last"):
        state.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (no stub for it)


def worth(state: StepState, products: int, total: int | None) -> bool:
    """Whether a run pays for trying: by its length and size, and because its recipe leaves the choice.

    Args:
        state: Recipe, model and device.
        products: Multiply-adds of a forward pass.
        total: Steps of the run; None where the data does not tell.
    """
    recipe = state.recipe
    if _exact.get() or recipe.precision != "auto" or total is None or total < LONG:
        return False
    if state.run.choices.get("precision") != "float32":
        return False
    if looks_again(state.optimizer) or is_method(state.optimizer):
        return False
    return products * total >= WORTH


def choose(state: StepState, train: Source, batch_size: int, total: int, *, tell: bool) -> Way:
    """The way for this run, noted in its choices and told in one line.

    Args:
        state: Before the first step.
        train: On the device.
        batch_size: Examples a step.
        total: Steps of the run.
        tell: Whether to say it on standard error.
    """
    shapes = [tuple(each.shape) for each in batches.tensors(state.batch)]
    machine = choices.signature(state.model, shapes, str(state.device), state.objective.label)
    try:
        found: dict[str, float] = choices.remembered(f"ways/{machine}", lambda: _timed(state, total))
    except copy.Error:
        found = {}
    ways = {way: found[str(way)] for way in _known() if str(way) in found}
    if PLAIN not in ways:
        return PLAIN
    best = min((way for way in ways if not way.bfloat16), key=ways.__getitem__)
    best = best if ways[best] <= PAYS * ways[PLAIN] else PLAIN
    fast = min((way for way in ways if way.bfloat16), key=ways.__getitem__, default=best)
    why, band = "", None
    if ways[fast] <= PAYS * ways[best] and _noisy(train, batch_size):
        of_recipe = state.recipe.edit(seed=None).describe() if not state.recipe.opaque else state.recipe
        key = f"band/{machine}/{of_recipe}/{train.size}/{fast.channels_last}"
        band = Band(*choices.remembered(key, lambda: _band(state, train, batch_size, total, fast)))
        best, why = (fast, f", {band}") if band.holds else (best, f"; bfloat16 not taken: {band}")
    _note(state.run, best, ways, band)
    if tell:
        sys.stderr.write(_line(best, ways, why) + "\n")
    return best


def _band(state: StepState, train: Source, batch_size: int, total: int, way: Way) -> list[float]:
    """Deviation and noise; a model that fails on its way to them is not rounded."""
    try:
        return list(measure(state, train, batch_size, total, channels_last=way.channels_last))
    except KeyboardInterrupt:
        raise
    except Exception:  # noqa: BLE001 (the run itself says what is wrong with it)
        return [math.inf, 0.0]


def compiled(model: nn.Module) -> nn.Module:
    """`model` compiled, with the same parameters; hooks and other batch sizes are for the model itself."""
    return cast("nn.Module", torch.compile(model))  # pyright: ignore[reportUnknownMemberType]


def _note(run: Run, way: Way, ways: dict[Way, float], band: Band | None) -> None:
    run.choices |= {
        "precision": "bfloat16" if way.bfloat16 else "float32",
        "channels_last": way.channels_last,
        "compiled": way.compiled,
        "milliseconds": {str(each): round(1e3 * seconds, 3) for each, seconds in ways.items()},
    }
    if band is not None:
        run.choices["band"] = {"deviation": band.deviation, "noise": band.noise, "holds": band.holds}


def _line(way: Way, ways: dict[Way, float], why: str) -> str:
    own, plain = 1e3 * ways[way], 1e3 * ways[PLAIN]
    if way == PLAIN:
        other = min((each for each in ways if each != PLAIN), key=ways.__getitem__, default=None)
        beside = "" if other is None else f" ({other}: {1e3 * ways[other]:.3g} ms)"
        return f"precision: float32, {plain:.3g} ms a step{beside}{why}"
    return f"precision: {way}, {own:.3g} ms a step in place of {plain:.3g}{why}"


def _noisy(train: Source, batch_size: int) -> bool:
    """Whether steps see different batches: full-batch descent has no noise that rounding could hide in."""
    return batch_size > 1 and (train.size is None or train.size > batch_size)


def _known() -> list[Way]:
    return [Way(b, c, k) for k in (False, True) for b in (False, True) for c in (False, True)]


def _candidates(state: StepState) -> list[Way]:
    convolves = any(isinstance(each, nn.Conv2d) for each in state.model.modules())
    halves = state.device.type == "cpu" or (state.device.type == "cuda" and torch.cuda.is_bf16_supported())
    return [
        each
        for each in _known()
        if not each.compiled and (convolves or not each.channels_last) and (halves or not each.bfloat16)
    ]


def _timed(state: StepState, total: int) -> dict[str, float]:
    """Seconds of a forward and backward pass by each way: medians of rounds in turns, the slow left out.

    Raises:
        copy.Error: a model that cannot be copied.
    """
    copies = {way.channels_last: _copy(state, way.channels_last) for way in _candidates(state)}
    runs: dict[Way, Callable[[], float]] = {}
    first: dict[Way, float] = {}
    for way in _candidates(state):
        run = _pass(state, way, *copies[way.channels_last])
        with contextlib.suppress(
            Exception
        ):  # a view of what now lies otherwise, an operation without bfloat16
            run()
            first[way], runs[way] = run(), run
    if PLAIN not in runs:
        return {}
    quickest = min(first.values())
    runs = {way: run for way, run in runs.items() if way == PLAIN or first[way] < 2 * quickest}
    times: dict[Way, list[float]] = {way: [] for way in runs}
    for _ in range(ROUNDS):
        for way, run in runs.items():
            times[way].append(run())
    found = {way: statistics.median(each) for way, each in times.items()}
    best = min(found, key=found.__getitem__)
    if found[best] * total > COMPILES and _compiles(state):
        with contextlib.suppress(Exception):  # whatever a compiler may say of anybody's model
            run = _pass(state, best._replace(compiled=True), *copies[best.channels_last])
            run()
            found[best._replace(compiled=True)] = statistics.median(run() for _ in range(1 + ROUNDS))
    return {str(way): seconds for way, seconds in found.items()}


def _compiles(state: StepState) -> bool:
    """Whether there is a compiler, and nothing in the model that has to draw at an address of its own."""
    if (
        isinstance(state.model, Adapted)
        or state.objective.wants_model
        or any(isinstance(each, RANDOM_MODULES) for each in state.model.modules())
    ):
        return False
    return state.device.type == "cuda" or any(shutil.which(each) for each in ("g++", "clang++", "cl"))


def _copy(state: StepState, channels_last: bool) -> tuple[nn.Module, Objective]:
    """Model and objective, whose buffers and counts a trial may change.

    Raises:
        copy.Error: one of them cannot be copied.
    """
    try:
        model: nn.Module = copy.deepcopy(state.model)
        objective = copy.deepcopy(state.objective)
    except Exception as error:
        raise copy.Error(str(error)) from error
    if channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (no stub for it)
    return model, objective


def _pass(state: StepState, way: Way, model: nn.Module, objective: Objective) -> Callable[[], float]:
    """Seconds of one forward and backward pass."""
    fast = compiled(model) if way.compiled else model
    kind, cuda = state.device.type, state.device.type == "cuda"

    def run() -> float:
        if cuda:
            torch.cuda.synchronize(state.device)
        begun = time.perf_counter()
        with torch.random.fork_rng(devices=[]), torch.autocast(kind, torch.bfloat16, enabled=way.bfloat16):
            value = objective(fast, state.batch).value
        model.zero_grad()
        value.backward()
        if cuda:
            torch.cuda.synchronize(state.device)
        return time.perf_counter() - begun

    return run
