from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds


class Surface(nn.Module):
    """A function of its weights alone."""

    def __init__(self, function: Any, at: list[float]) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w) + 0 * x.sum()


def surface(function: Any, at: list[float], **more: Any) -> ds.Problem:
    """The problem of going down on `function`, from `at`."""
    return ds.Problem(
        model=Surface(function, at), objective=lambda output, target: output,
        train=(torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4)), **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("function", "at", "kind", "eigenvalues"),
    [
        (lambda w: w[0] ** 2 + 3 * w[1] ** 2, [0.0, 0.0], "minimum", [6.0, 2.0]),
        (lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0], "saddle", [2.0, -2.0]),
        (lambda w: 1 - w[0] ** 2 - w[1] ** 2, [0.0, 0.0], "maximum", [-2.0, -2.0]),
        (lambda w: 5 + w[0] ** 2 - 1e-6 * w[1] ** 2, [0.0, 0.0], "saddle", [2.0, -2e-6]),
        (lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [1.0, 1.0], "minimum", None),
        (lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [-1.2, 1.0], "slope", None),
        (lambda w: w[0] ** 3, [0.0], "saddle", [0.0]),
        (lambda w: w[0] ** 4 + w[1] ** 4, [0.0, 0.0], "minimum", [0.0, 0.0]),
        (lambda w: 1 + torch.tanh(w[0]), [12.0], "plateau", None),
    ],
)
def test_known_points_are_what_they_are(
    function: Any, at: list[float], kind: str, eigenvalues: list[float] | None
) -> None:
    found = ds.survey(surface(function, at), progress=False)
    assert found.kind == kind
    if eigenvalues is not None:
        assert found.eigenvalues.tolist() == pytest.approx(eigenvalues, abs=1e-9)
    assert found.degenerate == (eigenvalues is not None and not any(eigenvalues))


def test_the_way_out_of_a_saddle_is_the_eigenvector_and_its_fall_is_measured() -> None:
    found = ds.survey(surface(lambda w: w[0] ** 2 - w[1] ** 2 / 2, [0.0, 0.0]), progress=False)
    way = found.escape
    assert way is not None
    assert way.by_name["w"].abs().tolist() == pytest.approx([0.0, 1.0])
    assert way.curvature == pytest.approx(-1.0)
    assert way.fall == pytest.approx(way.at**2 / 2)
