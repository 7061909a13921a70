"""The noisy quadratic of 100 dimensions of DeepOBS (Schneider, Balles and Hennig 2019, "quadratic_deep").

Its Hessian has a spectrum as deep networks have (Chaudhari et al. 2017): 90 eigenvalues from U(0, 1), 10
from U(30, 60), turned by a rotation drawn from the Haar measure. Everything is drawn from numpy's legacy
generator, whose stream is frozen, so that the numbers are those that were published against.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from downslope.core import randomness
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe

DIMENSIONS = 100
EXAMPLES = 1000
BATCH = 128
WHOLE = EXAMPLES // BATCH * BATCH
"""Examples of whole batches; the rest of a part is left out, in training and in the test alike."""

PUBLISHED = {
    "sgd": ({"lr": 0.015848931925}, 87.39747, 0.16895),
    "momentum": ({"lr": 0.0025118864315, "momentum": 0.99}, 87.04504, 0.02518),
    "adam": ({"lr": 0.039810717055}, 87.11188, 0.02419),
}
"""Method to its tuned settings, and mean and deviation over 10 seeds of the test loss after 100 epochs
(DeepOBS baselines, fsschneider/DeepOBS_Baselines at 3da285a)."""

AT_START = 353.44676
"""The published test loss before the first step."""


def hessian() -> npt.NDArray[np.float64]:
    """The matrix Q of the problem, shape (100, 100), symmetric and positive definite."""
    drawn = np.random.RandomState(42)
    eigenvalues = np.concatenate([drawn.uniform(0, 1, 90), drawn.uniform(30, 60, 10)])
    turn = _rotation(DIMENSIONS, drawn)
    return turn.T @ np.diag(eigenvalues) @ turn


def _rotation(n: int, drawn: np.random.RandomState) -> npt.NDArray[np.float64]:
    """A rotation from the Haar measure, built up dimension by dimension by reflections (Diaconis and
    Shahshahani 1987, the subgroup algorithm).
    """
    angle = 2 * np.pi * drawn.uniform()
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for size in range(3, n + 1):
        mirror = drawn.normal(size=size)
        mirror = -mirror / np.linalg.norm(mirror)
        mirror[0] += 1
        mirror /= np.linalg.norm(mirror)
        wider = np.eye(size)
        wider[1:, 1:] = turn
        turn = wider - 2 * np.outer(mirror, mirror @ wider)
    return -turn  # the number of reflections is even: of determinant 1


def data(seed: int) -> Tensor:
    """The 1000 points N(0, 0.6^2) that `seed` gives, shape (1000, 100): 42 for training, 43 for the test."""
    drawn = np.random.RandomState(seed)
    return torch.from_numpy(drawn.normal(0, 0.6, (EXAMPLES, DIMENSIONS)).astype(np.float32))


class Point(nn.Module):
    """One point of the space, whatever the input: shape (n, d) to (n, d). It starts at (1, ..., 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(DIMENSIONS))

    def forward(self, x: Tensor) -> Tensor:
        """The point, once for each example."""
        return self.theta.expand(len(x), -1)


class Bowl:
    """Mean of ``1/2 (theta - x)^T Q (theta - x)`` over the examples.

    Args:
        q: symmetric, shape (d, d).
    """

    reduction = "mean"

    def __init__(self, q: npt.NDArray[np.float64]) -> None:
        self.q = torch.from_numpy(q.astype(np.float32))

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Shapes (n, d) and (n, d) to a scalar."""
        away = output - target
        return 0.5 * ((away @ self.q.to(away)) * away).sum(1).mean()


def problem(order: int = 0) -> Problem:
    """The problem, its training data in one order that every epoch repeats: so it was published.

    Args:
        order: seed of that order; one for each repetition.
    """
    train = TensorDataset(data(42))
    fixed: list[int] = randomness.permutation(EXAMPLES, order, 0).tolist()
    loader = DataLoader(train, BATCH, sampler=fixed, drop_last=True)
    return Problem(
        model=Point,
        objective=Bowl(hessian()),
        train=loader,
        valid=(data(43)[:WHOLE],),
        split=_of_inputs_alone,
        name="quadratic_deep",
    )


def _of_inputs_alone(batch: tuple[Tensor]) -> tuple[tuple[Tensor], dict[str, Tensor], Tensor]:
    return (batch[0],), {}, batch[0]


def recipe(method: str = "sgd", epochs: int = 100) -> Recipe:
    """The published recipe of a method: "sgd", "momentum" or "adam"."""
    return Recipe(optimizer=method, epochs=epochs, batch_size=BATCH, **PUBLISHED[method][0])
