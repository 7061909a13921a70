"""Pictures of chapter 16 on plateaus and on ill-conditioning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save


class Shut(nn.Module):
    """A linear map behind a sigmoid, or without it, that starts almost shut."""

    def __init__(self, *, sigmoid: bool = True) -> None:
        super().__init__()
        self.layer, self.sigmoid = nn.Linear(2, 1), sigmoid
        nn.init.constant_(self.layer.bias, -8.0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2) to (n,)."""
        z: Tensor = self.layer(x)[:, 0]
        return torch.sigmoid(z) if self.sigmoid else z


def plateaus() -> Path:
    """The loss on its way over a plateau, and what a move could change there."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    data = (x, (x[:, 0] + x[:, 1] > -1).float())
    shut = ds.Problem(model=Shut, objective="squared_error", train=data)
    logit = ds.Problem(model=Shut, objective="logistic", train=data, arguments={"sigmoid": False})
    figure, (losses, changes) = panels(2, height=3.4)
    for problem, colour, label in (
        (shut, BLUE, "squared error of a sigmoid"),
        (logit, GREY, "cross-entropy"),
    ):
        steps, seen = _walk(problem, sigmoid=problem is shut)
        series = ds.fit(problem, _gd(2000), folder=False, progress=False, observe=0).history.series(
            "train_loss"
        )
        losses.plot(series.steps, series.values / series.values[0], color=colour, label=label)
        changes.plot(steps, [_change(each) for each in seen], "o-", ms=3, color=colour)
        if problem is shut:
            _named(changes, steps, seen)
    changes.axhline(0.01, color=RED, lw=1.1, ls="--")
    changes.text(1, 0.0115, "flat below", color=RED, fontsize=8.5)
    losses.set(title="The loss", xlabel="step", xscale="log", ylim=(0, 1.05), ylabel="in the first one")
    losses.legend(loc="lower left")
    changes.set(title="What a move could change", xlabel="step", xscale="log", yscale="log")
    changes.set_ylabel("share of the loss's scale")
    return save(figure, "plateaus")


def _gd(steps: int) -> ds.Recipe:
    return ds.Recipe(optimizer="gd", lr=1.0, steps=steps)


def _walk(problem: ds.Problem, *, sigmoid: bool) -> tuple[list[int], list[Any]]:
    """A survey at steps that are even in their logarithm."""
    steps = [1, 3, 10, 30, 100, 300, 450, 600, 700, 800, 900, 1000, 1200, 1500, 2000]
    kept: list[nn.Module] = []

    def look(model: nn.Module) -> None:
        copied = Shut(sigmoid=sigmoid)
        copied.load_state_dict(model.state_dict())
        kept.append(copied)

    ds.fit(problem.edit(constraint=look), _gd(2001), folder=False, progress=False, observe=0)
    return steps, [ds.survey(problem, kept[step], progress=False) for step in steps]


def _change(found: Any) -> float:
    bend = 0.5 * found.reach**2 * float(found.eigenvalues.abs().max())
    return (found.slope_gain + bend) / found.scale


def _named(axis: Any, steps: list[int], seen: list[Any]) -> None:
    for step, found in zip(steps, seen, strict=True):
        if step in (10, 900):
            axis.annotate(
                found.kind, (step, _change(found)), xytext=(-6, 6), textcoords="offset points", ha="right",
                fontsize=8.5, color=BLUE,
            )  # fmt: skip


def ill_conditioning() -> Path:
    """A step at many rates, a run step by step, and steps against the condition number."""
    figure, (rates, run, bowls) = panels(3, height=3.4)
    digits = ds.data.digits(scale=16)
    net = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train)
    _rates(rates, net)
    _run(run, net)
    _bowls(bowls)
    return save(figure, "ill-conditioning")


def _rates(axis: Any, net: ds.Problem) -> None:
    there = ds.fit(net, ds.Recipe(optimizer="gd", lr=0.5, steps=40), folder=False, progress=False)
    limit = ds.expansion(net, there).limit
    grid = np.linspace(0, 1.35 * limit, 28)
    found = ds.expansion(net, there, lr=list(grid))
    axis.plot(grid, [each.predicted for each in found.steps], color=ORANGE, label="foretold")
    axis.plot(grid, [each.actual for each in found.steps], "o", ms=3.5, color=BLUE, label="happened")
    axis.plot(grid, grid * found.slope, ":", lw=1.2, color=GREY, label="slope alone")
    low = min(each.predicted for each in found.steps)
    axis.axhline(0, color=GREY, lw=0.8)
    axis.axvline(limit, color=RED, lw=1.1, ls="--")
    axis.text(limit * 0.98, 1.8 * low, "2gᵀg/gᵀHg", color=RED, ha="right", fontsize=8.5)
    axis.set(title="One step of a network", xlabel="lr", ylim=(2.2 * low, -1.3 * low))
    axis.set_ylabel("change of the loss")
    axis.legend(loc="upper left")


def _run(axis: Any, net: ds.Problem) -> None:
    lr = 0.5
    seen: list[tuple[float, float]] = []

    def look(model: nn.Module) -> None:
        found = ds.expansion(net, model, lr=lr, examples=1437)
        seen.append((-lr * found.curvature / (2 * found.slope), found.steps[0].actual))

    recipe = ds.Recipe(optimizer="gd", lr=lr, steps=100)
    ds.fit(net.edit(constraint=look), recipe, folder=False, progress=False, observe=0)
    ratio, change = np.array(seen).T
    step, up = np.arange(len(ratio)), change > 0
    axis.axhline(1, color=GREY, lw=0.9, ls="--")
    axis.plot(step, ratio, color="#c3c7cf", lw=0.9)
    axis.plot(step[~up], ratio[~up], "o", ms=3.2, color=BLUE, label="the loss falls")
    axis.plot(step[up], ratio[up], "o", ms=3.2, color=RED, label="the loss rises")
    axis.set(title="Gradient descent, lr 0.5", xlabel="step", ylim=(-0.35, 3.5))
    axis.set_ylabel("lr gᵀHg / 2gᵀg")
    axis.legend(loc="upper left")


def _bowls(axis: Any) -> None:
    """Steps on ``(a^2 + kappa b^2) / 2`` from (1, 1), to a millionth of the loss."""
    kappas = np.array([2.0, 5, 10, 30, 100, 300, 1000, 3000])
    rows: dict[str, list[int]] = {"gradient descent": [], "momentum": [], "Newton": []}
    for kappa in kappas:
        root = kappa**0.5
        rows["gradient descent"].append(_steps(kappa, {"lr": 2 / (1 + kappa)}))
        best = {"lr": 4 / (1 + root) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
        rows["momentum"].append(_steps(kappa, best))
        rows["Newton"].append(1)
    for (label, steps), colour in zip(rows.items(), (BLUE, GREEN, PURPLE), strict=True):
        axis.plot(kappas, steps, "o-", ms=3.5, color=colour, label=label)
    axis.plot(kappas, 3.5 * kappas, ":", lw=1.2, color=GREY)
    axis.plot(kappas, 3.5 * kappas**0.5, ":", lw=1.2, color=GREY)
    axis.text(40, 230, "κ", color=GREY)
    axis.text(1300, 75, "√κ", color=GREY)
    axis.set(title="Steps on a bowl", xlabel="condition number κ", xscale="log", yscale="log")
    axis.legend(loc="upper left")


def _steps(kappa: float, settings: dict[str, float]) -> int:
    place = torch.ones(2, dtype=torch.float64, requires_grad=True)
    bends = torch.tensor([1.0, kappa], dtype=torch.float64)
    optimizer = ds.optim.SGD([place], **settings)
    first = float((bends * place.detach().square()).sum())
    for step in range(1, 100_000):
        optimizer.zero_grad()
        (bends * place.square()).sum().div(2).backward()
        optimizer.step()
        if float((bends * place.detach().square()).sum()) < 1e-6 * first:
            return step
    return 100_000
