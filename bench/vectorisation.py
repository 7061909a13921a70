"""One gradient, computed in five ways: a loop over numbers, example by example, batched, compiled, on a GPU.

Softmax regression on the digits of scikit-learn: mean gradient of the cross-entropy over 1437 examples of
64 inputs and 10 classes. The arithmetic is the same (`tests/concepts/test_vectorisation.py` holds the ways
beside one another in float64); the time is not. The loop over numbers takes `--some` examples, and its time
is told for all.

    python bench/vectorisation.py [--rounds 7] [--some 20]
"""

from __future__ import annotations

import argparse
import functools
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved

import downslope as ds

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def numbers(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """A loop over every number, in plain Python."""
    rows, labels, weights = x.tolist(), y.tolist(), w.tolist()
    total = [[0.0] * len(rows[0]) for _ in weights]
    for row, label in zip(rows, labels, strict=True):
        scores = [sum(a * b for a, b in zip(row, one, strict=True)) for one in weights]
        top = max(scores)
        shares = [math.exp(score - top) for score in scores]
        whole = sum(shares)
        for k, share in enumerate(shares):
            error = share / whole - (k == label)
            for j, value in enumerate(row):
                total[k][j] += error * value / len(rows)
    return torch.tensor(total, dtype=x.dtype)


def examples(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """One example at a time, through automatic differentiation."""
    w = w.detach().requires_grad_()
    for row, label in zip(x, y, strict=True):
        (functional.cross_entropy(row @ w.T, label) / len(x)).backward()
    assert w.grad is not None
    return w.grad


def batched(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """All examples as one matrix, through automatic differentiation."""
    w = w.detach().requires_grad_()
    return torch.autograd.grad(functional.cross_entropy(x @ w.T, y), w)[0]


def per_sample(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The gradient of every example by itself, in one pass (`torch.func`), then their mean."""
    grad = torch.func.grad(lambda w, row, label: functional.cross_entropy(row @ w.T, label))
    return torch.func.vmap(grad, in_dims=(None, 0, 0))(w, x, y).mean(0)


def formula(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """``(softmax(x w^T) - one_hot(y))^T x / n``, without differentiation."""
    errors = torch.softmax(x @ w.T, 1) - functional.one_hot(y, len(w))
    return errors.T @ x / len(x)


WAYS: dict[str, Way] = {
    "loop over numbers": numbers,
    "one example at a time": examples,
    "every example by itself, at once": per_sample,
    "batched": batched,
    "batched, by the formula": formula,
}


def compiles() -> bool:
    """Whether there is a compiler of C++ that torch could use."""
    return any(shutil.which(each) for each in ("g++", "clang++", "cl"))


def digits(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """The training part, and weights that are no special point."""
    x, y = ds.data.digits(scale=16).train
    w = 0.1 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.to(dtype), y, w


def measured(rounds: int = 7, some: int = 20, *, compiler: bool = True) -> dict[str, float]:
    """Milliseconds of the gradient of all examples, by way; medians of rounds in turns."""
    x, y, w = digits()
    ways: dict[str, tuple[Callable[[], Tensor], float]] = {
        name: (functools.partial(way, x, y, w), 1.0) for name, way in WAYS.items()
    }
    ways["loop over numbers"] = (functools.partial(numbers, x[:some], y[:some], w), len(x) / some)
    if compiler and compiles():
        fast = torch.compile(formula)
        begun = time.perf_counter()
        fast(x, y, w)
        print(f"compiling took {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        ways["batched, compiled"] = (functools.partial(fast, x, y, w), 1.0)
    if torch.cuda.is_available():
        on = tuple(t.cuda() for t in (x, y, w))

        def on_gpu() -> Tensor:
            found = formula(*on)
            torch.cuda.synchronize()
            return found

        ways["batched, on the GPU"] = (on_gpu, 1.0)
    found = interleaved([act for act, _ in ways.values()], rounds)
    pairs = zip(ways.items(), found, strict=True)
    return {name: 1e3 * factor * sorted(times)[len(times) // 2] for (name, (_, factor)), times in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--some", type=int, default=20)
    given = parser.parse_args()
    found = measured(given.rounds, given.some)
    best = min(found.values())
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; 1437 examples, 64 inputs, 10 classes"
    )
    for name, ms in found.items():
        print(f"{name:<34} {ms:>10.3f} ms  {ms / best:>9.1f} x")
    if not compiles():
        print(f"{'batched, compiled':<34} skipped: no compiler of C++ is installed")
    if not torch.cuda.is_available():
        print(f"{'batched, on the GPU':<34} skipped: this machine has no CUDA device")


if __name__ == "__main__":
    main()
