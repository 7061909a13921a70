"""What ``precision="auto"`` gains on Fashion-MNIST's 2c2d (DeepOBS), beside plain float32 PyTorch, in turns.

`fit` and a loop by hand over the same tensors in memory (torch.optim.Adam, float32, no validation) train for
a few seconds each, round by round; the ratio is that of the times of a step. What was chosen, and what trying
cost, is printed first. ``--epochs N`` trains whole epochs with validation after each, and tells the accuracy.

    DOWNSLOPE_DATA=... python bench/precision.py [--rounds 5] [--seconds 4] [--epochs 0]
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from _timing import ratios

import downslope as ds

BATCH, LR = 128, 2.512e-4


def make_model() -> nn.Module:
    layers = [nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10)]
    for layer in layers:
        if hasattr(layer, "weight"):
            nn.init.trunc_normal_(layer.weight, std=0.05, a=-0.1, b=0.1)
            nn.init.constant_(layer.bias, 0.05)
    return nn.Sequential(*layers)


def images(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One part of Fashion-MNIST in [0, 1], from its IDX files, zipped or not."""

    def read(name: str, skip: int) -> np.ndarray:
        path = next(folder.glob(f"{part}-{name}*"))
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return np.frombuffer(raw, np.uint8, offset=skip)

    x = torch.tensor(read("images", 16).reshape(-1, 1, 28, 28) / np.float32(255))
    return x, torch.tensor(read("labels", 8).astype(np.int64))


class Plain:
    """A loop by hand, in float32, over tensors in memory."""

    def __init__(self, train: tuple[torch.Tensor, torch.Tensor]) -> None:
        torch.manual_seed(0)
        self.train, self.model, self.objective = train, make_model(), nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def epoch(self, ends: float = np.inf) -> int:
        x, y = self.train
        steps = 0
        for index in torch.randperm(len(x)).split(BATCH):
            self.optimizer.zero_grad()
            loss = self.objective(self.model(x[index]), y[index])
            loss.backward()
            self.optimizer.step()
            loss.item()
            steps += 1
            if time.perf_counter() > ends:
                break
        return steps

    def accuracy(self, valid: tuple[torch.Tensor, torch.Tensor]) -> float:
        with torch.no_grad():
            right = [
                (self.model(x).argmax(1) == y).sum()
                for x, y in zip(*(t.split(1024) for t in valid), strict=True)
            ]
        return float(sum(right)) / len(valid[0])


def recipe(**changes: object) -> ds.Recipe:
    return ds.Recipe(**{"optimizer": "adam", "lr": LR, "batch_size": BATCH, "epochs": 10} | changes)


def short(problem: ds.Problem, train: tuple[torch.Tensor, torch.Tensor], rounds: int, seconds: float) -> None:
    """Seconds of a step of each, from a few seconds of training in turns."""
    own, other, loop = [], [], Plain(train)
    loop.epoch(time.perf_counter() + 1)
    for _ in range(rounds):
        begun = time.perf_counter()
        other.append((time.perf_counter() - begun) / steps if (steps := loop.epoch(begun + seconds)) else 0)
        run = ds.fit(problem, recipe(epochs=50), folder=False, progress=False, seconds=seconds)
        own.append(seconds / run.facts["cut"]["steps"])
    ratio = ratios(own, other)
    whole = 60_000 / BATCH
    print(
        f"fit / plain float32 {ratio}  ({1e3 * ratio.first:.1f} and {1e3 * ratio.second:.1f} ms a step, "
        f"{whole * ratio.first:.1f} and {whole * ratio.second:.1f} s an epoch)"
    )


def whole(problem: ds.Problem, train: object, valid: object, epochs: int) -> None:
    """Whole epochs with validation: time and accuracy."""
    loop, begun = Plain(train), time.perf_counter()
    reached = []
    for _ in range(epochs):
        loop.epoch()
        reached.append(loop.accuracy(valid))
    plain = (time.perf_counter() - begun) / epochs
    print(f"plain  {plain:.1f} s an epoch, accuracy {' '.join(f'{each:.4f}' for each in reached)}")
    run = ds.fit(problem, recipe(epochs=epochs), folder=False, progress=True)
    own = run.summary["seconds"] / epochs
    reached = run.history.series("valid_metric").values[1:]
    print(f"fit    {own:.1f} s an epoch, accuracy {' '.join(f'{each:.4f}' for each in reached)}")
    left = run.facts.get("left_bfloat16")
    print(f"fit / plain {own / plain:.2f}; {run.choices['precision']}, left bfloat16: {left}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--epochs", type=int, default=0)
    given = parser.parse_args()
    if "DOWNSLOPE_DATA" not in os.environ:
        sys.exit("DOWNSLOPE_DATA is not set: the folder that holds fashion_mnist/")
    folder = Path(os.environ["DOWNSLOPE_DATA"]) / "fashion_mnist"
    os.environ["DOWNSLOPE_CACHE"] = tempfile.mkdtemp()
    train, valid = images(folder, "train"), images(folder, "t10k")
    some = train if given.epochs else tuple(each[:12_800] for each in train)  # fit ends by a look at all
    problem = ds.Problem(model=make_model, objective=nn.CrossEntropyLoss(), train=some)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    begun = time.perf_counter()
    run = ds.fit(problem, recipe(epochs=50), folder=False, progress=True, seconds=0.01)
    took = time.perf_counter() - begun
    print(f"trying took {took:.1f} s: {run.choices['milliseconds']}, {run.choices.get('band')}")
    if given.epochs:
        whole(problem.edit(valid=valid, metric="accuracy"), train, valid, given.epochs)
    else:
        short(problem, train, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
