"""What stopping early wins and loses on digits, and what extrapolated learning curves would lose.

``python -m bench.halving`` (about a minute): halving beside training all, ten searches of 27 trials.
``python -m bench.halving curves``: the posterior of the last loss that decision 0028 leaves out.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from scipy import special
from torch import nn

import downslope as ds

SPACE = {"lr": ds.log(1e-5, 1), "weight_decay": ds.log(1e-7, 1e-1)}
EPOCHS, TRIALS, SEARCHES = 27, 27, 10


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def digits() -> ds.Problem:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(x / 16.0).float()[order], torch.tensor(y)[order]
    return ds.Problem(
        model=make, objective="cross_entropy", train=(x[:1437], y[:1437]), valid=(x[1437:], y[1437:]),
        metric="accuracy",
    )  # fmt: skip


def beside() -> None:
    """Winners, steps and CPU time of halving beside training all, the same trials."""
    problem, recipe = digits(), ds.Recipe(optimizer="adam", epochs=EPOCHS, batch_size=64)
    how = {"trials": TRIALS, "folder": False, "progress": False, "confirm": 0}
    steps, seconds, gaps = [0, 0], [0.0, 0.0], list[float]()
    for seed in range(SEARCHES):
        best = list[float]()
        for place, pruner in enumerate((None, "halving")):
            begun = time.process_time()
            found = ds.tune(problem, recipe, SPACE, pruner=pruner, seed=seed, **how)
            seconds[place] += time.process_time() - begun
            steps[place] += found.steps
            best.append(found.best.value)
        gaps.append(best[0] - best[1])
    print(f"steps {steps[1] / steps[0]:.3f}, CPU time {seconds[1] / seconds[0]:.3f} of training all together")
    print("accuracy that was lost:", " ".join(f"{gap:.4f}" for gap in sorted(gaps)))


class Extrapolation:
    """The posterior of the last loss: power laws and exponentials, each a conjugate linear model."""

    def __init__(self, length: int, spread: float = 25.0, shape: float = 1.0, scale: float = 0.02) -> None:
        u = np.arange(1, length + 1.0)
        falls = [u**-b for b in np.geomspace(0.05, 3, 14)]
        falls += [np.exp(-(u - 1) / t) for t in np.geomspace(0.5, 4 * length, 14)]
        self.x = np.stack([np.ones((len(falls), length)), np.array(falls)], -1)
        self.spread, self.shape, self.scale = spread, shape, shape * scale**2

    def below(self, y: np.ndarray, level: float) -> float:
        """The probability that the last loss is below `level`, after the losses `y`."""
        x, k = self.x[:, : len(y)], len(y)
        precision = x.transpose(0, 2, 1) @ x + np.eye(2) / self.spread
        cov = np.linalg.inv(precision)
        mean = (cov @ (x.transpose(0, 2, 1) @ y)[..., None])[..., 0]
        a = self.shape + k / 2
        b = self.scale + 0.5 * (y @ y - np.einsum("si,sij,sj->s", mean, precision, mean))
        b = np.maximum(b, 1e-12)
        evidence = -0.5 * np.linalg.slogdet(precision)[1] - a * np.log(b)
        weight = np.exp(evidence - evidence.max())
        last = self.x[:, -1]
        width = np.sqrt(b / a * (1 + np.einsum("si,sij,sj->s", last, cov, last)))
        chance = special.stdtr(2 * a, (level - (last * mean).sum(1)) / width)
        return float((weight * chance).sum() / weight.sum())


def family(kind: str, n: int, length: int, draw: np.random.Generator, noise: float) -> np.ndarray:
    """Known curves of one kind, a row for each member, as they are seen."""
    u = np.arange(1, length + 1.0)
    floor, height = draw.uniform(0.1, 1, n)[:, None], draw.uniform(0.5, 2, n)[:, None]
    if kind == "power laws":
        fall = u ** -draw.uniform(0.2, 2, n)[:, None]
    elif kind == "exponentials":
        fall = np.exp(-u / draw.uniform(1, length / 2, n)[:, None])
    elif kind == "late falls":
        fall = 1 / (1 + np.exp((u - draw.uniform(0, length * 0.6, n)[:, None]) / 1.5))
    elif kind == "rate in stairs":
        stair = np.where(u > length * 0.75, 0.3, np.where(u > length / 2, 0.6, 1.0))
        fall = 0.5 * u**-0.5 + 0.5 * stair * draw.uniform(0, 1, n)[:, None]
    else:
        rate = (1 + np.cos(np.pi * (u - 1) / length)) / 2
        fall = u ** -draw.uniform(0.3, 1.5, n)[:, None] + rate * draw.uniform(0, 1, n)[:, None]
    return floor + height * fall + draw.normal(0, noise, (n, length))


def search(curves: np.ndarray, model: Extrapolation, chance: float, first: int = 4) -> tuple[bool, float]:
    """Whether the winner is lost where each member ends below ``chance / n``, and the epochs saved."""
    n, length = curves.shape
    going, had = np.ones(n, bool), np.zeros(n, int)
    for k in range(1, length):
        had[going] = k
        if k < first:
            continue
        seen = np.concatenate([curves[i, : had[i]] for i in range(n)])
        low, scale = seen.min(), max(np.quantile(seen, 0.9) - seen.min(), 1e-9)
        own = np.array([curves[i, : had[i]].min() for i in range(n)])
        for i in np.flatnonzero(going):
            level = np.delete(own, i).min()
            partial = (curves[i, :k] - low) / scale
            if own[i] > level and model.below(partial, (level - low) / scale) < chance / n:
                going[i] = False
    had[going] = length
    return not going[curves[:, -1].argmin()], 1 - had.sum() / (n * length)


def curves(seeds: int = 500, n: int = 16, chance: float = 0.05, noise: float = 0.03) -> None:
    """How often the winner is lost, beside what is stated."""
    model = Extrapolation(EPOCHS)
    for kind in ("power laws", "exponentials", "late falls", "rate in stairs", "rate along a cosine"):
        draws = (np.random.default_rng(seed) for seed in range(seeds))
        found = [search(family(kind, n, EPOCHS, draw, noise), model, chance) for draw in draws]
        lost, saved = np.mean(found, axis=0)
        print(f"{kind:20} stated {chance:.3f}, lost {lost:.3f}, epochs saved {saved:.2f}")


if __name__ == "__main__":
    curves() if "curves" in sys.argv[1:] else beside()
