"""Faults injected into healthy problems, with their healthy twins, and healthy runs with odd but working
choices.

A case is a problem, a recipe, and the symptom that was injected (None for a healthy one). Models come as
modules and as custom forwards with functional activations; tasks are tables and images, regression, two and
ten classes.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.data import breast_cancer, diabetes, digits, wine
from downslope.data.table import Pair, Table


@dataclass
class Case:
    name: str
    problem: ds.Problem
    recipe: ds.Recipe
    symptom: str | None
    """What was injected; None for a healthy case."""
    twin: tuple[ds.Problem, ds.Recipe] | None = None


ACTS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


def modules(
    inputs: int, outputs: int, *, width: int = 48, depth: int = 2, act: str = "relu", end: str = "",
    change: Callable[[nn.Module], None] | None = None, dropout: float = 0.0,
) -> Callable[[], nn.Module]:  # fmt: skip
    def make() -> nn.Module:
        layers: list[nn.Module] = []
        n = inputs
        for _ in range(depth):
            layers += [nn.Linear(n, width), ACTS[act]()]
            layers += [nn.Dropout(dropout)] if dropout else []
            n = width
        layers.append(nn.Linear(n, outputs))
        layers += {"": [], "softmax": [nn.Softmax(1)], "sigmoid": [nn.Sigmoid()], "relu": [nn.ReLU()],
                   "tanh": [nn.Tanh()], "log_softmax": [nn.LogSoftmax(1)]}[end]  # fmt: skip
        model = nn.Sequential(*layers)
        if change is not None:
            change(model)
        return model

    return make


class Functional(nn.Module):
    """A custom forward: nothing but linear layers are modules."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, act: str, end: str) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(width, outputs)
        self.act, self.end = act, end

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = getattr(functional if self.act in ("relu", "gelu") else torch, self.act)(layer(x))
        x = self.head(x)
        if self.end in ("softmax", "log_softmax"):
            return getattr(functional, self.end)(x, dim=1)
        return getattr(torch, self.end)(x) if self.end else x


def functions(
    inputs: int, outputs: int, *, width: int = 48, depth: int = 2, act: str = "relu", end: str = "",
    change: Callable[[nn.Module], None] | None = None,
) -> Callable[[], nn.Module]:  # fmt: skip
    def make() -> nn.Module:
        model = Functional(inputs, outputs, width, depth, act, end)
        if change is not None:
            change(model)
        return model

    return make


class Convolutions(nn.Module):
    """Two convolutions and a linear head, as people write them."""

    def __init__(self, end: str = "") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(64, 10)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = self.head(x.flatten(1))
        return functional.softmax(x, dim=1) if self.end == "softmax" else x


def convolutions(
    inputs: int = 64, outputs: int = 10, *, end: str = "", change: Callable[[nn.Module], None] | None = None
) -> Callable[[], nn.Module]:
    del inputs, outputs

    def make() -> nn.Module:
        model = Convolutions(end)
        if change is not None:
            change(model)
        return model

    return make


# -- what goes wrong in a model ------------------------------------------------------------------------------


def drawn(scale: float) -> Callable[[nn.Module], None]:
    """All weights drawn anew with one deviation, whatever the fan in."""

    def change(model: nn.Module) -> None:
        for p in model.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0.0, scale)
            else:
                nn.init.zeros_(p)

    return change


def alike(model: nn.Module) -> None:
    """Every weight the same."""
    for p in model.parameters():
        nn.init.constant_(p, 0.1)


def dead(model: nn.Module) -> None:
    """Hidden biases far below zero."""
    for name, p in list(model.named_parameters())[:-1]:
        if name.endswith("bias") and not name.startswith("head"):
            nn.init.constant_(p, -20.0)


# -- tasks ---------------------------------------------------------------------------------------------------


@dataclass
class Task:
    name: str
    table: Table
    objective: Any
    metric: str
    inputs: int
    outputs: int
    epochs: int
    makers: tuple[tuple[str, Callable[..., Callable[[], nn.Module]]], ...]
    optimizers: tuple[tuple[str, dict[str, Any]], ...]


SGD = ("sgd", {"optimizer": "sgd", "lr": 0.1})
MOMENTUM = ("momentum", {"optimizer": "sgd", "lr": 0.02, "momentum": 0.9})
ADAM = ("adam", {"optimizer": "adam", "lr": 3e-3})
RMSPROP = ("rmsprop", {"optimizer": "rmsprop", "lr": 1e-3})


def standardised(table: Table) -> Table:
    """Targets with mean 0 and deviation 1."""
    mean, std = table.train[1].mean(), table.train[1].std()

    def apply(pair: Pair) -> Pair:
        return pair[0], ((pair[1] - mean) / std).unsqueeze(1)

    return table._replace(train=apply(table.train), valid=apply(table.valid) if table.valid else None)


def as_column(table: Table) -> Table:
    """Float targets of shape (n, 1), for one logit."""

    def apply(pair: Pair) -> Pair:
        return pair[0], pair[1].float().unsqueeze(1)

    return table._replace(train=apply(table.train), valid=apply(table.valid) if table.valid else None)


def tasks(split: int = 0) -> list[Task]:
    both = (("modules", modules), ("functions", functions))
    ten = nn.CrossEntropyLoss()
    return [
        Task("digits", digits(scale=16.0, seed=split), ten, "accuracy", 64, 10, 20, both,
             (SGD, MOMENTUM, ADAM)),
        Task("images", digits(scale=16.0, images=True, seed=split), ten, "accuracy", 64, 10, 10,
             (("cnn", convolutions),), (SGD, ADAM)),
        Task("cancer", as_column(breast_cancer(standardise=True, seed=split)), nn.BCEWithLogitsLoss(),
             "accuracy",             30, 1, 30, both, (SGD, ADAM)),
        Task("wine", wine(standardise=True, seed=split), "cross_entropy", "accuracy", 13, 3, 60, both,
             (SGD, RMSPROP)),
        Task("diabetes", standardised(diabetes(standardise=True, seed=split)), "mse", "r2", 10, 1, 40, both,
             (("sgd", {"optimizer": "sgd", "lr": 0.02}), ("adam", {"optimizer": "adam", "lr": 1e-3}))),
    ]  # fmt: skip


def problem(task: Task, make: Any, table: Table | None = None, objective: Any = None) -> ds.Problem:
    table = table or task.table
    return ds.Problem(
        model=make, objective=objective or task.objective, train=table.train, valid=table.valid,
        metric=task.metric, name=task.name,
    )  # fmt: skip


def scaled(table: Table, factor: float, offset: float = 0.0) -> Table:
    def apply(pair: Pair) -> Pair:
        return pair[0] * factor + offset, pair[1]

    return table._replace(train=apply(table.train), valid=apply(table.valid) if table.valid else None)


def retargeted(table: Table, factor: float, offset: float) -> Table:
    def apply(pair: Pair) -> Pair:
        return pair[0], pair[1] * factor + offset

    return table._replace(train=apply(table.train), valid=apply(table.valid) if table.valid else None)


def few(table: Table, count: int, share: float = 0.3) -> Table:
    """A few training examples, some with the wrong answer."""
    generator = torch.Generator().manual_seed(0)
    x, y = _head(table, count).train
    wrong = torch.rand(len(y), generator=generator) < share
    shuffled = y[torch.randperm(len(y), generator=generator)]
    return table._replace(train=(x, torch.where(wrong.reshape(-1, *[1] * (y.dim() - 1)), shuffled, y)))


def sick(split: int = 0, seed: int = 0, every: int = 1) -> Iterator[Case]:
    """Every fault that makes sense in every task, model form and optimizer; `every` thins them out."""
    for index, case in enumerate(_sick(split, seed)):
        if index % every == 0:
            yield case


def _sick(split: int, seed: int) -> Iterator[Case]:
    for task in tasks(split):
        for form, maker in task.makers:
            for method, settings in task.optimizers:
                plain = maker(task.inputs, task.outputs)
                recipe = ds.Recipe(**settings, epochs=task.epochs, seed=seed)
                twin = (problem(task, plain), recipe)
                at = f"{task.name}/{form}/{method}"

                def case(
                    name: str, symptom: str, p: ds.Problem, r: ds.Recipe, at: str = at, twin: Any = twin
                ) -> Case:
                    return Case(f"{at}/{name}", p, r, symptom, twin)

                def of(task: Task = task, maker: Any = maker, **changes: Any) -> ds.Problem:
                    return problem(task, maker(task.inputs, task.outputs, **changes))

                lr = settings["lr"]
                yield case(
                    "inputs*255", "unscaled-inputs", problem(task, plain, scaled(task.table, 255.0)), recipe
                )
                yield case("inputs+300", "unscaled-inputs",
                           problem(task, plain, scaled(task.table, 20.0, 300.0)), recipe)  # fmt: skip
                yield case("lr*300", "learning-rate-too-high", twin[0], recipe.edit(lr=lr * 300))
                yield case("lr*3000", "learning-rate-too-high", twin[0], recipe.edit(lr=lr * 3000))
                yield case("lr/1000", "learning-rate-too-low", twin[0], recipe.edit(lr=lr / 1000))
                yield case("lr/10000", "learning-rate-too-low", twin[0], recipe.edit(lr=lr / 10000))
                yield case("init 1e-4", "init-scale", of(change=drawn(1e-4)), recipe)
                yield case("init 3", "init-scale", of(change=drawn(3.0)), recipe)
                yield case("all alike", "symmetric-init", of(change=alike), recipe)
                yield case("biases -20", "dead-units", of(change=dead), recipe)
                if task.name != "images":
                    deep = maker(task.inputs, task.outputs, act="sigmoid", depth=8)
                    yield case("8 sigmoids", "vanishing-gradient", problem(task, deep), recipe)
                if task.outputs > 1:
                    yield case("softmax", "output-activation", of(end="softmax"), recipe)
                if task.outputs == 1 and task.metric == "accuracy":
                    yield case("sigmoid", "output-activation", of(end="sigmoid"), recipe)
                    yield case("relu", "output-activation", of(end="relu"), recipe)
                if task.metric == "r2":
                    yield case("sigmoid", "output-activation", of(end="sigmoid"), recipe)
                    yield case("relu", "output-activation", of(end="relu"), recipe)
                    far = retargeted(task.table, 100.0, 500.0)
                    yield case("targets", "unscaled-targets", problem(task, plain, far), recipe)
                if method in ("adam", "rmsprop") and task.name != "images":
                    small = few(task.table, 150)
                    wide = maker(task.inputs, task.outputs, width=256)
                    long = recipe.edit(epochs=150, batch_size=32, lr=3e-3)
                    yield case("few", "high-variance", problem(task, wide, small), long)


def healthy(split: int = 0, seed: int = 0) -> Iterator[Case]:
    """The twins of all faults: every task, model form and optimizer."""
    for task in tasks(split):
        for form, maker in task.makers:
            for method, settings in task.optimizers:
                for act in ("relu",) if form == "cnn" else ("relu", "tanh"):
                    make = maker(task.inputs, task.outputs, **({} if form == "cnn" else {"act": act}))
                    recipe = ds.Recipe(**settings, epochs=task.epochs, seed=seed)
                    yield Case(f"{task.name}/{form}/{method}/{act}", problem(task, make), recipe, None)


def odd(split: int = 0, seed: int = 0) -> Iterator[Case]:
    """Healthy runs that look like sick ones."""
    t = {task.name: task for task in tasks(split)}
    dig, can, win, dia = t["digits"], t["cancer"], t["wine"], t["diabetes"]

    def case(name: str, p: ds.Problem, **recipe: Any) -> Case:
        base: dict[str, Any] = {"optimizer": "adam", "lr": 3e-3, "epochs": 20, "seed": seed}
        if "steps" in recipe:
            base.pop("epochs")
        return Case(f"odd/{name}", p, ds.Recipe(**(base | recipe)), None)

    raw = digits(seed=split)
    yield case("raw digits", problem(dig, modules(64, 10), raw))
    yield case("raw digits sgd", problem(dig, modules(64, 10), raw), optimizer="sgd", lr=0.02)
    yield case(
        "raw cancer behind a batch norm",
        problem(
            can,
            lambda: nn.Sequential(nn.BatchNorm1d(30), *modules(30, 1)()),
            as_column(breast_cancer(seed=split)),
        ),
    )
    yield case("sigmoid net", problem(dig, modules(64, 10, act="sigmoid")), lr=1e-2)
    yield case("three sigmoids", problem(win, functions(13, 3, act="sigmoid", depth=3)), lr=1e-2, epochs=100)
    yield case("deep relu", problem(dig, modules(64, 10, depth=6)))
    yield case("large lr", problem(dig, modules(64, 10)), optimizer="sgd", lr=0.8)
    yield case(
        "edge of stability",
        problem(win, functions(13, 3, act="tanh")),
        optimizer="gd",
        lr=0.8,
        batch_size="full",
        epochs=400,
    )
    yield case("heavy dropout", problem(dig, modules(64, 10, dropout=0.5, width=128)), epochs=30)
    yield case("small lr, many epochs", problem(dig, modules(64, 10)), lr=2e-4, epochs=60)
    yield case("softmax regression", problem(dig, modules(64, 10, depth=0)), lr=1e-2)
    yield case("linear regression", problem(dia, modules(10, 1, depth=0)), lr=1e-2, epochs=60)
    yield case("weight decay", problem(dig, modules(64, 10)), optimizer="adamw", weight_decay=0.1)
    yield case("cosine and warm-up", problem(dig, modules(64, 10)), schedule="cosine", warmup=20)
    yield case("own objective", problem(dig, functions(64, 10), None, functional.cross_entropy))
    yield case("log-softmax and CE", problem(dig, modules(64, 10, end="log_softmax")))
    yield case("log-softmax and NLL", problem(dig, functions(64, 10, end="log_softmax"), None, nn.NLLLoss()))
    yield case("sigmoid and BCE", problem(can, modules(30, 1, end="sigmoid"), None, nn.BCELoss()))
    yield case("bounded tanh", _bounded(split))
    yield case("autoencoder", _autoencoder(split, dig), epochs=40)
    yield case(
        "negative objective",
        ds.Problem(model=modules(10, 2), objective=_gaussian, train=dia.table.train, valid=dia.table.valid),
        epochs=15,
    )
    yield case(
        "maximised",
        ds.Problem(
            model=modules(13, 3),
            objective=_likelihood,
            maximize=True,
            train=win.table.train,
            valid=win.table.valid,
            metric="accuracy",
        ),
        epochs=60,
    )
    yield case("frozen features", problem(dig, _frozen(64, 10)), lr=1e-2)
    yield case("warm start", problem(dig, _warm(dig)), optimizer="sgd", lr=0.01, epochs=5)
    yield case("tiny data", problem(win, modules(13, 3), _head(win.table, 40)), epochs=60)
    yield case("last layer at zero", problem(dig, modules(64, 10, change=_zero_head)))
    yield case("label noise", problem(dig, modules(64, 10), _mislabelled(dig.table, 0.2)), epochs=10)
    yield case(
        "goal reached",
        ds.Problem(
            model=modules(64, 10),
            objective="cross_entropy",
            train=dig.table.train,
            valid=dig.table.valid,
            metric="accuracy",
            goal=0.85,
        ),
    )
    yield case("early stopping", problem(dig, modules(64, 10)), patience=5, epochs=60)
    yield case(
        "raw targets, adam",
        problem(dia, modules(10, 1), retargeted(dia.table, 77.0, 152.0)),
        lr=0.03,
        epochs=100,
    )
    yield case(
        "layer norm",
        problem(
            dig, lambda: nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))
        ),
    )
    yield case(
        "no validation",
        ds.Problem(model=modules(13, 3), objective="cross_entropy", train=win.table.train),
        epochs=60,
    )
    yield case(
        "mae",
        ds.Problem(model=modules(10, 1), objective="mae", train=dia.table.train, valid=dia.table.valid),
        epochs=60,
    )
    yield case(
        "momentum 0.99", problem(dig, modules(64, 10)), optimizer="sgd", lr=0.005, momentum=0.99, epochs=30
    )


def _bounded(split: int) -> ds.Problem:
    table = standardised(diabetes(standardise=True, seed=split))
    squeezed = table._replace(
        train=(table.train[0], table.train[1].tanh() * 0.9),
        valid=(table.valid[0], table.valid[1].tanh() * 0.9) if table.valid else None,
    )
    return ds.Problem(
        model=modules(10, 1, end="tanh"),
        objective="mse",
        train=squeezed.train,
        valid=squeezed.valid,
        metric="r2",
    )


def _autoencoder(split: int, task: Task) -> ds.Problem:
    del split

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid())

    x, xv = task.table.train[0], (task.table.valid or task.table.train)[0]
    return ds.Problem(model=make, objective="mse", train=(x, x), valid=(xv, xv))


def _gaussian(output: Tensor, target: Tensor) -> Tensor:
    mean, log_std = output[:, :1], output[:, 1:].clamp(-3, 3)
    return (log_std + 0.5 * ((target - mean) / log_std.exp()) ** 2).mean() - 3.0


def _likelihood(output: Tensor, target: Tensor) -> Tensor:
    return -functional.cross_entropy(output, target)


def _frozen(inputs: int, outputs: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = modules(inputs, outputs, width=256)()
        for p in model[0].parameters():  # type: ignore[index]
            p.requires_grad_(False)
        return model

    return make


def _warm(task: Task) -> nn.Module:
    run = ds.fit(
        problem(task, modules(64, 10)),
        ds.Recipe(optimizer="adam", lr=3e-3, epochs=10),
        folder=False,
        progress=False,
    )
    return copy.deepcopy(run.model()).train()


def _head(table: Table, count: int) -> Table:
    order = torch.randperm(len(table.train[0]), generator=torch.Generator().manual_seed(0))[:count]
    return table._replace(train=(table.train[0][order], table.train[1][order]))


def _mislabelled(table: Table, share: float) -> Table:
    generator = torch.Generator().manual_seed(0)

    def apply(pair: Pair) -> Pair:
        wrong = torch.rand(len(pair[1]), generator=generator) < share
        drawn_ = torch.randint(10, (len(pair[1]),), generator=generator)
        return pair[0], torch.where(wrong, drawn_, pair[1])

    return table._replace(train=apply(table.train), valid=apply(table.valid) if table.valid else None)


def _zero_head(model: nn.Module) -> None:
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
