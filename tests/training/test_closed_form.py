"""The best constant by a formula, against the descent through the objective and against numbers by hand."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.objectives import (
    absolute_error,
    bernoulli,
    categorical,
    cross_entropy,
    hinge,
    logistic,
    meaning,
    squared_error,
)
from downslope.training.facts import constant
from downslope.training.facts.closed_form import closed_form, holds

N = 301
DRAW = torch.Generator().manual_seed(0)
REAL = 150.0 + 40.0 * torch.randn(N, 3, generator=DRAW)
SIGNS = (torch.rand(N, 2, generator=DRAW) < torch.tensor([0.3, 0.8])).float()
CLASS = torch.multinomial(torch.tensor([0.2, 0.5, 0.3]), N, replacement=True, generator=DRAW)
MOSTLY = torch.multinomial(torch.tensor([0.2, 0.7, 0.1]), N, replacement=True, generator=DRAW)
TOKENS = torch.randint(4, (N, 5), generator=DRAW)

CASES: list[tuple[Any, tuple[int, ...], Tensor]] = [
    (squared_error, (3,), REAL),
    (squared_error, (1,), REAL[:, 0]),
    (nn.MSELoss(), (3,), REAL),
    (functional.mse_loss, (3,), REAL),
    (absolute_error, (3,), REAL),
    (absolute_error, (1,), REAL[:300, :1]),
    (nn.L1Loss(), (3,), REAL.round(decimals=-1)),
    (logistic, (2,), SIGNS),
    (nn.BCEWithLogitsLoss(), (2,), SIGNS),
    (bernoulli, (1,), SIGNS[:, 0]),
    (cross_entropy, (3,), CLASS),
    (cross_entropy, (5, 4), TOKENS),
    (nn.CrossEntropyLoss(), (4, 5), TOKENS),
    (categorical, (3,), CLASS),
    (nn.NLLLoss(), (3,), CLASS),
    (hinge, (1,), 2 * SIGNS[:, :1] - 1),
    (hinge, (2,), SIGNS),
    (hinge, (3,), MOSTLY),
    (hinge, (3,), CLASS),
]


def of(objective: Any, target: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda made: objective(made, target)


@pytest.mark.parametrize(
    ("objective", "shape", "target"), CASES, ids=[f"{meaning(each[0]).name}-{each[1]}" for each in CASES]
)
def test_the_formula_is_where_a_descent_through_the_objective_ends(
    objective: Any, shape: tuple[int, ...], target: Tensor
) -> None:
    said, like = meaning(objective), torch.zeros(shape)
    free = closed_form(said.name, said.expects, like, target)
    assert free is not None
    link = constant.LINKS.get(said.expects or "", lambda z: z)
    assert holds(lambda z: objective(link(z).expand(len(target), *shape), target), free, said.name, target)
    value = of(objective, target)
    known = constant.best_row(value, said.expects, like, target, len(target), name=said.name)
    sought = constant.best_row(value, said.expects, like + 0.5, target, len(target))
    assert known is not None
    assert sought is not None
    assert torch.equal(known, link(free))
    by_formula, by_descent = (float(value(row.expand(len(target), *shape))) for row in (known, sought))
    assert by_formula <= by_descent + 1e-6 * abs(by_descent)
    if said.name != "hinge":  # on its kinks a descent stops short
        assert by_formula == pytest.approx(by_descent, rel=2e-3)


@pytest.mark.parametrize("target", [CLASS, MOSTLY], ids=["no majority", "a majority"])
def test_the_hinge_of_classes_is_lowest_where_a_linear_programme_says(target: Tensor) -> None:
    """Minimise mean of t_i with t_i >= 0 and t_i >= 1 + f_c - f_y for every c but y."""
    count, share = 3, torch.bincount(target).double() / N
    rows = [
        [float(k == c) - float(k == y) for k in range(count)] + [-float(k == y) for k in range(count)]
        for y in range(count)
        for c in range(count)
        if c != y
    ]
    bounds = [(None, None)] * count + [(0, None)] * count
    lowest = linprog([0.0] * count + share.tolist(), A_ub=rows, b_ub=[-1.0] * len(rows), bounds=bounds)
    row = closed_form("hinge", "sign", torch.zeros(count), target)
    assert row is not None
    assert float(hinge(row.expand(N, count), target)) == pytest.approx(lowest.fun, abs=1e-6)


def test_the_formulas_are_those_of_the_textbook() -> None:
    def found(objective: Any, like: Tensor, target: Tensor) -> Tensor | None:
        said = meaning(objective)
        return closed_form(said.name, said.expects, like, target)

    three, four = torch.zeros(3), torch.tensor([[1.0], [2.0], [3.0], [10.0]])
    assert torch.equal(found(squared_error, torch.zeros(1), four), torch.tensor([4.0]))
    assert float(found(absolute_error, torch.zeros(1), four)) in (2.0, 3.0)
    ones = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    assert float(found(logistic, torch.zeros(1), ones)) == pytest.approx(math.log(3.0))
    classes = torch.tensor([0, 1, 1, 2])
    assert torch.allclose(found(cross_entropy, three, classes), torch.tensor([0.25, 0.5, 0.25]).log())
    assert torch.equal(found(hinge, three, classes), torch.zeros(3))  # exactly a half is no majority
    assert torch.equal(found(hinge, three, torch.tensor([0, 1, 1])), torch.tensor([0.0, 1.0, 0.0]))
    assert float(found(hinge, torch.zeros(1), torch.tensor([[-1], [-1], [1]]))) == -1.0


@pytest.mark.parametrize("said", ["huber", "a user's own", "weighted", "smoothed"])
def test_what_has_no_formula_or_is_not_quite_the_objective_of_that_name_is_descended(said: str) -> None:
    weight = torch.linspace(0.0, 2.0, N)[:, None].expand(N, 3)
    objective, target, wanted = {
        "huber": ("huber", REAL[:, :1], None),
        "a user's own": (lambda o, y: ((o - y) ** 4).mean() ** 0.25, REAL[:, :1], None),
        "weighted": (
            functools.partial(functional.mse_loss, weight=weight),
            REAL,
            (weight * REAL).sum(0) / weight.sum(0),
        ),
        "smoothed": (
            nn.CrossEntropyLoss(label_smoothing=0.3), CLASS, 0.7 * torch.bincount(CLASS) / N + 0.1,
        ),
    }[said]  # fmt: skip
    found = meaning(objective)
    objective = ds.Problem(model="linear", objective=objective, train=(REAL, target)).objective
    shape = (3,) if said in ("weighted", "smoothed") else (1,)
    row = constant.best_row(
        of(objective, target), found.expects, torch.zeros(shape), target, N, name=found.name
    )
    assert row is not None
    if wanted is not None:
        assert torch.allclose(row.softmax(0) if said == "smoothed" else row, wanted, rtol=1e-3)
    moved = [float(objective((row + step).expand(N, *shape), target)) for step in (-1.0, 0.0, 1.0)]
    assert moved[1] <= min(moved)


def test_targets_that_are_ignored_or_lie_outside_have_no_formula_that_counts_them() -> None:
    padded = torch.where(torch.arange(N) % 3 == 0, -100, CLASS)
    like = torch.zeros(3)
    kept = closed_form("cross_entropy", "logits", like, CLASS[torch.arange(N) % 3 != 0])
    assert torch.equal(closed_form("cross_entropy", "logits", like, padded), kept)
    assert closed_form("cross_entropy", "logits", like, CLASS + 1) is None
    assert closed_form("logistic", "logit", torch.zeros(3), REAL) is None
    assert closed_form("squared_error", "real", torch.zeros(3), {"a": REAL}) is None
    assert closed_form("squared_error", "real", torch.zeros(2), REAL) is None


FITS = {
    "squared_error": "y",
    "absolute_error": "y",
    "huber": "y",
    "hinge": "(y > 30).long()",
}


@pytest.mark.parametrize("objective", FITS)
def test_the_first_fit_of_a_process_does_not_load_torchs_compiler(objective: str, tmp_path: Path) -> None:
    code = (
        "import sys, torch, downslope as ds\n"
        "x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))\n"
        "y = 100 * x[:, :1] ** 3 + 7\n"
        f"train = (x, {FITS[objective]})\n"
        f"problem = ds.Problem(model='linear', objective={objective!r}, train=train)\n"
        "run = ds.fit(problem, ds.Recipe(optimizer='sgd', lr=0.01, epochs=1), folder='run', progress=False)\n"
        "assert run.facts['constant']['loss'] > 0\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
