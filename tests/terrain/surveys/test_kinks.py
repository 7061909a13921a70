"""Kinks: told where the loss stands at one, and not where it only has some."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.terrain.ground import ground_of
from downslope.terrain.surveys.kinks import kinks


class Bent(nn.Module):
    """A hidden layer of four, bent by a function."""

    def __init__(self, bend) -> None:
        super().__init__()
        self.first, self.last, self.bend = nn.Linear(3, 4), nn.Linear(4, 1), bend

    def forward(self, x):
        return self.last(self.bend(self.first(x)))


BENDS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "function": nn.functional.relu,
    "torch": torch.relu,
    "method": lambda h: h.relu(),
    "leaky": nn.LeakyReLU(),
    "hardtanh": nn.Hardtanh(0.0, 2.0),
    "relu6": nn.ReLU6(),
}


@pytest.mark.parametrize("name", BENDS)
def test_units_within_rounding_of_a_kink_are_counted_wherever_it_is_called(name):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(10, 3, generator=draw), torch.randn(10, 1, generator=draw)
    model = Bent(BENDS[name])
    problem = ds.Problem(model=lambda: model, objective="squared_error", train=(x, y))
    assert ground_of(problem, model).notes == []
    with torch.no_grad():
        model.first.weight[1] = model.first.bias[1] = 0
    (note,) = ground_of(problem, model).notes
    assert note.startswith("10 of ")
    assert "within rounding of a kink" in note
    assert ground_of(problem, model).hessian().exact


def test_an_absolute_error_is_at_its_kink_where_the_error_is_zero():
    output = torch.tensor([1.0, 2.0, 3.0])
    found = kinks(lambda: nn.functional.l1_loss(output, torch.tensor([1.0, 0.0, 3.0])))
    assert (found.at, found.entries, found.names) == (2, 3, ("l1_loss",))
    assert kinks(lambda: output.tanh().sum()).told() is None


@pytest.mark.parametrize(
    ("look", "at", "entries"),
    [
        (lambda: nn.functional.relu6(torch.tensor([6.0, 1.0])), 1, 4),  # each entry, at 0 and at 6
        (lambda: torch.min(torch.tensor([1.0, 1.0, 5.0])), 1, 1),
        (lambda: torch.min(torch.tensor([1.0, 5.0, 5.0])), 0, 1),
        (lambda: torch.max(torch.tensor([1.0, 5.0, 5.0])), 1, 1),
        (lambda: torch.tensor([0.0, 1.0]).clamp(min=0.0), 1, 2),
        (lambda: torch.tensor([0.0, 1.0]).clamp(0.0, 1.0), 2, 4),
        (lambda: nn.functional.l1_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])), 1, 2),
        (lambda: torch.tensor([[0.0, 0.0], [3.0, 4.0]]).norm(dim=1), 1, 2),
        (lambda: torch.relu(torch.tensor([2e-7, 1.0])), 1, 2),  # within rounding of the largest
        (lambda: torch.relu(torch.tensor([2e-6, 1.0])), 0, 2),
    ],
)
def test_each_function_has_its_own_kinks(look, at, entries) -> None:
    found = kinks(look)
    assert (found.at, found.entries) == (at, entries)
