"""When transfer pays: seven classes of Fashion-MNIST are learnt first, then the other three from few labels.

Every draw has its own split of the classes, its own pre-training, its own few labelled images and its own
start. Ways:

    scratch    a fresh network
    frozen     the pre-trained one as a feature extractor, a linear head on it (`ds.extract`)
    fine       the pre-trained one, all of it trained at one rate
    depth      the same with a rate for each depth and gradual unfreezing (`layer_decay`, `unfreeze`)
    control    as `depth`, and `control frozen` as `frozen`, but pre-trained on shuffled labels

Every way gets the same steps, and the best of the same learning rates, chosen on draws and images of their
own. Images are averaged over 2 by 2 pixels. Accuracy is on the test images of the three classes; intervals
are t intervals over draws, differences are paired. It takes some five minutes of one core.

    DOWNSLOPE_DATA=... python bench/transfer.py [--draws 10] [--rows FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import downslope as ds

SOURCE, TARGET = 7, 3
LABELS = (5, 10, 20, 50, 500)
WAYS = ("scratch", "frozen", "fine", "depth", "control", "control frozen")
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STEPS = {500: 400}
"""Steps by labels a class; 150 where it says nothing."""

EXACT: dict[str, Any] = {"precision": "float32"}
"""No choice by timing, so that a second measurement gives the same figures."""

BATCH, IMAGES, EPOCHS = 32, 10_000, 4
"""Of the pre-training: images and passes."""

LAYER_DECAY = 0.4
"""Howard and Ruder 2018, section 3.2: 1 / 2.6."""

CHOICE = (100, 101)
"""Draws on which the rates are chosen."""

Images = tuple[Tensor, Tensor]


class Draw(NamedTuple):
    """One split of the classes, and what is learnt on either side."""

    seed: int
    source: Images
    pool: Images
    """Training images of the target classes, shuffled."""
    test: Images


@cache
def images() -> tuple[Images, Images]:
    """Training and test part of Fashion-MNIST, each image averaged over 2 by 2 pixels."""
    table = ds.data.fashion_mnist()
    small = torch.nn.functional.avg_pool2d
    (x, y), (v, w) = table.train, table.valid
    return (small(x, 2), y), (small(v, 2), w)


def draw(seed: int) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(10, generator=generator)
    number = torch.empty(10, dtype=torch.long)
    number[order[:SOURCE]] = torch.arange(SOURCE)
    number[order[SOURCE:]] = torch.arange(TARGET)
    is_source = torch.zeros(10, dtype=torch.bool)
    is_source[order[:SOURCE]] = True
    (x, y), (v, w) = images()
    mixed = torch.randperm(len(y), generator=generator)
    first, rest = mixed[is_source[y[mixed]]][:IMAGES], mixed[~is_source[y[mixed]]]
    held = ~is_source[w]
    return Draw(seed, (x[first], number[y[first]]), (x[rest], number[y[rest]]), (v[held], number[w[held]]))


def problem(data: Images, classes: int, **more: Any) -> ds.Problem:
    size = {"width": 16, "depth": 3, "norm": "batch", "outputs": classes}
    return ds.Problem(
        model="cnn", arguments=size, objective="cross_entropy", metric="accuracy", train=data, **more
    )


def fit(of: ds.Problem, recipe: ds.Recipe) -> ds.Run:
    return ds.fit(of, recipe, folder=False, progress=False, observe=0)


def pretrained(at: Draw, shuffled: bool) -> ds.Run:
    x, y = at.source
    if shuffled:
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(at.seed))]
    recipe = ds.Recipe(lr=3e-3, batch_size=BATCH, epochs=EPOCHS, schedule="cosine", seed=at.seed, **EXACT)
    return fit(problem((x, y), SOURCE), recipe)


def few(at: Draw, labels: int) -> Images:
    """The first `labels` images of each target class."""
    x, y = at.pool
    index = torch.cat([torch.nonzero(y == each)[:labels, 0] for each in range(TARGET)])
    return x[index], y[index]


def trained(way: str, at: Draw, labels: int, lr: float, start: ds.Run | None) -> torch.nn.Module:
    """The model that a way makes of few labels."""
    new = problem(few(at, labels), TARGET)
    size = min(BATCH, TARGET * labels)
    epochs = max(1, round(STEPS.get(labels, 150) / math.ceil(TARGET * labels / size)))
    recipe = ds.Recipe(lr=lr, batch_size=size, epochs=epochs, seed=at.seed, **EXACT)
    if way == "scratch":
        return fit(new, recipe).model()
    if way in ("frozen", "control frozen"):
        features = ds.extract(new, start, progress=False)
        return features.join(fit(features, recipe))
    if way in ("depth", "control"):
        recipe = recipe.edit(layer_decay=LAYER_DECAY, unfreeze=max(1, epochs // 6))
    return fit(new.edit(weights=start), recipe).model()


def accuracy(model: torch.nn.Module, data: Images) -> float:
    x, y = data
    with torch.no_grad():
        right = sum(
            int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True)
        )
    return right / len(y)


def chosen(seed: int) -> Iterator[dict[str, Any]]:
    """Every way at every rate, judged on training images that it did not see."""
    at = draw(seed)
    held = (at.pool[0][-2000:], at.pool[1][-2000:])
    start = pretrained(at, shuffled=False)
    for way in WAYS[:4]:
        for labels in (5, 20):
            for lr in RATES:
                found = accuracy(trained(way, at, labels, lr, start), held)
                yield {
                    "kind": "choice",
                    "draw": seed,
                    "way": way,
                    "labels": labels,
                    "lr": lr,
                    "accuracy": found,
                }


def measured(seed: int, rates: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Every way at its rate, judged on the test images."""
    at = draw(seed)
    starts = {shuffled: pretrained(at, shuffled) for shuffled in (False, True)}
    for labels in LABELS:
        for way in WAYS:
            start = starts[way.startswith("control")]
            found = accuracy(trained(way, at, labels, rates[way], start), at.test)
            yield {"kind": "draw", "draw": seed, "way": way, "labels": labels, "accuracy": found}


def best_rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The rate of the highest mean for each way; a control takes that of its twin."""
    rates: dict[str, float] = {}
    for way in WAYS[:4]:
        means = {
            lr: np.mean(
                [r["accuracy"] for r in rows if r["kind"] == "choice" and (r["way"], r["lr"]) == (way, lr)]
            )
            for lr in RATES
        }
        rates[way] = max(means, key=lambda lr: means[lr])
    return rates | {"control": rates["depth"], "control frozen": rates["frozen"]}


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half the width of its 95 % t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def by_draw(rows: list[dict[str, Any]], way: str, labels: int) -> np.ndarray:
    own = [r for r in rows if r["kind"] == "draw" and (r["way"], r["labels"]) == (way, labels)]
    return np.array([r["accuracy"] for r in sorted(own, key=lambda r: r["draw"])])


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy in per cent of scratch; of the other ways what they gain on it, in points."""
    head = f"{'labels a class':<16}" + "".join(f"{each:>16}" for each in LABELS)
    lines = [head]
    for way in WAYS:
        cells: list[str] = []
        for labels in LABELS:
            base, own = by_draw(rows, "scratch", labels), by_draw(rows, way, labels)
            mean, half = interval(100 * (own if way == "scratch" else own - base))
            cells.append(
                f"{mean:>7.1f} +- {half:.1f}" if way == "scratch" else f"{mean:>+7.1f} +- {half:.1f}"
            )
        lines.append(f"{way:<16}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--rows", type=Path, help="file that a stopped run goes on from; none without")
    parser.add_argument("--most", type=int, default=10**9, help="draws in this call; the next goes on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = given.rows is not None
    text = given.rows.read_text(encoding="utf-8") if kept and given.rows.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    wanted = [("choice", s) for s in CHOICE] + [("draw", s) for s in range(given.draws)]
    left = [each for each in wanted if each not in {(r["kind"], r["draw"]) for r in rows}]
    for kind, seed in left[: given.most]:
        made = list(chosen(seed) if kind == "choice" else measured(seed, best_rates(rows)))
        rows += made
        if kept:
            with given.rows.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in made)
        print(f"{kind} {seed} done", file=sys.stderr, flush=True)
    if len(left) <= given.most:
        rates = ", ".join(f"{way} {lr:g}" for way, lr in best_rates(rows).items())
        print(f"{given.draws} draws of {SOURCE} classes for {TARGET}; rates: {rates}\n{table(rows)}")


if __name__ == "__main__":
    main()
