"""A 51 x 51 slice of the loss of DeepOBS's 2c2d network on 1,000 images, and how far its values are off.

    python bench/terrain_slice.py [--points 51] [--images 1000] [--threads 2] [--steps 150] [--checks 40]

Clothes where DOWNSLOPE_DATA is set, else scikit-learn's digits brought to 28 x 28 pixels. The network is
trained for `--steps` first, since the slice of a start is flat. Told are the seconds of `ds.landscape` as a
whole; what it evaluated, and with which error as it states itself; and that error measured at `--checks`
points of its own, each evaluated with plain torch in float32 on all images at once, as `torch.nn` gives it.
The price of evaluating every point is told from those, not waited for.
"""

from __future__ import annotations

import argparse
import copy
import os
import time

import numpy as np
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.terrain.hvp import unflat


def images() -> tuple[Tensor, Tensor, str]:
    """Images of one channel and 28 x 28 pixels, their classes, and what they are."""
    if os.environ.get("DOWNSLOPE_DATA"):
        x, y = ds.data.fashion_mnist().train
        return x[:6000], y[:6000], "Fashion-MNIST"
    x, y = ds.data.digits(scale=16).train
    large = nn.functional.interpolate(x.reshape(-1, 1, 8, 8), size=28, mode="bilinear")
    return large, y, "scikit-learn's digits, enlarged"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in (("points", 51), ("images", 1000), ("threads", 2), ("steps", 150), ("checks", 40)):
        arguments.add_argument(f"--{name}", type=int, default=value)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    x, y, what = images()
    problem = ds.Problem(model="cnn_2c2d", objective="cross_entropy", train=(x, y), name="2c2d")
    recipe = ds.Recipe(optimizer="adam", lr=1e-3, batch_size=128, steps=given.steps)
    model = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model("last")
    print(f"{what}, {given.images} images, {sum(p.numel() for p in model.parameters()):,} parameters")
    began = time.perf_counter()
    found = ds.landscape(problem, model, points=given.points, examples=given.images, progress=False)
    took = time.perf_counter() - began
    size = f"{given.points} x {given.points}"
    print(f"slice of {size} points: {took:.1f} s, {int(found.evaluated.sum())} evaluated")
    for note in found.notes:
        print(f"  {note}")
    off, price = checked(found, problem, model, given.images, given.checks)
    rms = np.sqrt((off**2).mean())
    print(f"against float32 at {len(off)} points: relative error {rms:.1e} rms, {off.max():.1e} at most")
    print(f"plain torch, every point one by one: {price * found.values.size:.0f} s at {price:.3f} s a point")


def checked(found: ds.landscape, problem: ds.Problem, model: nn.Module, count: int, checks: int) -> tuple:
    """Relative errors at points drawn among those interpolated, and the seconds of a plain evaluation."""
    from downslope.core.fixed_sample import sample

    inputs, target = sample(problem.train_source, count)
    there = copy.deepcopy(model).eval()
    params = list(there.parameters())
    free = np.argwhere(~found.evaluated) if not found.evaluated.all() else np.argwhere(found.evaluated)
    drawn = free[np.random.default_rng(1).choice(len(free), min(checks, len(free)), replace=False)]
    off, seconds = [], []
    with torch.no_grad():
        for i, j in drawn:
            at = found.axes[0].coordinates[i], found.axes[1].coordinates[j]
            moved = found.origin + at[0] * found.vectors[0] + at[1] * found.vectors[1]
            for p, value in zip(params, unflat(moved, params), strict=True):
                p.copy_(value)
            began = time.perf_counter()
            true = float(nn.functional.cross_entropy(there(inputs), target))
            seconds.append(time.perf_counter() - began)
            off.append(abs(found.values[i, j] / true - 1))
    return np.array(off), float(np.median(seconds))


if __name__ == "__main__":
    main()
