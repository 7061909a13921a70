"""A loss in the user's units that float32 cannot hold, of a model that trains on standardised targets."""

from __future__ import annotations

import math

import pytest
import torch

import downslope as ds
from downslope.core.adapted import Adapted
from downslope.core.edits import StandardiseTargets
from downslope.core.loss import Objective
from tests.diagnosis.symptoms.problems import net, numbers, problem


def test_targets_of_1e20_are_fitted_like_those_of_1_and_their_loss_is_told_in_their_units() -> None:
    losses: list[float] = []
    for size in (1.0, 1e20):
        (x, y), (xv, yv) = numbers()
        data = ((x, y * size), (xv, yv * size))
        task = problem(data, lambda: net(6, 1), "squared_error", None).edit(StandardiseTargets())
        run = ds.fit(task, ds.Recipe(lr=3e-3, epochs=4, seed=0), folder=False, progress=False)
        assert run.status == "done"
        losses.append(run.summary["valid_loss"] / size**2)
        model, batch = task.build(0, None), task.train_source.batch
        with torch.no_grad():
            assert isinstance(model, Adapted)
            value = float(Objective(task).raw(model, batch).value)
            expected = float(((model(batch[0]).double() - batch[1].double()) ** 2).mean())
        assert math.isfinite(value)
        assert value == pytest.approx(expected, rel=1e-4)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
