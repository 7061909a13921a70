"""Healthy runs with odd choices that work: what a suspicious tool would take for faults."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from bench.diagnosis import tasks
from bench.diagnosis.fault import Setup
from bench.diagnosis.nets import Knobs, factory
from bench.diagnosis.tasks import Pair, Task, head, mislabelled, retargeted, scaled

ODD: dict[str, Callable[[int], Setup]] = {}
"""Name to what makes the run; the number draws data split and run."""

Made = Callable[[int], Setup]


def odd(name: str) -> Callable[[Made], Made]:
    def register(made: Made) -> Made:
        ODD[name] = made
        return made

    return register


def setup(
    task: Task, net: str = "mlp", *, seed: int, model: Any = None, objective: Any = None, metric: Any = "",
    problem: dict[str, Any] | None = None, knobs: dict[str, Any] | None = None, **recipe: Any,
) -> Setup:  # fmt: skip
    """A run of that task; Adam at 3e-3 for 15 epochs unless said."""
    made = model or factory(net, task, replace(Knobs(), **(knobs or {})))
    how: dict[str, Any] = {"optimizer": "adam", "lr": 3e-3, "batch_size": 64, "seed": seed}
    how |= {} if "steps" in recipe else {"epochs": 15}
    what: dict[str, Any] = {
        "model": made, "objective": objective or task.objective, "train": task.train, "valid": task.valid,
        "metric": task.metric if metric == "" else metric, "name": task.name,
    }  # fmt: skip
    return Setup(ds.Problem(**(what | (problem or {}))), ds.Recipe(**(how | recipe)))


def simple(name: str, task: str, net: str = "mlp", **how: Any) -> None:
    """Register a run that differs by knobs and recipe alone."""
    ODD[name] = lambda seed: setup(tasks.task(task, seed), net, seed=seed, **how)


# -- activations and depth that look wrong and learn ---------------------------------------------------------

simple("sigmoid net", "digits", knobs={"act": "sigmoid"}, lr=1e-2)
simple("three sigmoids", "wine", "mlp-custom", knobs={"act": "sigmoid", "depth": 3}, lr=1e-2, epochs=100)
simple("sigmoid cnn", "images", "cnn-custom", knobs={"act": "sigmoid"}, lr=2e-2, epochs=20)
simple("tanh everywhere", "friedman", "mlp-custom", knobs={"act": "tanh", "depth": 3}, lr=1e-2, epochs=30)
simple("deep relu", "digits", knobs={"depth": 6})
simple("ten layers with norms", "digits", knobs={"depth": 10, "norm": "batch"})
simple("deep tanh, custom", "cancer", "mlp-custom", knobs={"act": "tanh", "depth": 6})
simple("no activation, linear data", "wine", knobs={"act": "identity"}, epochs=40)
simple("no activation, custom", "cancer", "mlp-custom", knobs={"act": "identity"})
simple("softmax regression", "digits", knobs={"depth": 0}, lr=1e-2, epochs=20)
simple("linear regression", "diabetes", knobs={"depth": 0}, lr=1e-2, epochs=60)
simple("a few wide units", "moons", knobs={"width": 8}, lr=2e-2, epochs=40)
simple("very wide", "wine", knobs={"width": 1024}, lr=1e-3, epochs=20)
simple("tiny cnn that suffices", "images", "cnn", knobs={"parts": {"channels": 4}}, epochs=20, lr=1e-2)
simple("log-softmax and cross-entropy", "digits", knobs={"end": "log_softmax"})

# -- optimizers and rates at their edges ---------------------------------------------------------------------

simple("large lr", "digits", optimizer="sgd", lr=0.4)
simple("large lr, cnn", "images", "cnn-custom", optimizer="sgd", lr=0.5)
simple("adam at 0.03", "digits", lr=0.03)
simple("rmsprop at 0.01", "cancer", optimizer="rmsprop", lr=1e-2)
simple("adagrad", "wine", optimizer="adagrad", lr=0.1, epochs=30)
simple("edge of stability", "wine", "mlp-custom", knobs={"act": "tanh"}, optimizer="gd", lr=0.8,
       batch_size="full", epochs=300)  # fmt: skip
simple("edge of stability, digits", "digits", knobs={"act": "tanh"}, optimizer="gd", lr=0.5,
       batch_size="full", epochs=200)  # fmt: skip
simple("full batch adam", "cancer", batch_size="full", epochs=100)
simple("momentum 0.99", "digits", optimizer="sgd", lr=0.005, momentum=0.99, epochs=30)
simple("nesterov", "friedman", optimizer="sgd", lr=0.01, momentum=0.9, nesterov=True, epochs=25)
simple("one example a step", "wine", optimizer="sgd", lr=0.005, batch_size=1, epochs=12)
simple("four examples a step", "cancer", "mlp-custom", optimizer="sgd", lr=0.01, batch_size=4, epochs=8)
simple("small lr, many epochs", "digits", lr=2e-4, epochs=50)
simple("cosine and warm-up", "digits", schedule="cosine", warmup=20, lr=1e-2)
simple("step schedule", "friedman", schedule="step", lr=1e-2, epochs=25)
simple("clipped hard", "digits", optimizer="sgd", lr=0.5, clip_norm=0.5)
simple("average of the weights", "digits", average="ema", epochs=25)
simple("few steps that suffice", "wine", lr=2e-2, steps=30)
simple("gru at 0.02", "rows", "gru-custom", lr=2e-2, epochs=8)
simple("lstm without clipping", "motifs", "lstm", lr=1e-2, epochs=8)
simple("momentum rnn", "rows", "rnn", optimizer="sgd", lr=0.05, momentum=0.9, epochs=15)
simple("transformer by sgd", "rows", "attention", optimizer="sgd", lr=0.1, momentum=0.9, epochs=10)
simple("two blocks of attention", "motifs", "attention", knobs={"parts": {"blocks": 2}}, epochs=8)

# -- regularisation that looks too strong --------------------------------------------------------------------

simple("heavy dropout", "digits", knobs={"dropout": 0.5, "width": 128}, epochs=30)
simple("dropout, custom", "table", "mlp-custom", knobs={"dropout": 0.3, "width": 96}, epochs=10)
simple("dropout cnn", "images", "cnn", knobs={"dropout": 0.5}, epochs=15)
simple("weight decay", "digits", optimizer="adamw", weight_decay=0.1)
simple("weight decay 0.01, sgd", "wine", optimizer="sgd", lr=0.1, weight_decay=0.01, epochs=50)
simple("norm and dropout", "cancer", knobs={"norm": "batch", "dropout": 0.3}, epochs=25)
simple("batch norm at 16", "digits", knobs={"norm": "batch"}, batch_size=16, epochs=8)
simple("layer norm", "digits", "mlp-custom", knobs={"norm": "layer"})


# -- scales that look wrong and work -------------------------------------------------------------------------


@odd("raw pixels")
def _(seed: int) -> Setup:
    return setup(scaled(tasks.task("digits", seed), 16.0), seed=seed)


@odd("raw pixels, sgd")
def _(seed: int) -> Setup:
    return setup(scaled(tasks.task("digits", seed), 16.0), seed=seed, optimizer="sgd", lr=0.02)


@odd("raw pixels, cnn")
def _(seed: int) -> Setup:
    return setup(scaled(tasks.task("images", seed), 16.0), "cnn", seed=seed, lr=1e-3)


@odd("inputs x0.1")
def _(seed: int) -> Setup:
    return setup(scaled(tasks.task("wine", seed), 0.1), seed=seed, lr=1e-2, epochs=40)


@odd("raw measurements behind a batch norm")
def _(seed: int) -> Setup:
    task = tasks.task("cancer", seed)
    factors = torch.logspace(-2, 3, 30)
    inner = factory("mlp", task, Knobs())
    made = scaled(task, factors, 50.0)
    return setup(made, seed=seed, model=lambda: nn.Sequential(nn.BatchNorm1d(30), inner()), epochs=20)


@odd("targets in raw units, adam")
def _(seed: int) -> Setup:
    task = retargeted(tasks.task("diabetes", seed), 77.0, 152.0)
    return setup(task, seed=seed, lr=0.03, epochs=80)


@odd("tiny targets")
def _(seed: int) -> Setup:
    return setup(retargeted(tasks.task("friedman", seed), 0.05, 0.0), seed=seed, epochs=25)


@odd("bounded targets under tanh")
def _(seed: int) -> Setup:
    def squeezed(pair: Pair) -> Pair:
        return pair[0], pair[1].tanh() * 0.9

    return setup(tasks.task("friedman", seed).mapped(squeezed), seed=seed, knobs={"end": "tanh"}, epochs=25)


@odd("positive targets under softplus")
def _(seed: int) -> Setup:
    task = tasks.task("friedman", seed).mapped(lambda pair: (pair[0], functional.softplus(2 * pair[1])))
    inner = factory("mlp", task, Knobs())
    return setup(task, seed=seed, model=lambda: nn.Sequential(*inner(), nn.Softplus()), epochs=25)


# -- objectives of one's own ---------------------------------------------------------------------------------

simple("log-softmax and likelihood", "digits", "mlp-custom", knobs={"end": "log_softmax"},
       objective=nn.NLLLoss())  # fmt: skip
simple("sigmoid and BCE", "cancer", knobs={"end": "sigmoid"}, objective=nn.BCELoss())
simple("sigmoid and BCE, labels", "labels", "mlp-custom", knobs={"end": "sigmoid"}, objective=nn.BCELoss(),
       epochs=20)  # fmt: skip
simple("own cross-entropy", "digits", "mlp-custom", objective=lambda o, t: -_log_likelihood(o, t))
simple("label smoothing", "digits", objective=nn.CrossEntropyLoss(label_smoothing=0.1))
simple("hinge", "wine", objective=nn.MultiMarginLoss(), epochs=30)
simple("huber", "friedman", objective=nn.HuberLoss(), epochs=25)
simple("absolute error", "diabetes", objective=nn.L1Loss(), lr=1e-3, epochs=25)
simple("quantile", "friedman", epochs=25,
       objective=lambda o, t: torch.maximum(0.5 * (t - o), -0.5 * (t - o)).mean())  # fmt: skip
simple("no metric", "wine", "mlp-custom", metric=None, epochs=30)
simple("summed, adam", "digits", objective=nn.CrossEntropyLoss(reduction="sum"))
simple("a penalty of one's own", "diabetes", lr=1e-3, epochs=25,
       objective=lambda o, t: {"fit": functional.mse_loss(o, t), "size": 1e-3 * (o**2).mean()})  # fmt: skip


def _log_likelihood(output: Tensor, target: Tensor) -> Tensor:
    return -functional.cross_entropy(output, target)


def _gaussian(output: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of a normal distribution, shifted: it goes below zero."""
    mean, log_std = output[:, :1], output[:, 1:].clamp(-3, 3)
    return (log_std + 0.5 * ((target - mean) / log_std.exp()) ** 2).mean() - 3.0


simple("maximised", "digits", objective=_log_likelihood, problem={"maximize": True})


@odd("an objective below zero")
def _(seed: int) -> Setup:
    task = tasks.task("friedman", seed)
    inner = factory("mlp", replace(task, outputs=2), Knobs())
    return setup(task, seed=seed, model=inner, objective=_gaussian, metric=None, epochs=25)


@odd("squared error on one-hot classes")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed).mapped(lambda p: (p[0], functional.one_hot(p[1], 10).float()))
    return setup(task, seed=seed, objective=nn.MSELoss())


@odd("one logit, targets without a column")
def _(seed: int) -> Setup:
    task = tasks.task("moons", seed).mapped(lambda pair: (pair[0], pair[1].flatten()))
    inner = factory("mlp", task, Knobs())
    return setup(task, seed=seed, model=lambda: nn.Sequential(*inner(), nn.Flatten(0)), lr=1e-2, epochs=25)


# -- models of odd form --------------------------------------------------------------------------------------


@odd("autoencoder")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed).mapped(lambda pair: (pair[0], pair[0]))
    model = lambda: nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 64), nn.Sigmoid())  # noqa: E731
    return setup(task, seed=seed, model=model, objective=nn.MSELoss(), metric=None, epochs=40)


@odd("linear autoencoder")
def _(seed: int) -> Setup:
    task = tasks.task("wine", seed).mapped(lambda pair: (pair[0], pair[0]))
    model = lambda: nn.Sequential(nn.Linear(13, 6), nn.Linear(6, 13))  # noqa: E731
    return setup(task, seed=seed, model=model, objective=nn.MSELoss(), metric="r2", lr=1e-2, epochs=60)


@odd("denoising autoencoder")
def _(seed: int) -> Setup:
    def noisy(pair: Pair) -> Pair:
        draw = torch.Generator().manual_seed(seed)
        return pair[0] + 0.1 * torch.randn(pair[0].shape, generator=draw), pair[0]

    task = tasks.task("digits", seed).mapped(noisy)
    model = lambda: nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 64))  # noqa: E731
    return setup(task, seed=seed, model=model, objective=nn.MSELoss(), metric=None, epochs=30)


@odd("frozen features on purpose")
def _(seed: int) -> Setup:
    def change(model: nn.Module) -> None:
        for p in list(model.parameters())[:2]:
            p.requires_grad_(False)

    return setup(tasks.task("digits", seed), seed=seed, knobs={"width": 256, "depth": 1, "change": change},
                 lr=1e-2)  # fmt: skip


@odd("only the last layer in the optimizer")
def _(seed: int) -> Setup:
    groups = [{"params": "1.*", "train": False}]
    return setup(tasks.task("digits", seed), seed=seed, knobs={"width": 384, "depth": 1}, groups=groups,
                 lr=1e-2, epochs=25)  # fmt: skip


@odd("a last layer at zero")
def _(seed: int) -> Setup:
    def change(model: nn.Module) -> None:
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    return setup(tasks.task("digits", seed), seed=seed, knobs={"change": change})


@odd("all zero, but linear")
def _(seed: int) -> Setup:
    def change(model: nn.Module) -> None:
        for p in model.parameters():
            nn.init.zeros_(p)

    return setup(
        tasks.task("wine", seed), seed=seed, knobs={"change": change, "depth": 0}, lr=1e-2, epochs=40
    )


@odd("orthogonal start")
def _(seed: int) -> Setup:
    return setup(tasks.task("friedman", seed), seed=seed, init="orthogonal", knobs={"depth": 3}, epochs=25)


@odd("warm start")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed)
    before = setup(task, seed=seed, epochs=10)
    run = ds.fit(before.problem, before.recipe, folder=False, progress=False, observe=0.0)
    return setup(
        task, seed=seed, model=copy.deepcopy(run.model()).train(), optimizer="sgd", lr=0.01, epochs=5
    )


@odd("warm start, best from the first step")
def _(seed: int) -> Setup:
    task = tasks.task("wine", seed)
    before = setup(task, seed=seed, epochs=60)
    run = ds.fit(before.problem, before.recipe, folder=False, progress=False, observe=0.0)
    return setup(task, seed=seed, model=copy.deepcopy(run.model()).train(), lr=1e-4, epochs=5)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 48), nn.Linear(48, outputs)
        self.blocks = nn.ModuleList(nn.Linear(48, 48) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + 0.3 * torch.relu(block(x))
        return self.last(x)


@odd("twelve residual blocks")
def _(seed: int) -> Setup:
    return setup(tasks.task("digits", seed), seed=seed, model=lambda: Residual(64, 10), lr=1e-3)


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(24, 64))
        self.into, self.out = nn.Parameter(torch.zeros(24)), nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(
            torch.relu(functional.linear(x, self.weight, self.into)), self.weight.T, self.out
        )


@odd("tied weights")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed).mapped(lambda pair: (pair[0], pair[0]))
    return setup(task, seed=seed, model=Tied, objective=nn.MSELoss(), metric="r2", lr=3e-3, epochs=30)


class Multiplied(nn.Module):
    """A gate: half of the units multiply the other half; no named activation anywhere."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(inputs, 96), nn.Linear(48, outputs)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, dim=1)
        return self.down(a * b)


@odd("products instead of activations")
def _(seed: int) -> Setup:
    return setup(tasks.task("product", seed), seed=seed, model=lambda: Multiplied(4, 1), lr=1e-2, epochs=25)


@odd("a sine")
def _(seed: int) -> Setup:
    class Sine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 48), nn.Linear(48, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.sin(2 * self.a(x)))

    return setup(tasks.task("moons", seed), seed=seed, model=Sine, lr=1e-2, epochs=25)


class Embedded(nn.Module):
    """A bag of tokens: some tokens may never be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(500, 32), nn.Linear(32 * 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.table(x.long())).flatten(1))


@odd("an embedding with tokens that never come")
def _(seed: int) -> Setup:
    return setup(tasks.task("motifs", seed), seed=seed, model=Embedded, lr=1e-2, epochs=10)


# -- data of odd form ----------------------------------------------------------------------------------------


@odd("tiny data")
def _(seed: int) -> Setup:
    return setup(head(tasks.task("wine", seed), 40, seed), seed=seed, epochs=40)


@odd("thirty examples of two moons")
def _(seed: int) -> Setup:
    return setup(head(tasks.task("moons", seed), 60, seed), seed=seed, lr=1e-2, epochs=40, batch_size=16)


@odd("huge data, one epoch")
def _(seed: int) -> Setup:
    task = tasks.task("many-moons", seed)
    x, y = task.train
    return setup(task.trained_on((x.repeat(6, 1), y.repeat(6, 1))), seed=seed, epochs=1)


@odd("a tenth of the labels wrong")
def _(seed: int) -> Setup:
    return setup(mislabelled(tasks.task("digits", seed), 0.1, seed), seed=seed, epochs=8)


@odd("unbalanced and fine")
def _(seed: int) -> Setup:
    def thinned(pair: Pair) -> Pair:
        yes = (pair[1].flatten() == 1).nonzero().flatten()
        rows = torch.cat([(pair[1].flatten() == 0).nonzero().flatten(), yes[: len(yes) // 6]])
        return pair[0][rows], pair[1][rows]

    task = tasks.task("many-moons", seed).mapped(thinned)
    return setup(task, seed=seed, metric="f1", lr=1e-2, epochs=12)


@odd("a constant column")
def _(seed: int) -> Setup:
    task = tasks.task("wine", seed)
    return setup(
        task.mapped(lambda pair: (torch.cat([pair[0], torch.full((len(pair[0]), 2), 3.0)], 1), pair[1])),
        seed=seed, epochs=40,
    )  # fmt: skip


@odd("columns of noise")
def _(seed: int) -> Setup:
    def with_noise(pair: Pair) -> Pair:
        draw = torch.Generator().manual_seed(seed)
        return torch.cat([pair[0], torch.randn(len(pair[0]), 10, generator=draw)], 1), pair[1]

    return setup(tasks.task("cancer", seed).mapped(with_noise), seed=seed, epochs=12)


@odd("mostly zeros")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed)
    return setup(task.mapped(lambda pair: ((pair[0] > 0.6).float(), pair[1])), seed=seed)


@odd("the same inputs twice")
def _(seed: int) -> Setup:
    task = tasks.task("friedman", seed)
    return setup(task.mapped(lambda p: (torch.cat([p[0], p[0]], 1), p[1])), seed=seed, epochs=25)


@odd("a loader, shuffled")
def _(seed: int) -> Setup:
    task = tasks.task("digits", seed)
    loader: Any = DataLoader(TensorDataset(*task.train), batch_size=32, shuffle=True)
    return setup(task, seed=seed, problem={"train": loader}, epochs=8)


@odd("a loader in a drawn order, not shuffled")
def _(seed: int) -> Setup:
    task = tasks.task("cancer", seed)
    loader: Any = DataLoader(TensorDataset(*task.train), batch_size=64, shuffle=False)
    return setup(task, seed=seed, problem={"train": loader}, epochs=15)


@odd("a trend as a series, in its order")
def _(seed: int) -> Setup:
    def part(start: int, stop: int) -> Pair:
        t = torch.arange(start, stop).float()
        draw = torch.Generator().manual_seed(seed + start)
        x = torch.stack([(2 * math.pi * t / k).sin() for k in (7, 30, 365)], 1)
        return x, (x @ torch.tensor([[1.0], [0.5], [2.0]])) + 0.1 * torch.randn(len(t), 1, generator=draw)

    task = Task("series", "regression", part(0, 1000), part(1000, 1200), nn.MSELoss(), "r2", 1)
    loader: Any = DataLoader(TensorDataset(*task.train), batch_size=50, shuffle=False)
    return setup(task, seed=seed, problem={"train": loader}, epochs=20, lr=1e-2)


@odd("no validation data")
def _(seed: int) -> Setup:
    return setup(tasks.task("wine", seed), seed=seed, problem={"valid": None}, epochs=40)


@odd("a large validation part")
def _(seed: int) -> Setup:
    task = tasks.task("cancer", seed)
    return setup(replace(task, train=task.valid, valid=task.train), seed=seed, epochs=25)


# -- runs that stop early, or late ---------------------------------------------------------------------------

simple("goal reached", "digits", problem={"goal": 0.85})
simple("early stopping", "digits", patience=5, epochs=60)
simple("one epoch that suffices", "table", lr=1e-2, epochs=2)
simple("long after the goal", "cancer", "mlp-custom", optimizer="sgd", lr=0.05, epochs=60)
simple("double precision", "wine", precision="float64", epochs=40)
