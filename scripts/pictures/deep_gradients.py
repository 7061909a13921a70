"""Pictures of chapter 17: the vanishing gradient, walls and clipping, what is left by lag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.models.lasting import LastingLSTM
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, beside, panels, save

DIGITS = ds.data.digits(scale=16)


def vanishing_gradient() -> Path:
    """The gradient by layer before the first step, and the accuracy over the epochs, for five nets."""
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=DIGITS.train, valid=DIGITS.valid, metric="accuracy",
        arguments={"depth": 8, "width": 32},
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="sgd", lr=0.03, momentum=0.9, epochs=10)
    sigmoids = problem.edit(**{"model.activation": "sigmoid"})
    tanhs = problem.edit(**{"model.activation": "tanh"})
    nets: dict[str, tuple[ds.Problem, ds.Recipe, str]] = {
        "sigmoid": (sigmoids, recipe, RED),
        "sigmoid, larger weights": (sigmoids, recipe.edit(init="normal(std=1.0)"), ORANGE),
        "sigmoid, batch norm": (sigmoids.edit(**{"model.norm": "batch"}), recipe, PURPLE),
        "tanh, Xavier": (tanhs, recipe.edit(init="xavier"), GREEN),
        "ReLU, He": (problem, recipe.edit(init="he"), BLUE),
    }
    figure, (layers, epochs) = panels(2, height=3.5)
    for label, (what, how, colour) in nets.items():
        found = ds.init.measure(what, init=how.init or "auto").layers
        linear = [each for each in found if each.kind.startswith("Linear")]
        sizes = [each.weight_gradient.rms for each in linear if each.weight_gradient is not None]
        layers.plot(range(1, 10), sizes, "o-", ms=3.5, color=colour, label=label)
        series = ds.fit(what, how, folder=False, progress=False).history.series("valid_metric")
        epochs.plot(series.steps / 23, series.values, color=colour, label=label)
    layers.plot(range(1, 10), 0.25 ** np.arange(8, -1, -1) * 0.03, ":", color=GREY)
    layers.text(4.2, 4e-6, "a quarter a layer", color=GREY, fontsize=8.5)
    layers.set(title="Gradient of the weights, before the first step", xlabel="layer", yscale="log")
    layers.set_ylabel("root mean square")
    epochs.set(title="The same nets trained", xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    epochs.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1))
    return save(figure, "vanishing-gradient")


class Power(nn.Module):
    """``h <- w h``, thirty times."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.1))

    def forward(self, h: Tensor) -> Tensor:
        """w^30 h."""
        for _ in range(30):
            h = self.w * h
        return h


def cliffs() -> Path:
    """A wall with two runs beside it, both ways to clip a gradient, and a recurrent network."""
    return beside("cliffs", _wall, _arrows, _training, height=3.4)


def _wall(axis: Any) -> None:
    w = np.linspace(0.9, 1.13, 500)
    loss = (w**30 - 0.5) ** 2
    axis.plot(w, loss, color=GREY, lw=1.3)
    problem = ds.Problem(
        model=Power, objective="squared_error", train=(torch.ones(1, 1), torch.full((1, 1), 0.5))
    )
    seen: list[float] = []

    def look(model: nn.Module) -> None:
        seen.append(float(model.get_parameter("w").detach()))

    recipe = ds.Recipe(optimizer="gd", lr=0.003, steps=60, clip_norm=1.0)
    ds.fit(problem.edit(constraint=look), recipe, folder=False, progress=False, observe=0)
    path = np.array([1.1, *seen])
    axis.plot(path, np.maximum((path**30 - 0.5) ** 2, 1e-5), "o-", ms=3, lw=0.8, color=GREEN, label="clipped")
    start = (1.1**30 - 0.5) ** 2
    axis.annotate(
        "", xy=(0.9, start), xytext=(1.099, start), arrowprops={"arrowstyle": "->", "color": RED, "lw": 1.6}
    )
    axis.text(0.912, start * 1.7, "not clipped: to w = −47", color=RED, fontsize=8.5)
    axis.set(title="The wall of w³⁰", xlabel="w", ylabel="loss", yscale="log", ylim=(1e-5, 3e3))
    axis.legend(loc="lower left")


def _arrows(axis: Any) -> None:
    """Of ``(h_T - 1)^2`` with h <- w h + b, eight times from 0: its gradient, clipped both ways."""

    def loss(w: Tensor, b: Tensor) -> Tensor:
        h = torch.zeros_like(w * b)
        for _ in range(8):
            h = w * h + b
        return (h - 1).square()

    across, up = torch.meshgrid(torch.linspace(1.25, 1.45, 90), torch.linspace(0.0, 0.1, 90), indexing="xy")
    height = loss(across, up).clamp_min(1e-3).log10()
    axis.contour(across, up, height, levels=12, colors="#c3c7cf", linewidths=0.8, linestyles="solid")
    here = (1.4, 0.07)
    place = [torch.tensor(value, requires_grad=True) for value in here]
    gradient = torch.stack(torch.autograd.grad(loss(place[0], place[1]), place)).numpy()
    size, most = float(np.hypot(*gradient)), 0.05
    ways = {
        f"−g, 1/{size / 0.075:.0f} of its length": (-gradient * 0.075 / size, RED, 1.2),
        "by norm": (-gradient * most / size, BLUE, 2.4),
        "by value": (-np.clip(gradient, -most, most), ORANGE, 2.4),
    }
    for label, (step, colour, width) in ways.items():
        axis.annotate(
            "", xy=(here[0] + step[0], here[1] + step[1]), xytext=here,
            arrowprops={"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        axis.plot([], [], color=colour, lw=width, label=label)
    axis.plot(*here, "o", color="#1c1f24", ms=4)
    axis.set(title="Two ways to clip", xlabel="w", ylabel="b", xlim=(1.25, 1.45), ylim=(-0.01, 0.125))
    axis.legend(loc="upper left")


def _training(axis: Any) -> None:
    def walled(model: nn.Module) -> None:
        weight = model.get_parameter("cell.weight_hh_l0")
        nn.init.orthogonal_(weight)
        weight.mul_(2.0)

    rows = [(x.reshape(-1, 8, 8), y) for x, y in (DIGITS.train, DIGITS.valid)]
    problem = ds.Problem(
        model="rnn", objective="cross_entropy", train=rows[0], valid=rows[1], metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="sgd", lr=0.15, momentum=0.9, epochs=12, init=walled)
    for label, clip, colour in (
        ("none", {}, RED),
        ("norm 0.3", {"clip_norm": 0.3}, BLUE),
        ("value 0.02", {"clip_value": 0.02}, ORANGE),
    ):
        run = ds.fit(problem, recipe.edit(**clip), folder=False, progress=False)
        series = run.history.series("valid_metric")
        axis.plot(series.steps / 23, series.values, color=colour, label=label)
    axis.set(title="Digits, row by row", xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    axis.legend(loc="lower right", title="clipping", title_fontsize=8.5)


def long_term_dependencies() -> Path:
    """Singular values by lag, for spectral radii and for cells, and the directions that are left."""
    data = ds.data.adding(n=200, steps=50).train
    problem = ds.Problem(model="rnn", objective="squared_error", train=data)
    figure, (radii, cells, left) = panels(3, height=3.4)
    for factor, colour in ((0.8, BLUE), (1.0, GREEN), (1.2, RED)):
        found = ds.lags(problem, problem.build(0, _radius(factor)))
        radii.plot(found.lags, found.largest, color=colour, label=f"{factor:g}")
        radii.plot(found.lags, factor ** np.array(found.lags), ":", lw=1.2, color=colour)
        left.plot(found.lags, found.directions, color=colour, label=f"tanh, radius {factor:g}")
    radii.set(title="By the spectral radius of W", xlabel="lag", yscale="log", ylim=(1e-6, 1e4))
    radii.set_ylabel("largest singular value")
    radii.legend(loc="lower left")
    lstm = problem.edit(model="lstm")
    lasting = lstm.build(0)
    torch.manual_seed(0)
    lasting.cell = LastingLSTM(input_size=2, hidden_size=32, batch_first=True, steps=50)
    models: dict[str, tuple[nn.Module, str]] = {
        "RNN": (problem.build(0), GREY), "LSTM": (lstm.build(0), ORANGE),
        "GRU": (problem.edit(model="gru").build(0), PURPLE), "LSTM, gates open": (lasting, GREEN),
    }  # fmt: skip
    for label, (model, colour) in models.items():
        found = ds.lags(problem, model)
        cells.plot(found.lags, found.largest, color=colour, label=label)
    cells.axhline(1e-3, color=GREY, lw=0.9, ls="--")
    cells.set(title="Cells as they are drawn", xlabel="lag", yscale="log", ylim=(1e-10, 1e2))
    cells.legend(loc="lower left")
    left.set(title="Directions that still count", xlabel="lag", ylabel="of 32", yscale="log", ylim=(0.8, 40))
    left.set_yticks([1, 2, 5, 10, 20], labels=["1", "2", "5", "10", "20"])
    left.minorticks_off()
    left.legend(loc="upper right")
    return save(figure, "long-term-dependencies")


def _radius(factor: float) -> Any:
    def draw(model: nn.Module) -> None:
        weight = model.get_parameter("cell.weight_hh_l0")
        weight.mul_(factor / torch.linalg.eigvals(weight).abs().max())

    return draw
