"""The healthy combinations of task, model and optimizer that faults are injected into."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from typing import Any

import downslope as ds
from bench.diagnosis import tasks
from bench.diagnosis.nets import Knobs, factory
from bench.diagnosis.tasks import Task

RECIPES: dict[str, dict[str, Any]] = {
    "digits/mlp/sgd": {"lr": 0.1, "epochs": 15},
    "digits/mlp-custom/adam": {"lr": 3e-3, "epochs": 10},
    "digits/mlp-custom/momentum": {"lr": 0.02, "epochs": 12},
    "wine/mlp/rmsprop": {"lr": 1e-3, "epochs": 60},
    "wine/mlp-custom/sgd": {"lr": 0.1, "epochs": 60},
    "cancer/mlp/adam": {"lr": 3e-3, "epochs": 20},
    "cancer/mlp-custom/sgd": {"lr": 0.1, "epochs": 30},
    "diabetes/mlp/sgd": {"lr": 0.02, "epochs": 30},
    "diabetes/mlp-custom/adam": {"lr": 1e-3, "epochs": 25},
    "friedman/mlp/adam": {"lr": 3e-3, "epochs": 25},
    "friedman/mlp-custom/momentum": {"lr": 0.01, "epochs": 30},
    "moons/mlp/sgd": {"lr": 0.3, "epochs": 40},
    "moons/mlp-custom/adam": {"lr": 1e-2, "epochs": 25},
    "many-moons/mlp/adam": {"lr": 3e-3, "epochs": 6},
    "circles/mlp/momentum": {"lr": 0.05, "epochs": 20},
    "circles/mlp-custom/adam": {"lr": 1e-2, "epochs": 20},
    "product/mlp/adam": {"lr": 1e-2, "epochs": 15},
    "product/mlp-custom/momentum": {"lr": 0.03, "epochs": 25},
    "labels/mlp/adam": {"lr": 3e-3, "epochs": 20},
    "labels/mlp-custom/momentum": {"lr": 0.2, "epochs": 20},
    "table/mlp/momentum": {"lr": 0.02, "epochs": 10},
    "table/mlp-custom/adamw": {"lr": 3e-3, "epochs": 8},
    "images/cnn/adam": {"lr": 3e-3, "epochs": 10},
    "images/cnn-custom/sgd": {"lr": 0.1, "epochs": 15},
    "rows/rnn/adam": {"lr": 3e-3, "epochs": 12},
    "rows/gru-custom/momentum": {"lr": 0.05, "epochs": 12},
    "rows/lstm/rmsprop": {"lr": 3e-3, "epochs": 10},
    "rows/attention-custom/adam": {"lr": 3e-3, "epochs": 10},
    "motifs/attention/adam": {"lr": 3e-3, "epochs": 10},
    "motifs/gru/adam": {"lr": 5e-3, "epochs": 7},
    "motifs/lstm-custom/adam": {"lr": 1e-2, "epochs": 7},
    "adding/gru/adam": {"lr": 1e-2, "epochs": 7},
    "adding/rnn-custom/rmsprop": {"lr": 3e-3, "epochs": 20},
    "adding-far/gru/adam": {"lr": 1e-2, "epochs": 10},
    "adding-far/gru-custom/adam": {"lr": 1e-2, "epochs": 10},
}
"""Task / model / optimizer to what they are trained with; a momentum of 0.9, 64 examples a step."""

OPTIMIZERS: dict[str, dict[str, Any]] = {"momentum": {"optimizer": "sgd", "momentum": 0.9}}


@dataclass(frozen=True)
class Base:
    """One combination at one seed."""

    name: str
    seed: int

    @property
    def parts(self) -> tuple[str, str, str]:
        """Task, model, optimizer."""
        one, two, three = self.name.split("/")
        return one, two, three

    @property
    def stream(self) -> int:
        """What draws the data split and the run: shared by no other task, model and seed."""
        return stream(*self.parts[:2], self.seed)

    @property
    def task(self) -> Task:
        return tasks.task(self.parts[0], self.stream)

    @property
    def net(self) -> str:
        return self.parts[1]

    @property
    def custom(self) -> bool:
        return self.net.endswith("custom")

    @property
    def recipe(self) -> ds.Recipe:
        method = self.parts[2]
        how = OPTIMIZERS.get(method, {"optimizer": method})
        return ds.Recipe(**how, **RECIPES[self.name], batch_size=64, seed=self.stream)

    def problem(
        self, task: Task | None = None, *, net: str = "", model: Any = None, objective: Any = None,
        metric: Any = None, **knobs: Any,
    ) -> ds.Problem:  # fmt: skip
        """The healthy problem, with other data, model or objective where they are given."""
        task = task or self.task
        made = model or factory(net or self.net, task, dataclasses.replace(Knobs(), **knobs))
        return ds.Problem(
            model=made, objective=objective or task.objective, train=task.train, valid=task.valid,
            metric=metric or task.metric, name=task.name,
        )  # fmt: skip


def stream(task: str, net: str, seed: int) -> int:
    """A number of its own for every task, model and seed; its lowest bit is the half."""
    return zlib.crc32(f"{task}/{net}/{seed}".encode()) % 2**20


def half(number: int) -> str:
    """The half of the bench that a stream belongs to."""
    return ("calibrate", "report")[number & 1]


def names(*, task: str = "", net: str = "", method: str = "", asks: str = "") -> tuple[str, ...]:
    """The combinations whose parts are among these words; all of them where a part is left out.

    >>> names(task="moons wine", net="mlp")
    ('wine/mlp/rmsprop', 'moons/mlp/sgd')
    """
    wanted = [each.split() for each in (task, net, method)]
    found = [
        name
        for name in RECIPES
        if all(not words or part in words for words, part in zip(wanted, name.split("/"), strict=True))
    ]
    return tuple(name for name in found if not asks or ASKS[name.split("/")[0]] in asks.split())


ASKS = {
    "digits": "classes", "images": "classes", "rows": "classes", "wine": "classes", "table": "classes",
    "motifs": "classes", "cancer": "binary", "moons": "binary", "labels": "labels",
    "diabetes": "regression", "friedman": "regression", "adding": "regression", "adding-far": "regression",
    "many-moons": "binary", "circles": "binary", "product": "regression",
}  # fmt: skip
"""What each task asks; known without drawing its data."""
