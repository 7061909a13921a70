"""A plain training loop beside the same loop watched: by a Monitor, by a closed one, by the taps of a script.

Five trainings live side by side in one process and step in turns, so that a noisy machine disturbs all alike;
counted is the time of the thread, not of the clock on the wall. The first steps of each count too. Figures
are the time of the watched training over that of the plain one: of all steps together, and the median with
quartiles over groups of turns. Plain beside plain is what this machine can tell apart at all.

    python bench/watch.py [--seconds 60] [--only mlp]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from _timing import ratios

import downslope as ds
from downslope.diagnosis.audience import Audience
from downslope.diagnosis.taps import Taps


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    first = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *first, *second, nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)
    )


class Training:
    """A model in training, plain or watched, that takes a few steps at a time."""

    def __init__(self, make: Callable[[], nn.Module], shape: tuple[int, ...], how: str) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(1024, *shape), torch.randint(10, (1024,))
        self.how, self.taken, self.times = how, 0, list[float]()
        self.audience = Audience()
        with self._listening():
            self.model = make()
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.monitor = ds.watch(self.model, self.optimizer) if how in ("Monitor", "closed Monitor") else None
        if self.monitor is not None and how == "closed Monitor":
            self.monitor.close()

    def _listening(self) -> AbstractContextManager[object]:
        return Taps(self.audience) if self.how == "script" else nullcontext()

    def turn(self, steps: int) -> None:
        """Take `steps` steps and note the thread's time of one."""
        with self._listening():
            started = time.thread_time()
            self._train(steps)
            self.times.append((time.thread_time() - started) / steps)

    def _train(self, steps: int) -> None:
        model, optimizer, monitor = self.model, self.optimizer, self.monitor
        for _ in range(steps):
            at = (self.taken * 64) % 960
            self.taken += 1
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(self.x[at : at + 64]), self.y[at : at + 64])
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss)


def grouped(times: list[float], groups: int = 12) -> list[float]:
    """Means over groups of turns."""
    size = max(1, len(times) // groups)
    return [
        statistics.fmean(times[i : i + size]) for i in range(0, size * groups, size) if times[i : i + size]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of the models")
    parser.add_argument("--only", choices=("mlp", "cnn"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, make, shape, steps in (("mlp", mlp, (64,), 150), ("cnn", cnn, (1, 28, 28), 3)):
        if given.only not in (None, name):
            continue
        all_ = [
            Training(make, shape, how) for how in ("plain", "Monitor", "closed Monitor", "script", "plain")
        ]
        until, turn = time.perf_counter() + given.seconds, 0
        while time.perf_counter() < until:
            for i in range(len(all_)):
                all_[(turn + i) % len(all_)].turn(steps)
            turn += 1
        plain = grouped(all_[0].times)
        print(f"{name}: {1e3 * statistics.fmean(plain):.3f} ms a step, {all_[0].taken} steps each")
        for each in all_[1:]:
            found = ratios(grouped(each.times), plain)
            low, high = found.quartiles
            total = sum(each.times) / sum(all_[0].times)
            label = f"{each.how} / plain"
            spread = f"{found.median:.4f} [{low:.4f}, {high:.4f}]"
            print(f"  {label:24s} {total:.4f}   groups {spread}", flush=True)


if __name__ == "__main__":
    main()
