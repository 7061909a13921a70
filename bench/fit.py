"""`fit` beside a plain PyTorch loop with a DataLoader (digits, MLP, batch 64, Adam); probes on beside off.

Both train the same model on the same data for the same number of steps. `fit` shows progress, keeps the
history, probes, validates after every epoch, keeps the best weights and writes its folder; the plain loop
does none of it. The figures are ratios of runs taken in turn in one process, with their quartiles.

    python bench/fit.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parent))
from _timing import paired

import downslope as ds
from downslope.training.fit import OBSERVED_SHARE

EPOCHS = 20
RECIPE = {"optimizer": "adam", "lr": 1e-3, "batch_size": 64, "epochs": EPOCHS}


def make_model(width: int = 64) -> nn.Module:
    hidden = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def plain(train: tuple[torch.Tensor, torch.Tensor], width: int) -> None:
    torch.manual_seed(0)
    model = make_model(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    objective = nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(*train), batch_size=64, shuffle=True)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss = objective(model(x), y)
            loss.backward()
            optimizer.step()


def fitted(problem: ds.Problem, observe: float) -> None:
    with tempfile.TemporaryDirectory() as room:
        ds.fit(problem, ds.Recipe(**RECIPE), folder=Path(room) / "run", progress=True, observe=observe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    os.environ["DOWNSLOPE_CACHE"] = tempfile.mkdtemp()
    table = ds.data.digits()
    for width in (64, 512):
        problem = ds.Problem(
            model=make_model,
            arguments={"width": width},
            objective=nn.CrossEntropyLoss(),
            train=table.train,
            valid=table.valid,
            metric="accuracy",
        )
        beside = paired(
            lambda p=problem: fitted(p, OBSERVED_SHARE), lambda w=width: plain(table.train, w), rounds
        )
        probes = paired(lambda p=problem: fitted(p, OBSERVED_SHARE), lambda p=problem: fitted(p, 0.0), rounds)
        steps = EPOCHS * -(-len(table.train[0]) // 64)
        each = f"{1e3 * beside.first / steps:.3f} and {1e3 * beside.second / steps:.3f} ms a step"
        print(f"MLP width {width:>3}  fit / plain loop with DataLoader {beside}  ({each})")
        print(f"MLP width {width:>3}  fit with probes / without        {probes}")


if __name__ == "__main__":
    main()
