"""Healthy problems: what is to be learnt, from tables, images and sequences, without any model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downslope.data import breast_cancer, diabetes, digits, split, wine
from downslope.data.sequences import adding, motifs
from downslope.data.table import Pair, Table


@dataclass(frozen=True)
class Task:
    """Data, objective and metric. `asks` is "regression", "binary", "classes" or "labels"."""

    name: str
    asks: str
    train: Pair
    valid: Pair
    objective: Any
    metric: str
    outputs: int
    vocabulary: int | None = None
    """Number of different tokens, where the inputs are tokens."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train[0].shape[1:])

    @property
    def real(self) -> bool:
        """Whether the inputs are numbers, which can be scaled."""
        return self.vocabulary is None

    def mapped(self, train: Callable[[Pair], Pair], valid: Callable[[Pair], Pair] | None = None) -> Task:
        """Both parts changed, or with ``valid=None`` in the same way."""
        return replace(self, train=train(self.train), valid=(valid or train)(self.valid))

    def trained_on(self, pair: Pair) -> Task:
        """Other training examples, the same validation."""
        return replace(self, train=pair)


ASKED: dict[str, tuple[Callable[[], Any], str]] = {
    "classes": (nn.CrossEntropyLoss, "accuracy"),
    "binary": (nn.BCEWithLogitsLoss, "accuracy"),
    "regression": (nn.MSELoss, "r2"),
    "labels": (nn.BCEWithLogitsLoss, "f1"),
}


def _task(name: str, asks: str, table: Table, outputs: int, vocabulary: int | None = None) -> Task:
    assert table.valid is not None
    objective, metric = ASKED[asks]
    made = Task(name, asks, table.train, table.valid, objective(), metric, outputs, vocabulary)
    return made.mapped(_column) if asks == "binary" else made


def _column(pair: Pair) -> Pair:
    """Float targets of shape (n, 1), for one output."""
    return pair[0], pair[1].float().reshape(-1, 1)


def _standard_targets(task: Task) -> Task:
    mean, std = task.train[1].mean(0), task.train[1].std(0)
    return task.mapped(lambda pair: (pair[0], ((pair[1] - mean) / std).reshape(len(pair[1]), -1)))


def _standard_inputs(task: Task) -> Task:
    mean, std = task.train[0].mean(0), task.train[0].std(0)
    return task.mapped(lambda pair: ((pair[0] - mean) / std, pair[1]))


def _made(name: str, asks: str, x: Any, y: Any, outputs: int, seed: int) -> Task:
    """A task of arrays that scikit-learn drew, with standardised inputs."""
    inputs = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    kind = np.int64 if asks == "classes" else np.float32
    target = torch.from_numpy(np.ascontiguousarray(y, dtype=kind))
    train, held = split(len(x), valid=0.25, seed=seed)
    table = Table(
        (inputs[train], target[train]), (inputs[held], target[held]), "classification", [], []
    )  # what the table calls itself is not read here
    return _standard_inputs(_task(name, asks, table, outputs))


def _digits(seed: int) -> Task:
    return _task("digits", "classes", digits(scale=16.0, seed=seed), 10)


def _images(seed: int) -> Task:
    return _task("images", "classes", digits(scale=16.0, images=True, seed=seed), 10)


def _rows(seed: int) -> Task:
    """The digits read row by row: eight steps of eight numbers."""
    flat = _task("rows", "classes", digits(scale=16.0, seed=seed), 10)
    return flat.mapped(lambda pair: (pair[0].reshape(-1, 8, 8), pair[1]))


def _wine(seed: int) -> Task:
    return _task("wine", "classes", wine(standardise=True, seed=seed), 3)


def _cancer(seed: int) -> Task:
    return _task("cancer", "binary", breast_cancer(standardise=True, seed=seed), 1)


def _diabetes(seed: int) -> Task:
    return _standard_targets(_task("diabetes", "regression", diabetes(standardise=True, seed=seed), 1))


def _friedman(seed: int) -> Task:
    """Ten uniform inputs, five of which count, not linearly (Friedman 1991)."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n_samples=1000, noise=1.0, random_state=seed)
    return _standard_targets(_made("friedman", "regression", x, y, 1, seed))


def _moons(seed: int) -> Task:
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=800, noise=0.2, random_state=seed)
    return _made("moons", "binary", x, y, 1, seed)


def _many_moons(seed: int) -> Task:
    """Enough of them that one class can be made rare."""
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=6000, noise=0.3, random_state=seed)
    return _made("many-moons", "binary", x, y, 1, seed)


def _circles(seed: int) -> Task:
    """A ring around a disc: no straight line tells them apart."""
    from sklearn.datasets import make_circles

    x, y = make_circles(n_samples=800, noise=0.1, factor=0.4, random_state=seed)
    return _made("circles", "binary", x, y, 1, seed)


def _product(seed: int) -> Task:
    """The product of two of four inputs, and a little noise."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((1000, 4))
    y = x[:, 0] * x[:, 1] + 0.1 * draw.standard_normal(1000)
    return _standard_targets(_made("product", "regression", x, y, 1, seed))


def _labels(seed: int) -> Task:
    """Five yes-or-no questions to every example."""
    from sklearn.datasets import make_multilabel_classification

    x, y = make_multilabel_classification(
        n_samples=1200, n_features=20, n_classes=5, n_labels=2, random_state=seed
    )
    return _made("labels", "labels", x, y, 5, seed)


def _table(seed: int) -> Task:
    """5000 rows of 20 columns, four classes in eight clusters."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        n_samples=5000, n_features=20, n_informative=10, n_redundant=4, n_classes=4, class_sep=1.5,
        flip_y=0.0, random_state=seed,
    )  # fmt: skip
    return _made("table", "classes", x, y, 4, seed)


def adding_task(seed: int, steps: int = 5) -> Task:
    return _standard_targets(_task("adding", "regression", adding(n=1500, steps=steps, seed=seed), 1))


def _adding_far(seed: int) -> Task:
    """The same with lags of 15 and more steps, which a plain recurrent network forgets."""
    return replace(adding_task(seed, 30), name="adding-far")


def _motifs(seed: int) -> Task:
    return _task("motifs", "classes", motifs(n=1200, steps=10, seed=seed), 4, vocabulary=12)


_TASKS: dict[str, Callable[[int], Task]] = {
    "digits": _digits, "images": _images, "rows": _rows, "wine": _wine, "cancer": _cancer,
    "diabetes": _diabetes, "friedman": _friedman, "moons": _moons, "many-moons": _many_moons,
    "circles": _circles, "product": _product, "labels": _labels, "table": _table,
    "adding": adding_task, "adding-far": _adding_far, "motifs": _motifs,
}  # fmt: skip


@functools.lru_cache(maxsize=32)
def task(name: str, seed: int) -> Task:
    """The task of that name; `seed` draws its data, where they are made, and its split."""
    return _TASKS[name](seed)


# -- changes of data that several faults make ----------------------------------------------------------------


def scaled(given: Task, factor: float | Tensor, offset: float = 0.0) -> Task:
    return given.mapped(lambda pair: (pair[0] * factor + offset, pair[1]))


def retargeted(given: Task, factor: float, offset: float) -> Task:
    return given.mapped(lambda pair: (pair[0], pair[1] * factor + offset))


def head(given: Task, count: int, seed: int = 0) -> Task:
    """`count` training examples, drawn."""
    order = torch.randperm(len(given.train[0]), generator=torch.Generator().manual_seed(seed))[:count]
    return given.trained_on((given.train[0][order], given.train[1][order]))


def mislabelled(given: Task, share: float, seed: int = 0) -> Task:
    """A share of the training targets is shuffled among themselves."""
    draw = torch.Generator().manual_seed(seed)
    x, y = given.train
    wrong = (torch.rand(len(y), generator=draw) < share).nonzero().flatten()
    target = y.clone()
    target[wrong] = y[wrong[torch.randperm(len(wrong), generator=draw)]]
    return given.trained_on((x, target))
