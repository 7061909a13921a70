"""Batch sizes against the clock: equal passes, rates that are said, losses that are means of those seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError
from downslope.racing.batch_sizes import batch_sizes, binned, rates_of


def _problem() -> ds.Problem:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(60, 3)))
    y = x @ torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)
    return ds.Problem(model=lambda: torch.nn.Linear(3, 1).double(), objective="squared_error", train=(x, y))


def _own(params: Any) -> torch.optim.Optimizer:
    class Own(torch.optim.SGD):
        pass

    return Own(params, lr=0.1)


SGD = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=10, epochs=2)


def test_every_size_makes_the_same_passes_and_the_largest_takes_the_fewest_steps() -> None:
    found = batch_sizes(_problem(), SGD, (1, 10, 40, "full"), rate="same", progress=False)
    assert [each.steps[-1] for each in found.curves] == [120, 12, 4, 2]
    assert [each.epochs[-1] for each in found.curves] == pytest.approx([2, 2, 160 / 60, 2])
    assert all((np.diff(each.seconds) > 0).all() for each in found.curves)


def test_the_loss_of_the_full_batch_is_that_of_gradient_descent_by_hand() -> None:
    own = _problem()
    (found,) = [
        c for c in batch_sizes(own, SGD, (10, "full"), rate="same", progress=False).curves if c.size == "full"
    ]
    x, y = own.train_source.batch  # type: ignore[attr-defined]
    model = own.build(0)
    losses: list[float] = []
    for _ in range(2):
        loss = (model(x) - y).square().mean()
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * p.grad
    assert found.loss == pytest.approx(losses)


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [("sgd", [0.005, 0.05, 0.3]), ("adam", [0.05 / math.sqrt(10), 0.05, 0.05 * math.sqrt(6)])],
)
def test_scaled_rates_follow_the_batch_as_an_edit_of_the_recipe_does(
    optimizer: str, rates: list[float]
) -> None:
    recipe = ds.Recipe(optimizer=optimizer, lr=0.05, batch_size=10, epochs=1)
    found = batch_sizes(_problem(), recipe, (1, 10, "full"), rate="scaled", progress=False)
    assert [each.lr for each in found.curves] == pytest.approx(rates)
    assert "scaled with the batch" in found.table()


def test_a_tuned_rate_is_the_best_of_those_that_all_sizes_have() -> None:
    found = batch_sizes(_problem(), SGD, (10, "full"), rate="tuned", trials=5, progress=False)
    for each in found.curves:
        ends = [
            run.summary["train_loss"] if run.status == "done" else math.inf
            for lr in rates_of(5)
            for run in [
                ds.fit(
                    _problem(), SGD.edit(batch_size=each.size, lr=lr), folder=False, progress=False, observe=0
                )
            ]
        ]
        assert each.lr == rates_of(5)[int(np.argmin(ends))]
    assert "each tuned by 5 runs" in found.table()


def test_a_budget_takes_trials_and_then_steps() -> None:
    found = batch_sizes(_problem(), SGD.edit(epochs=200), (1, "full"), trials=50, seconds=0.5, progress=False)
    assert found.trials < 50
    assert any("do not fit" in note for note in found.notes)
    assert len(found.curves) == 2
    assert found.curves[0].steps[-1] < 200 * 60


def test_bins_hold_the_mean_of_every_loss_once() -> None:
    loss = np.random.default_rng(0).normal(size=1000)
    steps, means = binned(np.arange(1.0, 1001), loss, 20)
    counts = np.diff(np.r_[0, steps])
    assert (counts * means).sum() == pytest.approx(loss.sum())
    assert len(steps) <= 20
    assert steps[-1] == 1000


def test_who_is_ahead_hangs_on_the_clock() -> None:
    found = batch_sizes(_problem(), SGD, (1, "full"), rate="same", progress=False)
    assert found.best_at(0.0) is None
    assert found.best_at(1e9) == 1


@pytest.mark.parametrize(
    ("sizes", "options", "said"),
    [
        ((1,), {}, "give two or more"), ((0, 1), {}, "batch size 0"), ((1, 61), {}, r"in \[1, 60\]"),
        ((1, "half"), {}, "'half'"), ((1, 10), {"rate": "fast"}, "rate='fast'"),
        ((1, 10), {"trials": 0}, "trials=0"),
        ((1, 10), {"rate": "scaled", "recipe": ds.Recipe(optimizer=_own)}, "says none: give lr"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_raced_are_refused(sizes: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        batch_sizes(_problem(), **{"recipe": SGD, "sizes": sizes, "progress": False} | options)
