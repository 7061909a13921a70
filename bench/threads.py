"""One thread beside all of them, by the size of a step: where `training.choices.ONE_THREAD` comes from.

Forward and backward pass of an MLP of growing width, and of a small convolutional network; the ratio is the
time with one thread over the time with all. Below 1, one thread is faster.

    python bench/threads.py [--rounds 11]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, ratios

BATCH = 64


def mlp(width: int) -> tuple[nn.Module, torch.Tensor]:
    hidden = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10)), torch.randn(BATCH, 64)


def cnn(width: int) -> tuple[nn.Module, torch.Tensor]:
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 16, 10)]
    return nn.Sequential(*layers), torch.randn(BATCH, 1, 8, 8)


def products(model: nn.Module, x: torch.Tensor) -> int:
    """Multiply-adds of a forward pass."""
    count = 0
    for module in model:
        x = module(x)
        weights = sum(p.numel() for p in module.parameters())
        count += weights * x.numel() // x.shape[1] if weights else 0
    return count


def step(model: nn.Module, x: torch.Tensor, threads: int) -> Callable[[], None]:
    y = torch.randint(0, 10, (BATCH,))
    objective = nn.CrossEntropyLoss()

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(10):
            model.zero_grad()
            objective(model(x), y).backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    every = torch.get_num_threads()
    for name, make, widths in (("mlp", mlp, (64, 128, 256, 512, 1024)), ("cnn", cnn, (8, 16, 32, 64, 128))):
        for width in widths:
            model, x = make(width)
            one, all_of_them = interleaved([step(model, x, 1), step(model, x, every)], rounds)
            found = ratios(one, all_of_them)
            print(f"{name} {width:>5}  {products(model, x) / 1e6:8.2f} M  1 / {every} threads {found}")


if __name__ == "__main__":
    main()
