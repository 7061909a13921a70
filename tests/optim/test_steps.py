"""A step is made of all parameters or of none; what is refused leaves no trace."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import NonFiniteError, RecipeError
from downslope.optim import layout

MAKES = {
    "sgd": lambda own, **how: optim.SGD(own, lr=0.1, momentum=0.9, dampening=0.5, **how),
    "adam": lambda own, **how: optim.Adam(own, lr=0.1, weight_decay=0.1, **how),
    "eager": lambda own, **how: optim.NAdam(own, lr=0.1, backend="eager", **how),
    "reference": lambda own, **how: optim.SGD(
        own, lr=0.1, momentum=0.9, dampening=0.5, backend="reference", **how
    ),
    "global": optim.Prodigy,
}


def _params():
    own = [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([[3.0, 4.0]]).double())]
    for p in own:
        p.grad = p.detach() * 0.5
    return own


def _groups(own):
    return [{"params": [p]} for p in own]


def _spoil(own, what):
    if what == "dtype":
        own[1].data = own[1].data.float()
    elif what == "sparse":
        own[1].data, own[1].grad = own[1].data.float(), own[1].grad.float().to_sparse()
    else:
        own[1].grad[0, 0] = math.nan


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("what", ["dtype", "sparse", "raise", "skip"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_step_that_is_refused_or_left_out_is_no_step(make, what, before):
    ends = []
    for refused in (False, True):
        own = _params()
        how = {"nonfinite": what} if what in ("raise", "skip") else {}
        optimizer = MAKES[make](_groups(own), **how)
        for _ in range(before):
            optimizer.step()
        if refused:
            kept = copy.deepcopy([[p.detach() for p in own], optimizer.state_dict()["state"]])
            whole = own[1].data, own[1].grad, own[1].grad.clone()
            _spoil(own, what)
            if what == "skip":
                optimizer.step()
            else:
                with pytest.raises((RecipeError, NonFiniteError)):
                    optimizer.step()
            own[1].grad = None
            own[1].data, own[1].grad = whole[:2]
            own[1].grad.copy_(whole[2])
            found = [[p.detach() for p in own], optimizer.state_dict()["state"]]
            torch.testing.assert_close(found, kept, rtol=0.0, atol=0.0)
            torch.save(
                optimizer.state_dict(), path := io.BytesIO()
            )  # nor is a state born that would be loaded
            path.seek(0)
            after = MAKES[make](_groups(own), **how)
            after.load_state_dict(torch.load(path))
            optimizer = after
        for _ in range(2):
            optimizer.step()
        ends.append([[p.detach() for p in own], optimizer.state_dict()["state"]])
    torch.testing.assert_close(*ends, rtol=0.0, atol=0.0)


def test_a_kernel_that_cannot_be_made_is_refused_before_any_parameter_moves(monkeypatch):
    pytest.importorskip("numba")
    own = _params()
    optimizer = optim.NAdam(_groups(own), lr=0.1, backend="kernel")
    made = layout.Bucket._kernel

    def fails(self):
        if self.kernel is None and self.params[0].dtype == torch.float64:
            raise RecipeError("no room for a kernel")
        return made(self)

    with monkeypatch.context() as patch:
        patch.setattr(layout.Bucket, "_kernel", fails)
        with pytest.raises(RecipeError, match="no room"):
            optimizer.step()
    assert own[0].tolist() == [1.0, 2.0]
    assert not optimizer.state
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in own] == [1.0, 1.0]


def test_a_climb_that_is_refused_leaves_no_start_behind():
    own = _params()
    sam = optim.SAM(own, rho=0.1)
    own[1].data = own[1].data.float()
    with pytest.raises(RecipeError, match="must be alike"):
        sam.first_step()
    assert own[0].tolist() == [1.0, 2.0]
    assert not sam.state_dict()["state"]
