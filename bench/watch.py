"""A plain training loop beside the same loop watched: by a Monitor, by a closed one, by the taps of a script.

Every way has a training of its own, and they take turns, so that whatever else the machine does slows all of
them alike; counted is the time of the thread, not of the clock on the wall. What a watched loop does only
once is in it, with its first and dearest samples. A figure is the time of a watched training over that of the
plain one beside it: median and quartiles of some rounds. Plain over plain is what this machine can tell apart
at all.

    python bench/watch.py [--steps 2000] [--rounds 6] [--only mlp]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from _timing import ratios

import downslope as ds
from downslope.diagnosis.audience import Audience
from downslope.diagnosis.monitor import Monitor
from downslope.diagnosis.taps import Taps


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    first = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *first, *second, nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "tiny": (lambda: nn.Linear(10, 1), (10,), 0, 32),
    "mlp": (mlp, (64,), 10, 64),
    "lstm": (Recurrent, (16, 8), 4, 32),
    "cnn": (cnn, (1, 28, 28), 10, 64),
}
"""Model, shape of an example, classes (0: numbers), batch size."""

WAYS = ("plain", "Monitor", "closed Monitor", "script", "plain again")

TURNS = 8
"""Turns of each training. The wrappers of a script's taps are made anew for each, and it takes Python some
calls to be quick at them."""


class Training:
    """A model in training, plain or watched, that takes a few steps at a time."""

    def __init__(self, name: str, how: str) -> None:
        make, shape, classes, self.batch = MODELS[name]
        torch.manual_seed(0)
        self.x = torch.randn(1024, *shape)
        self.y = torch.randint(classes, (1024,)) if classes else torch.randn(1024, 1)
        self.objective = "cross_entropy" if classes else "mse_loss"
        self.model = make()
        self.taken = 0
        self.audience = Audience() if how == "script" else None
        self.monitor: Monitor | None = None
        with self._tapped():
            started = time.thread_time()
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
            if "Monitor" in how:
                self.monitor = ds.watch(self.model, self.optimizer)
            if self.monitor is not None and how == "closed Monitor":
                self.monitor.close()
            self.spent = time.thread_time() - started

    def _tapped(self) -> Any:
        return nullcontext() if self.audience is None else Taps(self.audience)

    def turn(self, steps: int) -> None:
        """Take some steps, and those for which hooks wait that hear of every model."""
        with self._tapped():
            started = time.thread_time()
            end = self.taken + steps
            while self.taken < end or self._waiting():
                self._step()
            self.spent += time.thread_time() - started

    def _waiting(self) -> bool:
        if self.audience is not None:
            return any(role.track.armed for role in self.audience.roles.values())
        return self.monitor is not None and self.monitor._track.armed

    def _step(self) -> None:
        at = (self.taken * self.batch) % (1024 - self.batch)
        self.taken += 1
        self.optimizer.zero_grad()
        made = self.model(self.x[at : at + self.batch])
        loss = getattr(functional, self.objective)(made, self.y[at : at + self.batch])
        loss.backward()
        self.optimizer.step()
        if self.monitor is not None:
            self.monitor.step(loss)

    def close(self) -> float:
        """Seconds of a step, on the whole."""
        for each in (self.monitor, self.audience):
            if each is not None:
                each.close()
        return self.spent / self.taken


def measured(name: str, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step, for every way one a round."""
    times: dict[str, list[float]] = {how: [] for how in WAYS}
    for turn in range(rounds):
        ways = [WAYS[(turn + i) % len(WAYS)] for i in range(len(WAYS))]
        running = {how: Training(name, how) for how in ways}
        while any(each.taken < steps for each in running.values()):
            for each in running.values():
                each.turn(max(1, steps // TURNS))
        for how, each in running.items():
            times[how].append(each.close())
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="of one training (the CNN: a tenth)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", choices=tuple(MODELS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in (given.only,) if given.only else MODELS:
        steps = given.steps // 10 if name == "cnn" else given.steps
        measured(name, 60, 1)  # to warm up
        times = measured(name, steps, given.rounds)
        plain = times.pop("plain")
        print(f"{name}: {1e3 * statistics.median(plain):.3f} ms a step, trainings of {steps} steps")
        for how, each in times.items():
            found = ratios(each, plain)
            low, high = found.quartiles
            print(f"  {how + ' / plain':24s} {found.median:.4f} [{low:.4f}, {high:.4f}]", flush=True)


if __name__ == "__main__":
    main()
