"""Ways to train a population, on models of several kinds: auto beside together, one by one and in processes.

CPU seconds of this process, in turns, the best of some rounds; with ``--wall`` seconds of the clock, and with
workers too, whose processes are there after the first round. The models are torch's usual ones on
scikit-learn's digits and on noise of 28 by 28; every population validates after each epoch.

    python bench/ways.py [--cases cnn-32,lenet-8] [--rounds 3] [--longer 1] [--threads 1] [--wall]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from _searched import cnn, mlp

import downslope as ds

Part = tuple[Tensor, Tensor]


def logistic() -> nn.Module:
    return nn.Linear(64, 10)


def normed(width: int = 8) -> nn.Module:
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def lenet() -> nn.Module:
    layers = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(84, 10))


def wide() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU(), nn.Linear(2000, 10)
    )


class Written(nn.Module):
    """The CNN as a class of its own: nothing says that it is a chain of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = cnn()

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x)


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.unflatten(1, (8, 8)))[0][:, -1])


class Attending(nn.Module):
    """Two layers of attention over the rows of an image."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.rows = nn.Linear(8, width)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.rows(x.unflatten(1, (8, 8)))).mean(1))


class Case(NamedTuple):
    """A population."""

    model: Callable[[], nn.Module]
    members: int
    epochs: int
    data: str = "digits"


CASES = {
    "mlp-32": Case(mlp, 32, 3), "mlp-2": Case(mlp, 2, 10), "logistic-20": Case(logistic, 20, 5),
    "logistic-2": Case(logistic, 2, 10), "wide-8": Case(wide, 8, 1, "half"),
    "wide-2": Case(wide, 2, 1, "half"), "cnn-32": Case(cnn, 32, 1), "cnn-8": Case(cnn, 8, 2),
    "cnn-2": Case(cnn, 2, 4), "normed-8": Case(normed, 8, 2), "written-8": Case(Written, 8, 2),
    "lenet-8": Case(lenet, 8, 1, "noise"),
    "lenet-2": Case(lenet, 2, 2, "noise"), "attending-8": Case(Attending, 8, 1),
    "attending-2": Case(Attending, 2, 1), "recurrent-8": Case(Recurrent, 8, 1),
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "auto": {}, "together": {"way": "together"}, "one by one": {"way": "one by one"},
}  # fmt: skip
SENT: dict[str, dict[str, Any]] = {
    "auto, 2 workers": {"workers": 2}, "crews of 2 workers": {"way": "together", "workers": 2},
    "singly, 2 workers": {"way": "processes", "workers": 2},
}  # fmt: skip


def parts(name: str) -> tuple[Part, Part]:
    """Training and validation data."""
    table = ds.data.digits(scale=16)
    if name == "noise":
        draw = torch.Generator().manual_seed(0)
        x, y = torch.randn(640, 1, 28, 28, generator=draw), torch.randint(10, (640,), generator=draw)
        return (x[:512], y[:512]), (x[512:], y[512:])
    cut = 512 if name == "half" else None
    return (table.train[0][:cut], table.train[1][:cut]), table.valid


def measured(case: Case, ways: dict[str, dict[str, Any]], rounds: int, longer: int, wall: bool) -> None:
    """Print the seconds of each way: the first time, which measures the shape, and the best of the others."""
    train, valid = parts(case.data)
    problem = ds.Problem(
        model=case.model, objective="cross_entropy", train=train, valid=valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="adamw", batch_size=64, epochs=case.epochs * longer)
    recipes = [recipe.edit(lr=1e-3 * (1 + 0.1 * i)) for i in range(case.members)]
    clock = time.perf_counter if wall else time.process_time
    found: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, str] = {}
    for _ in range(1 + rounds):
        for name, how in ways.items():
            begun = clock()
            runs = ds.fit_population(problem, recipes, progress=False, **how)
            found[name].append(clock() - begun)
            said[name] = str(runs[0].choices["population"])
    for name, each in found.items():
        print(f"  {name:<20} {min(each[1:]):7.3f} s (first {each[0]:7.3f})  {said[name][:70]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longer", type=int, default=1, help="times as many epochs")
    parser.add_argument("--threads", type=int, default=1, help="within an operation")
    parser.add_argument("--wall", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.cases.split(",")) - set(CASES):
        parser.error(f"--cases: {', '.join(sorted(unknown))}: must be of {', '.join(CASES)}")
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as room:
        os.environ["DOWNSLOPE_CACHE"] = room
        for name in asked.cases.split(","):
            print(name)
            ways = WAYS | (SENT if asked.wall else {})
            measured(CASES[name], ways, asked.rounds, asked.longer, asked.wall)


if __name__ == "__main__":
    main()
