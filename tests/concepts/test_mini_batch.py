"""The stochastic gradient: unbiased, its variance by counting all batches, its error and memory measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import downslope as ds
from downslope.core.loss import Objective
from downslope.training.trial_step import TrialStep

DIGITS = ds.data.digits(scale=16)


def problem(n: int | None = None) -> ds.Problem:
    x, y = DIGITS.train
    return ds.Problem(model=_net, objective="cross_entropy", train=(x[:n].double(), y[:n]))


def _net() -> torch.nn.Module:
    layers = [torch.nn.Linear(64, 6), torch.nn.Tanh(), torch.nn.Linear(6, 10)]
    return torch.nn.Sequential(*layers).double()


def gradient(problem: ds.Problem, batch: tuple[Tensor, ...]) -> Tensor:
    model = problem.build(0)
    value = Objective(problem)(model, batch).value
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("size", [1, 10, 64, 100, 1437])
def test_the_mean_over_the_batches_of_an_epoch_is_the_full_gradient(size: int) -> None:
    """Each by its share of the examples: the last batch of an epoch may be smaller."""
    own = problem(200 if size == 1 else None)
    batches = list(own.train.epoch(size, seed=3, epoch=1))
    mean = sum(len(each[1]) / own.train.size * gradient(own, each) for each in batches)
    torch.testing.assert_close(mean, gradient(own, own.train.batch), rtol=1e-10, atol=1e-13)


def test_over_all_batches_there_are_the_gradient_is_unbiased_and_varies_less_without_replacement() -> None:
    """All 56 batches of 3 out of 8: E|g_B - g|^2 = tr(S) / 3 * (8 - 3) / (8 - 1); drawn again, tr(S) / 3."""
    own = problem(8)
    x, y = own.train.batch
    each = torch.stack([gradient(own, (x[i : i + 1], y[i : i + 1])) for i in range(8)])
    full = each.mean(0)
    trace = float((each - full).square().sum() / 8)  # over the 8, of which one is drawn
    without = [each[list(chosen)].mean(0) for chosen in itertools.combinations(range(8), 3)]
    torch.testing.assert_close(torch.stack(without).mean(0), full, rtol=1e-12, atol=1e-14)
    found = float(torch.stack([(g - full).square().sum() for g in without]).mean())
    assert found == pytest.approx(trace / 3 * (8 - 3) / (8 - 1), rel=1e-10)
    again = [each[list(chosen)].mean(0) for chosen in itertools.product(range(8), repeat=3)]
    assert float(torch.stack([(g - full).square().sum() for g in again]).mean()) == pytest.approx(
        trace / 3, rel=1e-10
    )


def test_an_epoch_holds_each_example_once_in_another_order_every_time() -> None:
    source = ds.Problem(
        model="linear", objective="squared_error", train=(torch.arange(50.0)[:, None], torch.arange(50.0))
    ).train
    orders = [torch.cat([y for _, y in source.epoch(8, seed=0, epoch=epoch)]) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_the_error_falls_with_the_root_of_the_batch() -> None:
    """Slope of log error over log batch, from drawn batches; the table's own error is the same."""
    own = problem()
    full = gradient(own, own.train.batch)
    sizes = (4, 8, 16, 32, 64)
    errors = []
    for size in sizes:
        drawn = itertools.islice(own.train.epoch(size, seed=1, epoch=0), 22)
        errors.append(
            np.sqrt(np.mean([float((gradient(own, each) - full).square().sum()) for each in drawn]))
        )
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)
    table = ds.batch_table(own, ds.Recipe(precision="float64"), sizes=sizes, rounds=1)
    for row, error in zip(table.rows, errors, strict=True):
        assert row.stderr == pytest.approx(error, rel=0.15)


def test_memory_is_in_proportion_to_the_batch() -> None:
    trial = TrialStep(problem(), ds.Recipe(optimizer="sgd", lr=0.1))
    used = [trial.memory(trial.batch(size)) for size in (128, 256, 512, 1024)]
    each = [(b - a) / n for a, b, n in zip(used[:-1], used[1:], (128, 256, 512), strict=True)]
    assert max(each) / min(each) < 1.02


def test_one_pass_in_small_batches_takes_the_loss_further_than_one_in_large() -> None:
    """Data-efficient: after the same examples; each at a rate that was found for it."""
    x, y = DIGITS.train
    own = ds.Problem(model="softmax", objective="cross_entropy", train=(x, y))
    losses = []
    for size, lr in ((10, 0.5), (100, 1.0), ("full", 1.0)):
        recipe = ds.Recipe(optimizer="sgd", lr=lr, batch_size=size, epochs=1)
        losses.append(ds.fit(own, recipe, folder=False, progress=False).summary["train_loss"])
    assert losses[0] < 0.6 * losses[1] < 0.6 * losses[2]


def test_the_standard_error_is_sigma_over_the_root() -> None:
    """The formula of the row, on numbers: batches of one number are means of it."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = ds.Problem(
        model=lambda: torch.nn.Linear(1, 1, bias=False).double(),
        objective=lambda z, y: (z[:, 0] * y).mean(),
        train=(torch.ones(1000, 1, dtype=torch.float64), values),
    )  # its gradient for one example is y
    table = ds.batch_table(own, ds.Recipe(optimizer="sgd", lr=0.1), sizes=[1, 10, 100], rounds=1)
    for row in table.rows:
        exact = float(values.std()) / math.sqrt(row.size) * math.sqrt((1000 - row.size) / 999)
        assert row.stderr == pytest.approx(exact, rel=0.35)
