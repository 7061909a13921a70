"""Newton's iterations to the convex optima, and evaluations of L-BFGS beside SciPy's, on the same functions.

    python -m bench.second_order            # all; DOWNSLOPE_DATA adds a1a and a9a
    python -m bench.second_order --quick    # without a9a and the digits
    python -m bench.second_order --orders 5 --only digits bowl

Counts, no times. A step of Newton, and an evaluation of loss and gradient of L-BFGS, is counted until the
objective is within 1e-12, or 1e-8, of the minimum that `ds.solve` certifies, and until no entry of the
gradient is above 1e-6. SciPy's L-BFGS-B has the same memory (10 pairs), the same function through the same
torch code, and no tolerance of its own.

Both L-BFGS are the same iteration in exact numbers. Where it takes more than some fifty evaluations, the
order in which a sum is rounded changes the count by a few in a hundred, of either program and either way, so
that one pair of counts tells nothing. Each function is therefore gone down with its parameters in several
orders, the same for both programs: the table has the median count, its range, and in how many of the orders
ours was no more than SciPy's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor, nn

import downslope as ds
from downslope.terrain.ground import Ground
from downslope.terrain.methods import LBFGS, Method, Newton

PAIRS = 10


class Task(NamedTuple):
    """A function with its minimum."""

    name: str
    f: Callable[[Tensor], Tensor]
    start: Tensor
    least: float
    convex: bool = True


def linear(name: str, x: Any, y: Any, lam: float, kind: str) -> Task:
    """A linear model with a free bias, ``mean loss + lam/2 |w|^2``; the least value is that of `ds.solve`."""
    inputs = torch.as_tensor(np.asarray(x), dtype=torch.float64)
    outputs = int(y.max()) + 1 if kind == "cross_entropy" else 1
    target = torch.as_tensor(y) if outputs > 1 else torch.as_tensor(y, dtype=torch.float64)[:, None]
    width = inputs.shape[1]
    loss: Any = {
        "cross_entropy": nn.functional.cross_entropy,
        "logistic": nn.functional.binary_cross_entropy_with_logits,
        "squared_error": nn.functional.mse_loss,
    }[kind]

    def f(p: Tensor) -> Tensor:
        weight, bias = p[: outputs * width].reshape(outputs, width), p[outputs * width :]
        return loss(inputs @ weight.T + bias, target) + 0.5 * lam * weight.square().sum()

    problem = ds.Problem(model=lambda: nn.Linear(width, outputs), objective=kind, train=(inputs, target))
    least = ds.solve(problem, l2=lam).objective
    return Task(name, f, torch.zeros(outputs * (width + 1), dtype=torch.float64), float(least))


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def beale(x: Tensor) -> Tensor:
    y = torch.stack([x[1], x[1] ** 2, x[1] ** 3])
    return ((torch.tensor([1.5, 2.25, 2.625], dtype=x.dtype) - x[0] + x[0] * y) ** 2).sum()


def bowl(condition: float, n: int = 50) -> Task:
    draw = np.random.default_rng(0)
    q = np.linalg.qr(draw.normal(size=(n, n)))[0]
    a = torch.tensor(q @ np.diag(np.logspace(0, np.log10(condition), n)) @ q.T)
    return Task(
        f"bowl 1e{round(np.log10(condition))}", lambda x: 0.5 * x @ a @ x, torch.ones(n).double(), 0.0
    )


def ordered(task: Task, seed: int) -> Task:
    """The same function of its parameters in another order; seed 0 leaves them as they are."""
    order = torch.arange(len(task.start))
    if seed:
        order = torch.as_tensor(np.random.default_rng(seed).permutation(len(order)))
    back = torch.argsort(order)
    return task._replace(f=lambda p: task.f(p[back]), start=task.start[order])


def tasks(quick: bool) -> Iterator[Task]:
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    for lam in (1e-2, 1e-3):
        yield linear(f"breast_cancer {lam:g}", x, y, lam, "logistic")
    x, y = load_diabetes(return_X_y=True)
    yield linear("diabetes", x, y, 0.0, "squared_error")
    for name in ("a1a", "a9a") if os.environ.get("DOWNSLOPE_DATA") else ():
        if quick and name == "a9a":
            continue
        table = getattr(ds.data, name)(valid=0.0)
        yield linear(f"{name} 1e-3", table.train[0].numpy(), table.train[1].numpy(), 1e-3, "logistic")
    if not quick:
        x, y = load_digits(return_X_y=True)
        yield linear("digits 1e-3", x / 16, y, 1e-3, "cross_entropy")
    for n in (2, 10, 50):
        start = torch.tensor([-1.2, 1.0] * (n // 2), dtype=torch.float64)
        yield Task(f"rosenbrock {n}", rosenbrock, start, 0.0, convex=False)
    yield Task("beale", beale, torch.ones(2).double(), 0.0, convex=False)
    for condition in (1e2, 1e4, 1e6):
        yield bowl(condition)


class Counted:
    """A function that notes at which evaluation it first came within each bound."""

    def __init__(self, task: Task) -> None:
        self.task, self.evaluations = task, 0
        self.gap: int | None = None
        self.slope: int | None = None

    def note(self, value: float, slope: float) -> None:
        self.evaluations += 1
        if self.gap is None and value - self.task.least <= 1e-8:
            self.gap = self.evaluations
        if self.slope is None and slope <= 1e-6:
            self.slope = self.evaluations

    @property
    def done(self) -> bool:
        return self.gap is not None and self.slope is not None


def ours(task: Task) -> Counted:
    """Evaluations of our L-BFGS."""
    counted, p = Counted(task), nn.Parameter(task.start.clone())
    ground = Noting(p, task, counted)
    method: Method = LBFGS([p], history_size=PAIRS)
    for _ in range(20000):
        method.step(ground)
        if counted.done or (method.last is not None and method.last.converged):
            break
    return counted


class Noting(Ground):
    """A ground whose looks are noted."""

    def __init__(self, p: Tensor, task: Task, counted: Counted) -> None:
        super().__init__([(lambda: task.f(p), 1.0)], [p])
        self.counted = counted

    def slope(self) -> tuple[float, Tensor]:
        value, gradient = super().slope()
        self.counted.note(value, float(gradient.abs().max()))
        return value, gradient


def theirs(task: Task) -> Counted:
    """Evaluations of SciPy's."""
    counted = Counted(task)

    def both(x: Any) -> tuple[float, Any]:
        at = torch.tensor(x, requires_grad=True)
        value = task.f(at)
        (slope,) = torch.autograd.grad(value, at)
        counted.note(value.item(), float(slope.abs().max()))
        return value.item(), slope.numpy()

    options = {"maxcor": PAIRS, "ftol": 0.0, "gtol": 0.0, "maxiter": 20000, "maxfun": 40000}

    def stop(_: Any) -> None:
        if counted.done:
            raise StopIteration

    minimize(both, task.start.numpy(), jac=True, method="L-BFGS-B", options=options, callback=stop)
    return counted


def beside(pairs: list[tuple[int | None, int | None]]) -> str:
    """Median and range of our counts and SciPy's, and in how many pairs ours is no more."""
    counts = np.array([[np.inf if each is None else each for each in pair] for pair in pairs])
    middle, low, high = np.median(counts, 0), counts.min(0), counts.max(0)
    shown = [
        f"{middle[i]:g} [{low[i]:g}, {high[i]:g}]" if low[i] < high[i] else f"{middle[i]:g}" for i in (0, 1)
    ]
    return f"{shown[0]:>22} {shown[1]:>22} {(counts[:, 0] <= counts[:, 1]).sum():4d}/{len(pairs)}"


def newton(task: Task) -> tuple[int, float]:
    """Iterations of Newton to a gap of 1e-12, and the gap where it ended."""
    p = nn.Parameter(task.start.clone())
    ground = Ground([(lambda: task.f(p), 1.0)], [p])
    method = Newton([p])
    reached = -1
    for i in range(1, 40):
        method.step(ground)
        gap = ground.loss() - task.least
        if reached < 0 and gap <= 1e-12 * max(1.0, abs(task.least)):
            reached = i
        if method.last is not None and method.last.converged:
            break
    return reached, gap


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="without a9a and the digits")
    parser.add_argument("--orders", type=int, default=21, help="of the parameters, in each of which both go")
    parser.add_argument("--only", nargs="*", default=[""], help="tasks whose names begin so")
    given = parser.parse_args()
    print(f"{'':20}Newton: steps, gap   L-BFGS to gap 1e-8: ours, SciPy's, no more   to slope 1e-6")
    for task in tasks(given.quick):
        if not task.name.startswith(tuple(given.only)):
            continue
        steps, gap = newton(task) if task.convex else (-1, float("nan"))
        both = [(ours(each), theirs(each)) for each in (ordered(task, seed) for seed in range(given.orders))]
        first = f"{steps:4d} {gap:10.1e}" if task.convex else ""
        gaps = beside([(a.gap, b.gap) for a, b in both])
        slopes = beside([(a.slope, b.slope) for a, b in both])
        print(f"{task.name:20}{first:17}{gaps}{slopes}", flush=True)


if __name__ == "__main__":
    main()
