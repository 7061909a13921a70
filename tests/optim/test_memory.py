"""A step makes no temporary of the size of the model, whatever steps it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from downslope import optim
from downslope.optim import Custom, ScaleByLr, chain

ELEMENTS = 300_000

RULES = {
    "rmsprop": lambda p, backend: optim.RMSprop(p, momentum=0.9, backend=backend),
    "nadam": lambda p, backend: optim.NAdam(p, weight_decay=0.1, backend=backend),
    "lamb": lambda p, backend: optim.LAMB(p, weight_decay=0.1, backend=backend),
    "clip": lambda p, backend: Custom(
        p, chain(optim.ClipNorm(max_norm=0.5), ScaleByLr(lr=0.1)), backend=backend
    ),
    "schedule-free": lambda p, backend: optim.ScheduleFreeAdamW(p, backend=backend),
}


class Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor made in memory that was not there before."""

    def __init__(self, known):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, list | tuple) else [out]:
            if isinstance(each, torch.Tensor) and each.untyped_storage().data_ptr() not in self.known:
                self.found = max(self.found, each.numel())
        return out


@pytest.mark.parametrize("backend", ["kernel", "eager"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("layout", ["plain", "turned"])
def test_a_step_makes_nothing_of_the_size_of_a_large_tensor(name, backend, layout):
    p = nn.Parameter(torch.ones(ELEMENTS) if layout == "plain" else torch.ones(500, 600).t())
    optimizer = RULES[name]([p], backend)
    p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    states = [value for value in optimizer.state[p].values() if isinstance(value, torch.Tensor)]
    with Largest([p, p.grad, *states]) as seen:
        optimizer.step()
    assert seen.found <= (1 << 16 if backend == "eager" else 64)


def test_what_is_measured_here_sees_a_temporary():
    p = torch.ones(ELEMENTS)
    with Largest([p]) as seen:
        p.add_(p * 2)
    assert seen.found == ELEMENTS


@pytest.mark.parametrize("layout", ["plain", "turned"])
def test_slow_weights_are_pulled_in_pieces_whatever_the_layout(layout):
    p = nn.Parameter(torch.ones(ELEMENTS) if layout == "plain" else torch.ones(500, 600).t())
    optimizer = optim.Lookahead([p], k=1, base_optimizer=optim.SGD, lr=0.1)
    p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    with Largest([p, p.grad, *optimizer.slow.held.values()]) as seen:
        optimizer.step()
    assert seen.found <= 1 << 16
