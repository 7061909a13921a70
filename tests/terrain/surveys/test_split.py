"""A way down along one coordinate of many, which a random direction hardly touches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds


class Of(nn.Module):
    """A function of its weights alone."""

    def __init__(self, function: Any, size: int) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w).expand(len(x))


def at_zero(function: Any, size: int) -> ds.Problem:
    return ds.Problem(
        model=Of(function, size), objective=lambda output, target: output.mean(),
        train=(torch.zeros(4, 1), torch.zeros(4)),
    )  # fmt: skip


ONE_DOWN: dict[str, Any] = {
    "fourth order": lambda w: (w[1:] ** 4).sum() - w[0] ** 4,
    "third order": lambda w: (w[1:] ** 4).sum() + w[0] ** 3,
    "kink": lambda w: w[1:].abs().sum() - w[0].abs(),
    "steep kink": lambda w: w[1:].abs().sum() - 3 * w[0].abs(),
}


@pytest.mark.parametrize("size", [20, 400])
@pytest.mark.parametrize("name", ONE_DOWN)
def test_one_coordinate_of_many_that_goes_down_is_seen(name: str, size: int) -> None:
    found = ds.survey(at_zero(ONE_DOWN[name], size), progress=False)
    assert found.kind == "saddle"
    assert found.escape is not None
    assert found.escape.fall > 0
    assert found.escape.by_name["w"].abs().argmax() == 0


def test_a_way_down_inside_a_valley_floor_is_seen() -> None:
    bent = lambda w: (w[200:] ** 2).sum() + (w[1:200] ** 4).sum() - w[0] ** 4  # noqa: E731
    assert ds.survey(at_zero(bent, 250), progress=False).kind == "saddle"


def test_a_minimum_that_samples_told_says_what_they_could_not_see() -> None:
    found = ds.survey(at_zero(lambda w: (w**4).sum(), 100), progress=False)
    assert found.kind == "minimum"
    assert "may have been missed" in " ".join(found.notes)
    assert "at every sample" in found.why
    few = ds.survey(at_zero(lambda w: (w**4).sum(), 2), progress=False)
    assert "missed" not in " ".join(few.notes)
