"""How unevenly inputs spread, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import WhitenInputs
from downslope.core.run import Run
from downslope.diagnosis.measure.spread import measure, narrow


def problem(x: Tensor) -> ds.Problem:
    return ds.Problem(
        model=lambda: nn.Linear(x.shape[-1], 1), objective="mse", train=(x, torch.randn(len(x), 1))
    )


def pair(r: float) -> Tensor:
    """Two columns whose correlation is exactly r, of scales 100 and 0.01."""
    z = torch.linalg.qr(torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[
        0
    ]
    z = z - z.mean(0)
    z = torch.linalg.qr(z)[0]
    other = r * z[:, 0] + (1 - r * r) ** 0.5 * z[:, 1]
    return torch.stack([100 * z[:, 0] + 7, 0.01 * other], 1)


@pytest.mark.parametrize("r", [0.0, 0.9, 0.999, -0.9999])
def test_two_columns_of_correlation_r_have_the_condition_of_their_sum_and_difference(r: float) -> None:
    found = measure(problem(pair(r)))
    assert found is not None
    assert found["condition"] == pytest.approx((1 + abs(r)) / (1 - abs(r)), rel=1e-6)


def test_a_copy_of_a_column_is_no_narrow_direction() -> None:
    x = pair(0.5)
    copies = [x[:, :1] * k for k in range(1, 9)]
    found = measure(problem(torch.cat([x, *copies, torch.ones(400, 1)], 1)))
    assert found is not None
    assert found["condition"] < 30


@pytest.mark.parametrize(
    "x", [torch.randn(50, 40), torch.randn(50, 3, 4), torch.randn(50, 1), torch.zeros(50, 3).long()]
)
def test_wide_deep_single_and_whole_numbers_have_no_condition(x: Tensor) -> None:
    assert measure(problem(x)) is None


def test_whitened_inputs_have_none_either() -> None:
    assert measure(problem(pair(0.999)).edit(WhitenInputs())) is None


def test_it_counts_where_it_asks_for_more_steps_than_there_were() -> None:
    def of(condition: float | None, steps: int) -> Run:
        return Run(facts={"spread": {"condition": condition}}, summary={"steps": steps})

    assert narrow(of(5e3, 200)) == 5e3
    assert narrow(of(5e3, 6000)) is None
    assert narrow(of(500.0, 10)) is None
    assert narrow(of(None, 10)) is None
    assert narrow(Run()) is None
