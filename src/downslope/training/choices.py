"""What is chosen for the user: device, precision, and how often a step is probed.

What depends on timing is measured once for a machine and a model, kept in a cache file, and stored in the
Run: the same choices and the same seed give the same bits on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from downslope.core.cache import cache_folder
from downslope.core.errors import RecipeError
from downslope.core.modules import named_modules
from downslope.core.recipe import Recipe
from downslope.training.environment import environment

_memory: dict[str, Any] = {}
ONE_THREAD = 3_000_000
"""Multiply-adds of a forward pass below which a step runs on one thread: at most a quarter slower than two on
an idle machine, ten times faster and more beside another job (bench/threads.py, docs/decisions/0005)."""


def choose_device(recipe: Recipe) -> torch.device:
    """The recipe's device; "auto" takes a CUDA device where there is one, else the CPU.

    Raises:
        RecipeError: a device that torch does not know or that is not there.
    """
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(recipe.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"device={recipe.device!r} cannot be used: {reason}; 'auto' chooses") from None
    return device


def choose_precision(recipe: Recipe, model: nn.Module) -> str:
    """The recipe's precision; "auto" keeps the model's own until other ways are tried."""
    if recipe.precision != "auto":
        return recipe.precision
    return "float64" if any(p.dtype == torch.float64 for p in model.parameters()) else "float32"


def choose_threads(products: int, device: torch.device) -> int:
    """Threads for a step of `products` multiply-adds forward: one where sharing out costs more than it saves.

    A rule and no measurement, so that the same run takes the same bits on a busy machine.
    """
    available = torch.get_num_threads()
    return 1 if device.type == "cpu" and products < ONE_THREAD else available


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Generator[None]:
    """A block with `count` threads within an operation; the former number comes back after."""
    former = torch.get_num_threads()
    if count != former:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != former:
            torch.set_num_threads(former)


def signature(model: nn.Module, *more: object) -> str:
    """A key for this machine, this model's structure and `more`."""
    machine = {k: v for k, v in environment().items() if k not in ("argv", "downslope")}
    parts = [f"{n}:{type(m).__name__}" for n, m in named_modules(model)]
    parts += [f"{n}:{tuple(p.shape)}:{p.dtype}" for n, p in model.named_parameters()]
    text = json.dumps([machine, parts, [str(each) for each in more]])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def remembered(key: str, measure: Callable[[], Any]) -> Any:
    """What was measured under `key` before, else what `measure` gives, kept from now on.

    A cache that cannot be read or written is no error: then it holds for this process.
    """
    if key in _memory:
        return _memory[key]
    path, stored = cache_folder() / "choices.json", _stored()
    if key not in stored:
        stored[key] = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"choices.{os.getpid()}.partial")
            partial.write_text(json.dumps(stored), encoding="utf-8")
            partial.replace(path)
        except OSError:
            pass
    _memory[key] = stored[key]
    return _memory[key]


def recalled(key: str) -> Any:
    """What was measured under `key` before; None where nothing was."""
    return _memory[key] if key in _memory else _stored().get(key)


def _stored() -> dict[str, Any]:
    try:
        return json.loads((cache_folder() / "choices.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def probe_price(plain: Callable[[], None], probed: Callable[[], None]) -> float:
    """What a probed step costs beyond a plain one, in plain steps; the median of five pairs, to one digit."""

    def seconds(step: Callable[[], None]) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    for warm_up in (plain, probed):
        warm_up()
    pairs = [(seconds(plain), seconds(probed)) for _ in range(5)]
    ratio = statistics.median(b for _, b in pairs) / max(statistics.median(a for a, _ in pairs), 1e-9) - 1.0
    return float(f"{min(max(ratio, 0.05), 50.0):.1g}")


MARKS = 6
"""Steps of a run that are probed at least."""


class ProbeTimes:
    """Which steps are probed: the first few, then ever further apart, within a share of the time.

    Args:
        price: What a probed step costs beyond a plain one, in plain steps.
        share: Largest share of the time that probes may take; 0 probes nothing.
        free: Probes at the start that the share does not count.
        total: Steps of the run, where that is known: then `MARKS` steps from the first to the last, evenly
            apart in their logarithm, are probed whatever the share, so that a short run is seen whole.
    """

    def __init__(self, price: float, share: float, free: int = 3, total: int | None = None) -> None:
        self.price, self.share, self.free = price, share, free
        self.marks = sorted({round(total ** (i / (MARKS - 1))) for i in range(MARKS)}) if total else []
        self.taken = 0
        self.last = 0
        self.next = 1 if share > 0 else math.inf

    def due(self, step: int) -> bool:
        """Whether this step, counted from 1, is to be probed; asked once for every step in order."""
        if step < self.next:
            return False
        self.taken += 1
        self.last = step
        self._plan(step)
        return True

    def reprice(self, price: float, step: int) -> None:
        """Plan anew after `step` with a price that has been measured since."""
        self.price = price
        if self.share > 0:
            self._plan(step)

    def _plan(self, step: int) -> None:
        paid = max(self.taken + 1 - self.free, 0) * self.price
        afford = math.ceil(paid / self.share) if paid else 0
        self.next = max(step + 1, math.ceil(self.last * 1.25), afford)
        self.next = min([self.next, *(each for each in self.marks if each > step)])
