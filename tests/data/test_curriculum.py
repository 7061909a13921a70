"""A curriculum: which examples are in, how often; that `fit` measures on all, and resumes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import DataError
from downslope.data import Curriculum
from downslope.training.fit import resume
from tests.training.problems import same_history, same_state
from tests.training.test_resume import Stop


def test_the_share_grows_from_the_easiest_to_all() -> None:
    order = Curriculum([5.0, 1.0, 4.0, 2.0, 3.0, 0.0], epochs=2, start=1 / 3)
    seen = [Counter(order) for _ in range(4)]
    assert set(seen[0]) == {5, 1}
    assert set(seen[1]) == {5, 1, 3, 4}
    assert seen[0] == {5: 3, 1: 3}
    assert seen[2] == seen[3] == dict.fromkeys(range(6), 1)
    assert all(sum(each.values()) == 6 == len(order) for each in seen)


def loader() -> DataLoader[Any]:
    x = torch.linspace(-1, 1, 24)[:, None]
    return DataLoader(
        TensorDataset(x, x.sin()), batch_size=6, sampler=Curriculum(x.abs(), epochs=3, start=0.25)
    )


def test_a_run_sees_the_easy_ones_first_and_is_measured_on_all() -> None:
    largest: list[float] = []

    def objective(output: torch.Tensor, target: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        if output.requires_grad:
            largest.append(float(inputs.abs().max()))
        return (output - target).square().mean()

    problem = ds.Problem(model=lambda: nn.Linear(1, 1), objective=objective, train=loader())
    run = ds.fit(problem, ds.Recipe(lr=0.01, epochs=4), folder=False, progress=False, observe=0)
    steps = largest[-16:]
    assert max(steps[:4]) < 0.3 < max(steps[4:8]) < 0.6
    assert max(steps[12:]) == 1.0
    x = torch.linspace(-1, 1, 24)[:, None]
    with torch.no_grad():
        whole = (run.model()(x) - x.sin()).square().mean()
    assert run.summary["train_loss"] == pytest.approx(float(whole), rel=1e-5)


def test_a_resumed_run_goes_on_at_its_share(tmp_path: Path) -> None:
    def problem() -> ds.Problem:
        return ds.Problem(model=lambda: nn.Linear(1, 1), objective="squared_error", train=loader())

    recipe = ds.Recipe(lr=0.01, epochs=5)
    whole = ds.fit(problem(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    ds.fit(problem(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=Stop(7))
    again = resume(tmp_path / "part", problem(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())


@pytest.mark.parametrize(
    ("difficulty", "settings"),
    [
        ([], {"epochs": 1}),
        ([float("nan")], {"epochs": 1}),
        ([1.0], {"epochs": 0}),
        ([1.0], {"epochs": 1, "start": 0.0}),
    ],
)
def test_settings_outside_their_domain_are_refused(difficulty: list[float], settings: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        Curriculum(difficulty, **settings)
