"""The scale of weights that no layer shows, by hand and against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downslope.diagnosis.measure.matrices import matrices


class Bare(nn.Module):
    """Two matrices of its own and a head."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(start), nn.Parameter(torch.zeros(8, 3))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w @ self.v + self.bias


def test_a_bare_matrix_has_the_gain_of_either_axis() -> None:
    first, second = matrices(Bare(torch.full((2, 8), 3.0)))
    assert (first["name"], first["module"], first["alike"], second["alike"]) == ("w", "model", True, True)
    assert first["gain"] == pytest.approx(3 * 2**0.5)
    assert first["most"] == pytest.approx(3 * 8**0.5)
    assert not first["recurrent"]


def test_what_comes_back_step_after_step_counts_by_its_largest_eigenvalue() -> None:
    cell = nn.GRUCell(3, 5)
    with torch.no_grad():
        cell.weight_hh.copy_(torch.rand(15, 5, generator=torch.Generator().manual_seed(0)))
    rows = {row["name"]: row for row in matrices(nn.ModuleDict({"cell": cell}))}
    assert set(rows) == {"cell.weight_ih", "cell.weight_hh"}
    gates = cell.weight_hh.detach().double().numpy().reshape(3, 5, 5)
    largest = max(float(np.abs(np.linalg.eigvals(each)).max()) for each in gates)
    assert rows["cell.weight_hh"]["gain"] == pytest.approx(largest)
    inputs = cell.weight_ih.detach().double().numpy()
    assert rows["cell.weight_ih"]["gain"] == pytest.approx(float(np.sqrt((inputs**2).mean() * 3)))
    assert rows["cell.weight_hh"]["recurrent"]


def test_every_layer_and_direction_of_a_recurrence_is_listed() -> None:
    names = [row["name"] for row in matrices(nn.Sequential(nn.LSTM(4, 6, 2, bidirectional=True)))]
    assert len(names) == 8
    assert "0.weight_hh_l1_reverse" in names


def test_layers_of_torch_and_matrices_without_finite_numbers_do_no_harm() -> None:
    assert matrices(nn.Sequential(nn.Linear(3, 3), nn.MultiheadAttention(4, 2))) == []
    assert matrices(Bare(torch.full((8, 8), float("nan"))))[0]["name"] == "w"
