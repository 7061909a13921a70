"""What the table says of activations, met again in layers of real size."""

from __future__ import annotations

import math

import pytest
import torch

import downslope as ds
from downslope.models.parts import activation_of

TABLE = {row.name: row for row in ds.models.activations()}


@pytest.mark.parametrize("name", TABLE)
@torch.no_grad()
def test_weights_of_the_tables_gain_keep_the_size_of_the_signal(name) -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(200, 1000, generator=draw)
    phi = activation_of(name)
    for _ in range(8):
        weight = torch.randn(1000, 1000, generator=draw) * TABLE[name].gain / math.sqrt(1000)
        z = phi(z) @ weight.T
    assert z.square().mean().item() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("name", TABLE)
def test_mean_and_loss_are_those_of_a_large_sample(name) -> None:
    row = TABLE[name]
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert row.value(z).mean().item() == pytest.approx(row.mean, abs=5e-3)
    assert (row.slope(z).abs() < 0.01).double().mean().item() == pytest.approx(row.lost, abs=2e-3)
    assert row.slope(z).square().mean().item() == pytest.approx(row.slope_power, abs=5e-3)


def test_relu_is_half_dead_its_leaky_forms_are_not_and_tanh_is_centred() -> None:
    assert TABLE["relu"].lost == pytest.approx(0.5)
    assert TABLE["leaky_relu"].lost == TABLE["prelu"].lost == 0.0
    assert TABLE["relu"].mean == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert TABLE["tanh"].mean == pytest.approx(0.0, abs=1e-12)
    assert TABLE["sigmoid"].lowest >= 0.0
    assert TABLE["sigmoid"].steepest == pytest.approx(0.25)
