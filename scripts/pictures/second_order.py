"""The picture of chapter 18: Newton at a saddle, methods on a convex problem, batches that are too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective
from downslope.terrain.ground import Ground, ModelGround, Piece
from downslope.terrain.ground.halves import ALLOWED, halves
from downslope.terrain.methods import (
    LBFGS,
    Method,
    Newton,
    NewtonCG,
    NonlinearCG,
    SaddleFreeNewton,
    TrustRegion,
)
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, beside


def second_order() -> Path:
    """Paths at a saddle; the gap to the minimum over what was paid; what small batches do."""
    return beside("second-order", _saddle, _convex, _halves, height=3.6, width=12.4)


def saddle(x: Tensor) -> Tensor:
    """A saddle at 0 between two minima at y = -+ sqrt 5."""
    return x[0] ** 2 - x[1] ** 2 + 0.1 * x[1] ** 4


def _path(make: type[Method], steps: int, **settings: Any) -> Any:
    p = nn.Parameter(torch.tensor([1.5, 0.12], dtype=torch.float64))
    method = make([p], **settings)
    points = [p.detach().clone()]
    for _ in range(steps):
        method.step(lambda: saddle(p))
        points.append(p.detach().clone())
    return torch.stack(points).numpy()


def _saddle(axis: Any) -> None:
    x, y = np.meshgrid(np.linspace(-0.9, 1.9, 50), np.linspace(-0.8, 3.0, 50))
    levels = np.linspace(-2.5, 3.5, 12)
    axis.contour(x, y, x**2 - y**2 + 0.1 * y**4, levels=levels, colors="#d5d9e0", linewidths=0.8)
    for label, make, settings, colour in (
        ("Newton as it stands", Newton, {"line_search": None}, RED),
        ("damped", Newton, {}, BLUE),
        ("saddle-free", SaddleFreeNewton, {}, GREEN),
        ("trust region", TrustRegion, {}, ORANGE),
    ):
        points = _path(make, 15, **settings)
        axis.plot(*points.T, "o-", color=colour, markersize=3.2, linewidth=1.4, label=label)
    axis.plot(0, 0, "x", color=RED, markersize=8, markeredgewidth=2)
    axis.annotate("saddle", (0, 0), (-0.75, -0.45), color=RED, fontsize=8.5)
    axis.plot(0, np.sqrt(5), "*", color="#1c1f24", markersize=10)
    axis.annotate("minimum", (0, np.sqrt(5)), (-0.78, 2.28), fontsize=8.5)
    axis.set(title="x² - y² + y⁴/10: who leaves the saddle", xlabel="x", ylabel="y", ylim=(-0.8, 4.1))
    axis.legend(loc="upper right", fontsize=7.8)
    axis.grid(visible=False)


class _Noting(Ground):
    """What a method paid at each look, and how high it stood: a product counts as two gradients."""

    def __init__(self, p: Tensor, f: Any, least: float) -> None:
        super().__init__([(lambda: f(p), 1.0)], [p])
        self.least, self.paid = least, 0.0
        self.seen: list[tuple[float, float]] = []

    def slope(self) -> tuple[float, Tensor]:
        value, gradient = super().slope()
        self.paid += 1
        self.seen.append((self.paid, max(value - self.least, 1e-17)))
        return value, gradient

    def hessian(self) -> Any:
        operator = super().hessian()
        product = operator.product

        def counted(v: Tensor) -> Tensor:
            self.paid += 2
            return product(v)

        operator.product = counted  # type: ignore[method-assign]
        return operator


def _convex(axis: Any) -> None:
    x, y = ds.data.breast_cancer(standardise=True, valid=0.0).train
    lam = 1e-3
    problem = ds.Problem(model="logistic", objective="logistic", train=(x, y))
    least = ds.solve(problem, l2=lam).objective
    inputs, target = x.double(), y.double().reshape(-1)

    def f(p: Tensor) -> Tensor:
        risk = nn.functional.binary_cross_entropy_with_logits(inputs @ p[:-1] + p[-1], target)
        return risk + 0.5 * lam * p[:-1].square().sum()

    for label, make, colour in (
        ("non-linear CG", NonlinearCG, PURPLE),
        ("L-BFGS", LBFGS, BLUE),
        ("Newton-CG", NewtonCG, GREEN),
        ("trust region", TrustRegion, ORANGE),
        ("Newton", Newton, RED),
    ):
        p = nn.Parameter(torch.zeros(inputs.shape[1] + 1, dtype=torch.float64))
        ground, method = _Noting(p, f, least), make([p])
        for _ in range(400):
            method.step(ground)
            if method.last is not None and method.last.converged:
                break
        paid, gaps = np.array(ground.seen).T
        axis.semilogy(paid, np.minimum.accumulate(gaps), color=colour, label=label)
    _first_order(axis, f, inputs.shape[1] + 1, least)
    axis.set(
        title="logistic regression, 31 weights", xlabel="gradients (a product counts as two)",
        ylabel="objective above the minimum", ylim=(1e-16, 2), xlim=(0, 700),
    )  # fmt: skip
    axis.legend(loc="upper right", fontsize=7.8)


def _first_order(axis: Any, f: Any, size: int, least: float) -> None:
    """The best of nine rates."""
    best: list[float] = []
    for rate in np.geomspace(0.05, 12.8, 9):
        p = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        optimizer = ds.optim.Nesterov([p], lr=float(rate), momentum=0.9)
        gaps: list[float] = []
        for _ in range(700):
            optimizer.zero_grad()
            loss = f(p)
            loss.backward()
            gaps.append(loss.item() - least)
            optimizer.step()
        if not best or gaps[-1] < best[-1]:
            best = gaps
    axis.semilogy(range(1, 701, 7), best[::7], color=GREY, linestyle="--", label="Nesterov, best rate")


def _halves(axis: Any) -> None:
    """What 60 steps make of batches of each size, and how far the curvature of two halves differs."""
    digits = ds.data.digits(scale=16)
    settings: dict[str, Any] = {"activation": "tanh", "width": 32}
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train, arguments=settings)
    sizes = [16, 32, 64, 128, 256, 512, 1024]
    for name, label, colour in (("lbfgs", "L-BFGS", BLUE), ("newton_cg", "Newton-CG", GREEN)):
        recipes = [ds.Recipe(optimizer=name, batch_size=size, steps=60) for size in sizes]
        runs = [ds.fit(problem, each, folder=False, progress=False, observe=0) for each in recipes]
        losses = [run.summary["train_loss"] for run in runs]
        axis.loglog(sizes, losses, "o-", color=colour, markersize=4, label=f"{label}: loss after 60 steps")
    axis.set(
        title="digits, MLP: batches too small", xlabel="batch size", ylabel="training loss",
        xticks=sizes, xticklabels=[str(each) for each in sizes], ylim=(4e-4, 3),
    )  # fmt: skip
    axis.minorticks_off()
    start = ds.fit(problem, ds.Recipe(optimizer="lbfgs", steps=10), folder=False, progress=False, observe=0)
    other = axis.twinx()
    other.plot(sizes, [_difference(problem, start.model(), size) for size in sizes], "s--", color=ORANGE,
               markersize=4, label="curvature of two halves differs by")  # fmt: skip
    other.axhline(100 * ALLOWED, color=ORANGE, linewidth=0.8, linestyle=":")
    other.set(ylim=(0, 175))
    other.yaxis.set_major_formatter("{x:.0f} %")
    other.tick_params(colors=ORANGE)
    other.grid(visible=False)
    lines = [*axis.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    axis.legend(lines, [str(line.get_label()) for line in lines], loc="lower left", fontsize=7.6)


def _difference(problem: ds.Problem, model: nn.Module, size: int) -> float:
    """Percent, the mean of twelve draws."""
    x, y = problem.train_source.head(10**6)
    objective = Objective(problem)

    def ground(index: Tensor) -> Ground:
        return ModelGround(model.eval(), objective, [Piece((x[index], y[index]), 1.0)])

    found: list[float] = []
    for draw in range(12):
        index = torch.randperm(len(x), generator=torch.Generator().manual_seed(draw))[:size]
        found.append(halves(ground(index[: size // 2]), ground(index[size // 2 :])).curvature)
    return 100 * float(np.mean(found))
