"""Values that are not there: what is filled in, what is left out, and what no edit touches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.edits import FillInputs, LeaveOut, StandardiseInputs
from downslope.core.errors import DataError, EditError

NAN, INF = math.nan, math.inf
X = torch.tensor([[1.0, 10.0], [NAN, 30.0], [3.0, INF], [5.0, 50.0]])
Y = torch.tensor([[0.0], [1.0], [2.0], [3.0]])


def problem(x: Any = X, y: Any = Y, **changes: Any) -> ds.Problem:
    return ds.Problem(**({"model": lambda: nn.Linear(2, 1), "objective": "mse", "train": (x, y)} | changes))


def held(task: ds.Problem, part: str = "train") -> Any:
    return getattr(task, part).batch


def test_a_gap_becomes_the_mean_of_its_feature_in_training_data_and_validation_alike() -> None:
    task = problem(valid=(torch.tensor([[NAN, -INF]]), Y[:1])).edit(FillInputs())
    want = torch.tensor([[1.0, 10.0], [3.0, 30.0], [3.0, 30.0], [5.0, 50.0]])
    torch.testing.assert_close(held(task)[0], want)
    torch.testing.assert_close(held(task, "valid")[0], torch.tensor([[3.0, 30.0]]))  # of the training part
    assert torch.equal(held(task)[1], Y)
    assert X[1, 0].isnan()  # nobody's own data is changed


def test_the_model_fills_in_what_it_is_given_later_before_it_is_standardised() -> None:
    for edits in ((FillInputs(), StandardiseInputs()), (FillInputs(),)):
        model = problem().edit(*edits).build()
        torch.testing.assert_close(model(torch.tensor([[NAN, 20.0]])), model(torch.tensor([[3.0, 20.0]])))


def test_examples_without_a_target_are_left_out_and_the_others_are_as_they_were() -> None:
    y = torch.tensor([[0.0], [NAN], [2.0], [INF]])
    task = problem(torch.ones(4, 2).cumsum(0), y).edit(LeaveOut())
    torch.testing.assert_close(held(task)[0], torch.tensor([[1.0, 1.0], [3.0, 3.0]]))
    torch.testing.assert_close(held(task)[1], torch.tensor([[0.0], [2.0]]))


def test_what_was_refused_can_be_trained() -> None:
    task, how = problem(), ds.Recipe(optimizer="sgd", lr=1e-4, epochs=2)
    with pytest.raises(DataError):
        ds.fit(task, how, folder=False, progress=False)
    run = ds.fit(task.edit(FillInputs()), how, folder=False, progress=False)
    assert math.isfinite(run.summary["train_loss"])


def test_what_cannot_be_completed_is_refused_in_one_line() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=2)
    with pytest.raises(EditError, match="only data in memory"):
        problem(train=loader).edit(FillInputs())
    with pytest.raises(EditError, match="split makes other tensors"):
        problem(split=lambda batch: ((batch[0] * 1,), {}, batch[1])).edit(FillInputs())
    with pytest.raises(EditError, match="no example has a target"):
        problem(y=torch.full((4, 1), NAN)).edit(LeaveOut())


def test_of_an_autoencoder_the_example_is_left_out_for_its_input_is_its_target() -> None:
    task = ds.Problem(model=lambda: nn.Linear(2, 2), objective="mse", train=X)
    assert torch.equal(held(task.edit(FillInputs())).isfinite(), X.isfinite())
    assert len(task.edit(LeaveOut()).train.batch) == 2


@pytest.mark.parametrize("edit", [FillInputs(), LeaveOut()])
def test_it_is_saved_by_its_kind(edit: Any) -> None:
    assert ds.edits.from_dict(edit.to_dict()) == edit
    assert list(edit.to_dict()) == ["kind"]
