"""What a recorder keeps, step by step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.terrain.slices.trail import Recorder


def recorded(recorder: Recorder, steps: int) -> Recorder:
    """A single weight that is 0 at first and k after k steps."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    state = SimpleNamespace(model=model, step=0, optimizer=optimizer)
    recorder(state)
    for _ in range(steps):
        model.weight.grad = -torch.ones(1, 1)
        optimizer.step()
        recorder(state)  # as fit does at every probe
    return recorder


def test_points_are_those_of_their_steps_and_no_views_of_what_goes_on() -> None:
    found = recorded(Recorder(every=4), 10)
    assert found.steps == [0, 4, 8]
    assert [each.item() for each in found] == [0.0, 4.0, 8.0]


def test_only_what_nobody_asked_for_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downslope.terrain.slices.trail.KEPT", 8)
    assert recorded(Recorder(every=1), 20).steps == list(range(21))
    assert recorded(Recorder(), 20).steps == [0, 4, 8, 12, 16, 20]
    with pytest.raises(InputError, match="every=0: must be a number of steps, at least 1"):
        Recorder(every=0)
