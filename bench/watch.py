"""A plain training loop beside the same loop watched: by a Monitor, by a closed one, by the taps of a script.

One model is trained on and on in blocks of steps, plain and watched in turns, each block with an optimizer of
its own; counted is the time of the thread, not of the clock on the wall. A watched block has its first and
dearest samples in it. Figures are the time of a watched block over that of the plain one beside it: median
and quartiles. Plain over plain is what this machine can tell apart at all.

    python bench/watch.py [--seconds 1.5] [--rounds 12] [--only mlp]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
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


class Training:
    """A model in training, plain or watched, that takes a block of steps at a time."""

    def __init__(self, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(1024, *shape), torch.randint(10, (1024,))
        self.model = make()

    def block(self, steps: int, how: str) -> float:
        """Take `steps` steps; the thread's seconds."""
        audience = Audience() if how == "script" else None  # one that hears nothing looks for steps by hand
        with nullcontext() if audience is None else Taps(audience):
            started = time.thread_time()
            optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
            monitor = ds.watch(self.model, optimizer) if "Monitor" in how else None
            if monitor is not None and how == "closed Monitor":
                monitor.close()
            self._train(steps, optimizer, monitor)
            if monitor is not None:
                monitor.close()
            spent = time.thread_time() - started
        if audience is not None:
            audience.close()
        return spent

    def _train(self, steps: int, optimizer: torch.optim.Optimizer, monitor: Monitor | None) -> None:
        model = self.model
        for step in range(steps):
            at = (step * 64) % 960
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(self.x[at : at + 64]), self.y[at : at + 64])
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a block")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", choices=("mlp", "cnn"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    ways = ("plain", "Monitor", "closed Monitor", "script", "plain again")
    for name, make, shape in (("mlp", mlp, (64,)), ("cnn", cnn, (1, 28, 28))):
        if given.only not in (None, name):
            continue
        training = Training(make, shape)
        training.block(30, "plain")
        steps = max(20, int(given.seconds / (training.block(60, "plain") / 60)))
        times: dict[str, list[float]] = {how: [] for how in ways}
        for turn in range(given.rounds):
            for i in range(len(ways)):
                how = ways[(turn + i) % len(ways)]
                times[how].append(training.block(steps, how) / steps)
        plain = times.pop("plain")
        print(f"{name}: {1e3 * statistics.median(plain):.3f} ms a step, blocks of {steps} steps")
        for how, each in times.items():
            found = ratios(each, plain)
            low, high = found.quartiles
            print(f"  {how + ' / plain':24s} {found.median:.4f} [{low:.4f}, {high:.4f}]", flush=True)


if __name__ == "__main__":
    main()
