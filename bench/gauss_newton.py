"""Gauss-Newton's heirs on networks beside tuned SGD and Adam, and Levenberg-Marquardt beside SciPy's.

    python -m bench.gauss_newton            # both tables
    python -m bench.gauss_newton --quick    # one seed of the small network

The first table counts evaluations of loss and gradient until no step lowers the loss, and the correct digits
of the worst parameter, on NIST's certified regressions; MINPACK has the exact Jacobian.
The second counts steps and seconds to a training loss, median over seeds; every method has the best of a
small grid of its own by steps: of rates for SGD (momentum 0.9) and Adam, of rates and damping for K-FAC, of
the first damping for Hessian-free. Times are of one core.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.methods import KFAC, HessianFree, LevenbergMarquardt, Method, NaturalGradient
from tests.terrain.methods.certified import EVERY, Certified, Curve, problem

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


def digits_of(found: Any, given: Certified) -> float:
    """Correct digits of the worst parameter."""
    worst = np.abs(np.asarray(found) / np.array(given.parameters) - 1).max()
    return float(-np.log10(max(worst, 1e-16)))


def scipys(given: Certified, start: int) -> tuple[int, float]:
    """Evaluations and digits of MINPACK's method."""
    x = torch.tensor(given.x, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = least_squares(
            lambda b: given.function(torch.tensor(b), x).numpy() - np.array(given.y),
            given.starts[start],
            jac=lambda b: torch.func.jacrev(lambda b: given.function(b, x))(torch.tensor(b)).numpy(),
            method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000,
        )  # fmt: skip
    return found.nfev, digits_of(found.x, given)


def ours(given: Certified, start: int, steps: int = 1000) -> tuple[int, float]:
    """Evaluations and digits of ours."""
    model = Curve(given.function, given.starts[start])
    batch = (torch.tensor(given.x, dtype=torch.float64), torch.tensor(given.y, dtype=torch.float64))
    ground = ModelGround(model, Objective(problem(given, start)), [Piece(batch, 1.0)])
    ground.fixed = True
    method = LevenbergMarquardt(model.parameters())
    for _ in range(steps):
        method.step(ground)
        if method.last is not None and (method.last.converged or not method.last.accepted):
            break
    return method.evaluations, digits_of(model.b.detach().numpy(), given)


def regressions() -> None:
    print(f"{'NIST problem':<16} {'evaluations':>11} {'digits':>6}   {'MINPACK':>8} {'digits':>6}")
    for name, given in EVERY.items():
        for start in (0, 1):
            (n, d), (m, e) = ours(given, start), scipys(given, start)
            print(f"{name + f' from {start + 1}':<16} {n:>11} {d:>6.1f}   {m:>8} {e:>6.1f}")


# -- networks ---------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A network, its data, and the training loss that is asked for."""

    name: str
    model: Callable[[], nn.Module]
    objective: str
    train: tuple[Tensor, Tensor]
    batch: int
    goal: float
    most: int
    """Steps at most."""


def tanh(widths: list[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        layers += [nn.Linear(i, o), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def networks() -> Iterator[Task]:
    x, y = ds.data.digits(scale=16).train
    yield Task("digits MLP", lambda: tanh([64, 64, 64, 64, 10]), "cross_entropy", (x, y), 256, 0.02, 600)
    yield Task("digits CNN", cnn, "cross_entropy", (x, y), 256, 0.05, 600)
    deep = [64, 40, 16, 6, 16, 40, 64]
    yield Task("autoencoder", lambda: tanh(deep), "squared_error", (x, x), 1437, 0.022, 1500)


def grids() -> dict[str, list[tuple[str, Make]]]:
    def each(name: str, values: list[Any], make: Callable[[Any], Make]) -> list[tuple[str, Make]]:
        return [(f"{name} {value}", make(value)) for value in values]

    pairs = [(lr, damping) for lr in (0.03, 0.1, 0.3) for damping in (1e-3, 1e-2)]
    return {
        "SGD": each(
            "lr", [0.03, 0.1, 0.3, 1.0, 3.0], lambda lr: lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9)
        ),
        "Adam": each("lr", [1e-3, 3e-3, 1e-2, 3e-2], lambda lr: lambda p: torch.optim.Adam(p, lr=lr)),
        "K-FAC": each("lr, damping", pairs, lambda pair: lambda p: KFAC(p, lr=pair[0], damping=pair[1])),
        "EKFAC": each(
            "lr, damping",
            pairs,
            lambda pair: lambda p: KFAC(p, lr=pair[0], damping=pair[1], eigenvalues="corrected"),
        ),
        "natural": each(
            "damping", [1e-3, 1e-2], lambda a: lambda p: NaturalGradient(p, damping=a, kl=0.03, max_cg=30)
        ),
        "Hessian-free": each("damping", [1e-2, 1e-1], lambda a: lambda p: HessianFree(p, damping=a)),
    }


def trained(task: Task, make: Make, seed: int) -> tuple[float, float]:
    """Steps and seconds to the goal; infinite where it was not reached."""
    torch.manual_seed(seed)
    model = task.model()
    asked = ds.Problem(model=lambda: model, objective=task.objective, train=task.train)
    objective, optimizer = Objective(asked), make(list(model.parameters()))
    whole = isinstance(optimizer, HessianFree) or task.batch >= len(task.train[0])
    every = 1 if isinstance(optimizer, HessianFree) else 5
    draw, spent = torch.Generator().manual_seed(seed), 0.0
    for step in range(task.most):
        rows = torch.randperm(len(task.train[0]), generator=draw)[: task.batch]
        batch = task.train if whole else (task.train[0][rows], task.train[1][rows])
        begun = time.perf_counter()
        if isinstance(optimizer, Method):
            optimizer.step(ModelGround(model, objective, [Piece(batch, 1.0)], seed=step))
        else:
            optimizer.zero_grad()
            objective(model, batch).value.backward()
            optimizer.step()
        spent += time.perf_counter() - begun
        if (step + 1) % every == 0:
            with torch.no_grad():
                loss = float(objective(model, task.train).value)
            if loss <= task.goal:
                return step + 1, spent
            if not np.isfinite(loss) or spent > 60:
                break
    return np.inf, np.inf


def compare(task: Task, seeds: int) -> None:
    print(f"\n{task.name}: to a training loss of {task.goal:g}, batches of {task.batch}")
    print(f"{'method':<14} {'steps':>6} {'seconds':>8}   best of its grid")
    for name, grid in grids().items():
        found: list[tuple[float, float, str]] = []
        for label, make in grid:
            first = trained(task, make, 0)
            runs = [first, *(trained(task, make, seed) for seed in range(1, seeds) if np.isfinite(first[0]))]
            steps, spent = (statistics.median(each[i] for each in runs) for i in (0, 1))
            found.append((steps, spent, label))
        steps, spent, label = min(found)
        print(f"{name:<14} {steps:>6g} {spent:>8.2f}   {label}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    regressions()
    for task in networks():
        compare(task, 1 if quick else 3)
        if quick:
            break


if __name__ == "__main__":
    main()
