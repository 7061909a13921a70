"""`fit` beside a plain loop with a DataLoader and beside the libraries that train: milliseconds a step.

The problem is scikit-learn's digits, an MLP of two hidden layers, Adam, batches of 64, 20 epochs, set-up
included. `fit` shows its progress, keeps history, checkpoints and best weights, validates every epoch and
writes its folder; what the others do is said at each (`bench/_peers.py`). They take turns in one process;
each round starts with another, and the ratios are those within a round, with their quartiles.

    pip install -c constraints.txt -e '.[bench]'        # skorch, Accelerate, Lightning with Fabric
    python bench/fit.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import _peers
from _timing import interleaved, paired, ratios

import downslope as ds
from downslope.training.fit import OBSERVED_SHARE

EPOCHS = 20
RECIPE = {"optimizer": "adam", "lr": 1e-3, "batch_size": 64, "epochs": EPOCHS}


def make_model(width: int = 64) -> nn.Module:
    hidden = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def fitted(problem: ds.Problem, observe: float) -> None:
    with tempfile.TemporaryDirectory() as room:
        ds.fit(problem, ds.Recipe(**RECIPE), folder=Path(room) / "run", progress=True, observe=observe)


def beside_all(problem: ds.Problem, width: int, rounds: int, steps: int) -> None:
    """`fit`, the plain loop and every peer in turns."""
    table = ds.data.digits()
    given = (functools.partial(make_model, width), table.train, table.valid, EPOCHS)
    others = {"plain loop with DataLoader": _peers.plain} | _peers.installed()
    actions = [lambda: fitted(problem, OBSERVED_SHARE)]
    actions += [functools.partial(act, *given) for act in others.values()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        own, *found = interleaved(actions, rounds)
    for name, theirs in zip(others, found, strict=True):
        ratio = ratios(own, theirs)
        each = f"{1e3 * ratio.first / steps:.3f} and {1e3 * ratio.second / steps:.3f} ms a step"
        print(f"MLP width {width:>3}  fit / {name:<36} {ratio}  ({each})")
    for name in _peers.missing():
        print(f"MLP width {width:>3}  {name}: not installed, pip install -c constraints.txt -e '.[bench]'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    os.environ["DOWNSLOPE_CACHE"] = tempfile.mkdtemp()
    table = ds.data.digits()
    steps = EPOCHS * -(-len(table.train[0]) // 64)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {load:.1f} before")
    for width in (64, 512):
        problem = ds.Problem(
            model=make_model,
            arguments={"width": width},
            objective=nn.CrossEntropyLoss(),
            train=table.train,
            valid=table.valid,
            metric="accuracy",
        )
        beside_all(problem, width, rounds, steps)
        with contextlib.redirect_stderr(io.StringIO()):
            probes = paired(
                lambda p=problem: fitted(p, OBSERVED_SHARE), lambda p=problem: fitted(p, 0.0), rounds
            )
        print(f"MLP width {width:>3}  fit with probes / without               {probes}")


if __name__ == "__main__":
    main()
