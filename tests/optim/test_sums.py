"""Links that add up are settled, or the step ends with an error: never by waiting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope.optim import ClipNorm1, ClipTensor, Custom, Prodigy, ScaleByLr, chain, sums


def stepped(*links):
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.5])
    Custom(params, chain(*links, ScaleByLr(lr=1.0))).step()
    return -torch.cat([p.detach() for p in params])


def test_links_are_settled_in_the_order_of_their_chain():
    each, whole = ClipTensor(max_tensor_norm=2.5), ClipNorm1(max_norm=2.0)
    torch.testing.assert_close(stepped(each, whole), torch.tensor([0.75, 0.0, 1.0, 0.25]))
    torch.testing.assert_close(stepped(whole, each), torch.tensor([0.8, 0.0, 16.0 / 15.0, 2.0 / 15.0]))


class Stubborn(list):
    """Loses nothing that is taken from it."""

    def pop(self, i):
        return self[i]

    def __delitem__(self, i):
        pass


def test_links_that_are_never_done_end_the_step(monkeypatch):
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = Prodigy([p])
    monkeypatch.setattr(sums, "list", Stubborn, raising=False)
    with pytest.raises(RuntimeError, match=r"^1 links that add up wait for ever: [^\n]*$"):
        optimizer.step()
