"""Others' tools on the same runs: torchmortem, and the rules that AutoTrainer published.

AutoTrainer (Zhang, Zhai, Ma and Shen, ICSE 2021) is a tool for Keras; its rules and default thresholds are
taken from the paper's table 2 and its published defaults, on the same quantities: the gradients of one batch,
and loss and accuracy by epoch. For regression the R2 stands for the accuracy.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.diagnosis.fault import Setup
from downslope.core import batches
from downslope.core.errors import DownslopeError
from downslope.core.loss import Objective
from downslope.training.evaluate import evaluate
from downslope.training.optimizer import build_optimizer
from downslope.training.rates import schedule_of

VANISHED_RATIO, VANISHED_NORM, EXPLODED_RATIO, ZEROS = 1e-3, 1e-4, 70.0, 0.7
"""beta_1, beta_2, beta_3 and gamma: of the first layer's gradient norm over the last's, and of zeros."""

SWING, SWINGS, SLOW, ENOUGH = 0.03, 0.2, 0.01, 0.7
"""zeta, eta, delta and Theta: of the accuracy by epoch."""

EVERY, JUDGED_FROM = 5, 0.3
"""Epochs between two looks at the gradients; share of the epochs after which accuracy is judged."""

LONGEST = 20_000


class AutoTrainer:
    """Vanishing, exploding, dying ReLU, oscillating loss, slow convergence."""

    def __init__(self) -> None:
        self.flags = {"explode": 0, "vanish": 0, "relu": 0}
        self.lost = False
        self.train: list[float] = []
        self.valid: list[float] = []

    def gradients(self, model: nn.Module) -> None:
        """A look at the gradients that stand in the parameters."""
        weights = [p.grad for p in model.parameters() if p.grad is not None and p.dim() > 1]
        held = [p.grad for p in model.parameters() if p.grad is not None]
        if not weights:
            return
        if not all(bool(torch.isfinite(g).all()) for g in held):
            self.lost = True
            return
        first, last = float(weights[0].norm()), float(weights[-1].norm())
        ratio = first / last if last else (math.inf if first else math.nan)
        zeros = sum(int((g == 0).sum()) for g in held) / sum(g.numel() for g in held)
        self.flags["vanish"] += ratio < VANISHED_RATIO and first < VANISHED_NORM
        self.flags["explode"] += ratio > EXPLODED_RATIO
        self.flags["relu"] += zeros >= ZEROS

    def epoch(self, loss: float, train: float, valid: float) -> None:
        self.lost = self.lost or not math.isfinite(loss) or loss >= 1e5
        self.train.append(train)
        self.valid.append(valid)

    def verdict(self, epochs: int) -> list[str]:
        """What it would report at the end."""
        if self.lost:
            return ["explode"]
        if len(self.train) < JUDGED_FROM * epochs or not self.train:
            return []
        slow = _rise(self.train) < SLOW and _rise(self.valid) < SLOW
        if slow or max(self.train) < ENOUGH or max(self.valid) < ENOUGH:
            named = [name for name in ("relu", "explode", "vanish") if self.flags[name]][:1]
            return named or (["slow convergence"] if slow else [])
        return ["oscillating loss"] if _swings(self.train) >= SWINGS * len(self.train) else []


def _rise(values: list[float]) -> float:
    return max((b - a for a, b in itertools.pairwise(values)), default=0.0)


def _swings(values: list[float]) -> int:
    """Pairs of a local maximum and a local minimum that lie apart."""
    inner = range(1, len(values) - 1)
    high = [values[i] for i in inner if values[i] >= max(values[i - 1], values[i + 1])]
    low = [values[i] for i in inner if values[i] <= min(values[i - 1], values[i + 1])]
    return sum(a - b >= SWING for a, b in zip(high, low, strict=False))


def asked(setup: Setup) -> dict[str, list[str] | None]:
    """What each says of this run; None for a tool that is not installed or broke."""
    logging.getLogger("torchmortem").setLevel(logging.CRITICAL)
    rules = AutoTrainer()
    try:
        model = setup.problem.build(setup.recipe.seed, setup.recipe.init)
        optimizer = build_optimizer(setup.recipe, model)
    except DownslopeError:
        return {"torchmortem": None, "AutoTrainer": None}
    with _autopsy(model, optimizer) as autopsy:
        epochs = 0
        try:
            epochs = _trained(setup, model, optimizer, autopsy, rules)
        except (DownslopeError, RuntimeError, ValueError):
            rules.lost = True
        except Exception:  # noqa: BLE001 (the peer's own trouble is the peer's)
            autopsy = None
    return {"torchmortem": _told(autopsy), "AutoTrainer": rules.verdict(max(epochs, 1))}


@contextlib.contextmanager
def _autopsy(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    if importlib.util.find_spec("torchmortem") is None:
        yield None
        return
    from torchmortem import Autopsy

    made = Autopsy(model, optimizer=optimizer)
    made.attach()
    try:
        yield made
    finally:
        with contextlib.suppress(Exception):
            made.detach()


def _told(autopsy: Any) -> list[str] | None:
    """Categories of its warnings and worse."""
    report = None if autopsy is None else autopsy.get_report()
    if report is None:
        return None
    return sorted({each.category for each in report.findings if each.severity.name != "INFO"})


def _trained(setup: Setup, model: nn.Module, optimizer: Any, autopsy: Any, rules: AutoTrainer) -> int:
    """The plain loop: the recipe's batches, rate and length; epochs that were done."""
    problem, recipe = setup.problem, setup.recipe
    objective, source = Objective(problem), problem.train_source
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else 2**30
    each = source.steps(size) or 1
    total = min(recipe.steps or (recipe.epochs or 20) * each, LONGEST)
    factor = schedule_of(recipe, total)
    rates = [group["lr"] for group in optimizer.param_groups]
    step = epoch = 0
    while step < total:
        losses: list[float] = []
        for batch in source.epoch(size, recipe.seed, epoch):
            if step >= total:
                break
            model.train()
            optimizer.zero_grad()
            loss: Tensor = objective(model, batches.to(batch, torch.device("cpu"), torch.float32)).value
            loss.backward()
            if not losses and epoch % EVERY == 0:
                rules.gradients(model)
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (factor(step) if factor else 1.0)
            optimizer.step()
            losses.append(loss.item())
            if autopsy is not None:
                autopsy.step(loss=losses[-1])
            step += 1
            if not math.isfinite(losses[-1]):
                rules.lost = True
                return epoch + 1
        epoch += 1
        train = evaluate(problem, model, source)
        held = evaluate(problem, model, problem.valid_source) if problem.valid_source is not None else train
        if train.metric is not None and held.metric is not None:
            rules.epoch(train.loss, train.metric, held.metric)
    return epoch
