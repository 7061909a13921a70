"""A misspelt argument of a model factory is told with the nearest that there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import ModelError
from downslope.core.misspelt import meant


class Net(nn.Sequential):
    def __init__(self, *, units: int = 3) -> None:
        super().__init__(nn.Linear(4, units))


def wide(width: int = 8) -> nn.Module:
    return nn.Linear(4, width)


@pytest.mark.parametrize(
    ("model", "arguments", "nearest"),
    [
        ("mlp", {"wdth": 8}, "width"),
        (ds.models.mlp, {"inputs": 4, "outputs": 2, "wdth": 8}, "width"),
        (lambda: ds.models.mlp(4, 2, wdth=8), {}, "width"),
        (lambda: nn.Sequential(nn.Linear(4, 2, bais=False)), {}, "bias"),
        (lambda: Net(unist=3), {}, "units"),
        (lambda: wide(widht=3), {}, "width"),
        (wide, {"widht": 3}, "width"),
        (lambda width=3: nn.Linear(4, width), {"widht": 3}, "width"),
        (Net, {"unist": 3}, "units"),
    ],
)
def test_the_nearest_argument_is_told(model: Any, arguments: dict[str, Any], nearest: str) -> None:
    data = torch.zeros(4, 4), torch.tensor([0, 1, 0, 1])
    problem = ds.Problem(model=model, objective="cross_entropy", train=data, arguments=arguments)
    with pytest.raises(ModelError, match=rf"unexpected keyword argument.*; did you mean '{nearest}'\?$"):
        problem.build()


def test_of_other_errors_nothing_is_guessed() -> None:
    assert meant(ValueError("mlp() got an unexpected keyword argument 'wdth'")) == ""
    assert meant(TypeError("mlp() missing 1 required positional argument: 'outputs'")) == ""
    assert meant(TypeError("nobody_knows() got an unexpected keyword argument 'wdth'")) == ""
