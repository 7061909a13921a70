"""Pictures of chapter 10: equal units, histograms layer by layer, the variance over depth, width transfer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib import pyplot as plt
from torch import nn

import downslope as ds
from downslope.init import Measured
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save


def _digits(**arguments: Any) -> ds.Problem:
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model="mlp",
        objective="cross_entropy",
        train=digits.train,
        valid=digits.valid,
        metric="accuracy",
        arguments=arguments,
    )


def copies(width: int, seed: int = 1) -> nn.Module:
    """One random hidden unit in `width` equal copies, which share its outgoing weights."""
    generator = torch.Generator().manual_seed(seed)
    unit, out = torch.randn(64, generator=generator) / 8, torch.randn(10, generator=generator)
    model = ds.models.mlp(64, 10, width=width, depth=1, activation="tanh")
    with torch.no_grad():
        model[1].weight.copy_(unit.expand(width, -1))
        model[3].weight.copy_((out / width).unsqueeze(1).expand(-1, width))
        model[1].bias.zero_()
        model[3].bias.zero_()
    return model


def symmetry() -> Path:
    """A weight of every hidden unit over the steps; what 32 equal and 32 random units reach."""
    figure, (alike, apart, costs) = panels(3, height=3.2)
    random = _digits(width=8, depth=1, activation="tanh")
    equal = random.edit(model=copies, arguments={"width": 8})
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY, "#56b4e9", "#b58900")
    for axis, problem, init, title in (
        (alike, equal, None, "8 units that start equal"),
        (apart, random, "auto", "8 units drawn at random"),
    ):
        weights: list[Any] = []
        watched = problem.edit(constraint=_keep(weights))
        recipe = ds.Recipe(optimizer="sgd", lr=0.5, batch_size="full", steps=120, init=init)
        ds.fit(watched, recipe, folder=False, progress=False)
        values = torch.stack(weights)
        for unit, colour in enumerate(colours):
            width = 1.7 if init else 6.6 - 0.8 * unit
            axis.plot(values[:, unit], color=colour, lw=width, solid_capstyle="round")
        axis.set(title=title, xlabel="step", ylabel="one weight of each unit", ylim=(-0.75, 1.15))
    lr, n = 0.1, 32
    recipe = ds.Recipe(optimizer="sgd", lr=lr, epochs=25)
    one = [{"params": "3.weight", "lr": lr * n}, {"params": ["1.weight", "1.bias"], "lr": lr / n}]
    for label, problem, how, colour, style in (
        ("32 equal units", equal.edit(arguments={"width": n}), recipe, ORANGE, "-"),
        ("a single unit", equal.edit(arguments={"width": 1}), recipe.edit(groups=one), "#30343b", ":"),
        ("32 random units", random.edit(**{"model.width": n}), recipe.edit(init="auto"), BLUE, "-"),
    ):
        run = ds.fit(problem, how, folder=False, progress=False)
        series = run.history.series("train_epoch_loss")
        costs.plot(series.steps[1:], series.values[1:], style, color=colour, label=label, lw=2.4)
    costs.set(title="What they are worth", xlabel="step", ylabel="training loss", ylim=(0, 2.45))
    costs.legend(loc="center right", bbox_to_anchor=(1.0, 0.52))
    return save(figure, "symmetry")


def _keep(weights: list[Any]) -> Callable[[nn.Module], None]:
    """Called with the model after every step: notes the weights from one pixel of the middle."""

    def constraint(model: nn.Module) -> None:
        weights.append(model[1].weight[:, 36].detach().clone())

    return constraint


FORMS: dict[str, Any] = {
    "too small: N(0, 0.01²)": {"name": "normal", "std": 0.01},
    "Xavier, 1/n_in": "lecun",
    "Xavier, 2/(n_in + n_out)": "xavier",
    "He, 2/n_in": "he",
    "too large: N(0, 0.3²)": {"name": "normal", "std": 0.3},
}
WIDTHS = (800, 400, 200, 100, 50)
"""A network that tapers, in which the two forms of Xavier differ."""


def tapering(activation: str = "tanh", norm: bool = False) -> nn.Module:
    """64 pixels, five hidden layers of halving width, ten classes."""
    layers: list[nn.Module] = [nn.Flatten()]
    before = 64
    for width in WIDTHS:
        layers += [nn.Linear(before, width), *([nn.BatchNorm1d(width)] if norm else [])]
        layers.append(nn.Tanh() if activation == "tanh" else nn.ReLU())
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


def _measured() -> dict[tuple[str, bool], list[Measured]]:
    """Row (activation, batch norm) to one measurement for each form."""
    digits = ds.data.digits(scale=16)
    centred = (2 * (digits.train[0] - digits.train[0].mean()), digits.train[1])
    found: dict[tuple[str, bool], list[Measured]] = {}
    for activation in ("tanh", "relu"):
        for norm in (False, True):
            problem = ds.Problem(
                model=tapering,
                objective="cross_entropy",
                train=centred,
                arguments={"activation": activation, "norm": norm},
            )
            found[activation, norm] = [
                ds.init.measure(problem, init=init, examples=1000) for init in FORMS.values()
            ]
    return found


_NOTE: dict[str, Any] = {"fontsize": 6.8, "color": "#5b616b"}


def _ridges(
    axis: Any, rows: list[Any], span: tuple[float, float], *, log: bool, tones: Any, notes: list[str]
) -> None:
    """One filled histogram a layer, the first at the top; what stands beside each at its right."""
    for place, (held, note) in enumerate(zip(rows, notes, strict=True)):
        density, edges = held.histogram(32 if not log else 27, span, log=log)
        middles = (edges[:-1] + edges[1:]) / 2
        base, tone = len(rows) - 1 - place, tones(0.35 + 0.55 * place / max(1, len(rows) - 1))
        there = np.flatnonzero(density > 0.004 * density.max())
        if len(there):
            cut = slice(there[0], there[-1] + 1)
            x, y = middles[cut], base + 0.95 * density[cut] / density.max()
            axis.fill([x[0], *x, x[-1]], [base, *y, base], color=tone, lw=0)
        if place in (0, len(rows) - 1):
            axis.text(1.03, base + 0.12, note, transform=axis.get_yaxis_transform(), **_NOTE)
    axis.set(xlim=span, ylim=(-0.12, len(rows) + 0.1), yticks=[])
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.tick_params(labelsize=7, length=2)


def _said(value: float) -> str:
    if value < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _grid(name: str, draw: Callable[[Any, str, Measured], None]) -> Path:
    plt.close(panels(1)[0])  # it sets the style
    figure, axes = plt.subplots(4, len(FORMS), figsize=(10.8, 8.4))
    words = {("tanh", False): "tanh", ("tanh", True): "tanh, batch norm", ("relu", False): "ReLU",
             ("relu", True): "ReLU, batch norm"}  # fmt: skip
    for place, ((activation, norm), starts) in enumerate(_measured().items()):
        for axis, start, form in zip(axes[place], starts, FORMS, strict=True):
            draw(axis, activation, start)
            axis.tick_params(labelbottom=norm)
            if not place:
                axis.set_title(form, fontsize=8.4, pad=10)
        axes[place][0].set_ylabel(words[activation, norm], fontsize=9.5, fontweight="bold", labelpad=8)
    return save(figure, name)


def init_activations() -> Path:
    """What each of five layers hands on, for five starts, tanh and ReLU, without and with batch norm."""

    def draw(axis: Any, activation: str, start: Measured) -> None:
        layers = start.layers[:-1]
        rows = [each.after for each in layers]
        if activation == "tanh":
            _ridges(axis, rows, (-1.04, 1.04), log=False, tones=colormaps["GnBu"],
                    notes=[_said(each.std) for each in rows])  # fmt: skip
            axis.set_xticks([-1, 0, 1])
        else:
            _ridges(axis, rows, (-6.5, 3), log=True, tones=colormaps["OrRd"],
                    notes=[_said(each.std) for each in rows])  # fmt: skip
            axis.set_xticks([-6, -2, 2], ["$10^{-6}$", "$10^{-2}$", "$10^{2}$"])

    return _grid("init-activations", draw)


def init_gradients() -> Path:
    """The gradient that each of five layers gets, in powers of ten, for the same starts."""

    def draw(axis: Any, activation: str, start: Measured) -> None:
        rows = [each.gradient for each in start.layers[:-1]]
        tones = colormaps["GnBu" if activation == "tanh" else "OrRd"]
        _ridges(axis, rows, (-11.5, 0.2), log=True, tones=tones, notes=[_said(each.std) for each in rows])
        axis.set_xticks([-10, -6, -2], ["$10^{-10}$", "$10^{-6}$", "$10^{-2}$"])

    return _grid("init-gradients", draw)


DEPTH = 50
"""Layers of 256 units between the pixels and the classes."""


def init_variance() -> Path:
    """The size of the signal and of its gradient over 50 layers, beside what the theory says."""
    figure, (tanh, relu, back) = panels(3, height=3.5, width=10.4)
    styles = {
        "N(0, 0.01²)": ({"name": "normal", "std": 0.01}, GREY),
        "1/n: LeCun, Xavier": ("lecun", BLUE),
        "2/n: He": ("he", RED),
        "LSUV": ("lsuv", GREEN),
        "N(0, 0.15²)": ({"name": "normal", "std": 0.15}, PURPLE),
    }
    for axis, activation in ((tanh, "tanh"), (relu, "relu")):
        problem = _digits(width=256, depth=DEPTH, activation=activation)
        for label, (init, colour) in styles.items():
            layers = ds.init.measure(problem, init=init, examples=256).layers[1:-1]
            axis.plot([each.output.rms for each in layers], color=colour, label=label, lw=1.9)
            if axis is relu and label != "LSUV":
                back.plot([each.gradient.rms for each in layers], color=colour, lw=1.9)
    k, first = np.arange(DEPTH - 1), relu.lines[1].get_ydata()[0]
    relu.plot(k, first * 0.5 ** (k / 2), ":", color="#30343b", lw=1.4, label="variance halved each layer")
    for axis, title in ((tanh, "tanh: size of z"), (relu, "ReLU: size of z"), (back, "ReLU: size of ∂J/∂z")):
        axis.set(title=title, xlabel="layer", yscale="log")
    tanh.set_ylim(2e-3, 6)
    relu.set_ylim(1e-10, 1e6)
    back.set_ylim(1e-16, 1e4)
    tanh.legend(*relu.get_legend_handles_labels(), loc="lower right", fontsize=8)
    return save(figure, "init-variance")


def mup() -> Path:
    """The training loss over the learning rate for three widths: one rate for all, and muP's rates."""
    figure, axes = panels(2, height=3.5, width=9.0, sharey=True)
    rates = [2.0**k for k in range(-11, 0)]
    tones = dict(zip((32, 128, 512), ("#7fb3d9", BLUE, "#003a5d"), strict=True))
    for axis, title in zip(axes, ("One rate for all layers", "muP, base width 32"), strict=True):
        for width, tone in tones.items():
            problem = _digits(width=width, depth=3)
            losses = np.array([_reached(problem, lr, mup=axis is axes[1]) for lr in rates])
            middle = np.exp(np.log(losses).mean(1))
            axis.fill_between(rates, losses.min(1), losses.max(1), color=tone, alpha=0.16, lw=0)
            axis.plot(rates, middle, color=tone, label=f"width {width}")
            axis.plot(rates[int(middle.argmin())], middle.min(), "o", color=tone, ms=7)
        axis.set(title=title, xlabel="learning rate", xscale="log", yscale="log")
        axis.set_xticks([2.0**k for k in range(-11, 0, 2)], [f"$2^{{{k}}}$" for k in range(-11, 0, 2)])
        axis.minorticks_off()
    axes[0].set_ylabel("training loss after 60 steps")
    axes[1].legend(loc="lower left")
    return save(figure, "mup")


def _reached(problem: ds.Problem, lr: float, *, mup: bool) -> list[float]:
    """The loss of three seeds."""
    recipe = ds.Recipe(optimizer="adam", lr=lr, steps=60, batch_size=128, init="auto", schedule="cosine")
    recipe = ds.init.mup_recipe(problem, recipe, {"width": 32}) if mup else recipe
    runs = ds.fit_population(problem, recipe, seeds=range(3), progress=False)
    return [min(float(run.summary["train_loss"]), 4.0) for run in runs]
