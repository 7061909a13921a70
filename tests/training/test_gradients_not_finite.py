"""What a run does with a gradient that is not finite where its loss is, as its recipe says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import NonFiniteError


class Root(nn.Linear):
    """Linear, and NaN in its gradient, not in its outputs, on a batch with an input above 9."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found + (self.weight * 0).sqrt().sum() if bool((x > 9).any()) else found


def problem() -> ds.Problem:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    x[5] = 10.0
    return ds.Problem(model=lambda: Root(3, 1), objective=nn.functional.mse_loss, train=(x, x[:, :1]))


def recipe(**settings: Any) -> ds.Recipe:
    return ds.Recipe(**({"optimizer": "sgd", "lr": 0.001, "batch_size": 8, "epochs": 2} | settings))


def is_finite(run: ds.Run) -> bool:
    return all(bool(p.isfinite().all()) for p in run.model("last").parameters())


@pytest.mark.parametrize(
    ("given", "status", "finite"),
    [
        ({}, "diverged", False),
        ({"nonfinite": "skip"}, "done", True),
        ({"nonfinite": "stop"}, "diverged", True),
        ({"nonfinite": "skip", "optimizer": "lookahead(sgd)"}, "done", True),
    ],
)
def test_a_run_skips_or_ends_as_its_recipe_says(given: dict[str, Any], status: str, finite: bool) -> None:
    run = ds.fit(problem(), recipe(**given), folder=False, progress=False)
    assert (run.status, is_finite(run)) == (status, finite)


def test_a_run_raises_where_it_is_told_to() -> None:
    with pytest.raises(NonFiniteError, match="3 of 3 elements that are not finite"):
        ds.fit(problem(), recipe(nonfinite="raise"), folder=False, progress=False)


def test_members_of_a_population_skip_as_alone() -> None:
    how = [recipe(nonfinite="skip", lr=lr, seed=0) for lr in (0.001, 0.002)]
    for run, each in zip(ds.fit_population(problem(), how, progress=False, way="together"), how, strict=True):
        alone = ds.fit(problem(), each, folder=False, progress=False)
        assert run.status == "done"
        for a, b in zip(run.model("last").parameters(), alone.model("last").parameters(), strict=True):
            torch.testing.assert_close(a, b)
