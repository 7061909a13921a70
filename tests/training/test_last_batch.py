"""Batch norm and a last batch of one example: torch refuses it within an epoch, we before the first."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import DataError, ModelError
from tests.training.problems import classification, labels


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def fit(n: int, size: Any, **changes: Any) -> ds.Run:
    problem = classification(**({"model": normed, "train": labels(n), "valid": None} | changes))
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=size, epochs=2)
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


@pytest.mark.parametrize(
    ("n", "size", "taken"), [(49, 16, 15), (33, 32, 31), (17, 4, 3), (9, 2, 3), (3, 2, 3)]
)
def test_the_nearest_size_without_such_a_batch_is_taken_and_told(
    n: int, size: int, taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    with caplog.at_level(logging.WARNING, "downslope"):
        run = fit(n, size, constraint=lambda model: seen.append(1))
    assert f"batch_size {size} leaves a last batch of one of the {n} examples" in caplog.text
    assert f"{taken} is taken" in caplog.text
    assert n % taken != 1
    assert run.choices["batch_size"] == taken
    assert run.summary["steps"] == len(seen) - 1 == 2 * -(-n // taken)  # and once on the start


def test_the_parts_of_a_last_batch_count_too(caplog: pytest.LogCaptureFixture) -> None:
    problem = classification(model=normed, train=labels(69), valid=None)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=64, epochs=2, accumulate=4)
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    assert "in one of accumulate=4 parts" in caplog.text  # of 5 examples in 4 parts
    assert run.choices["batch_size"] == 61  # 8 examples are left, two in each part
    assert run.status == "done"


@pytest.mark.parametrize(("n", "size"), [(48, 16), (50, 16), (49, "full")])
def test_other_ends_stay_as_they_are(n: int, size: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "downslope"):
        assert fit(n, size).choices["batch_size"] == (n if size == "full" else size)
    assert "is taken" not in caplog.text


def test_a_run_that_ends_before_its_first_such_batch_keeps_its_size(caplog: pytest.LogCaptureFixture) -> None:
    problem = classification(model=normed, train=labels(9), valid=None)
    sizes = {}
    for steps in (4, 5):  # the fifth batch of two holds the ninth example alone
        recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=2, steps=steps)
        with caplog.at_level(logging.WARNING, "downslope"):
            run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        sizes[steps] = run.choices["batch_size"]
    assert sizes == {4: 2, 5: 3}


def test_models_that_take_one_example_keep_their_batches() -> None:
    """Without batch norm, with group norm, and with the pixels of an image to average over."""
    images = lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 2))  # noqa: E731
    given = {"model": images, "train": (torch.randn(33, 1, 5, 5), torch.arange(33) % 2)}
    assert fit(33, 16, **given).choices["batch_size"] == 16
    assert fit(33, 16, model=lambda: nn.Linear(4, 2)).choices["batch_size"] == 16
    norm = lambda: nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8), nn.Linear(8, 2))  # noqa: E731
    assert fit(33, 16, model=norm).choices["batch_size"] == 16


def test_the_users_own_loader_is_told_before_the_first_step() -> None:
    data = TensorDataset(*labels(33))
    with pytest.raises(
        DataError, match=r"33 examples in batches of 16 leave a last batch of one.*drop_last=True"
    ):
        fit(33, 16, train=DataLoader(data, batch_size=16, shuffle=True))
    run = fit(33, 16, train=DataLoader(data, batch_size=16, shuffle=True, drop_last=True))
    assert run.summary["steps"] == 4


def test_batches_of_one_are_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match="batch norm needs two examples: take another batch_size"):
        fit(32, 1)


def test_training_is_in_train_mode_evaluation_in_eval_mode_and_modes_come_back() -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = normed()
            self.seen: list[tuple[bool, bool]] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append((self.training, torch.is_grad_enabled()))
            return self.inner(x)

    spy = Spy()
    problem = classification(model=lambda: spy)
    ds.fit(problem, ds.Recipe(batch_size=25, epochs=3), folder=False, progress=False, observe=0)
    assert set(spy.seen) == {(True, True), (False, False)}  # a gradient is taken in train mode alone
    assert spy.seen.count((True, True)) == 1 + 3 * 2  # one look at the first batch, then each step
    assert spy.training
    assert all(module.training for module in spy.modules())
