"""Torch's fused kernels step as the rules do, or are not chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError

# Around the widths of vector registers in every dtype, and beyond what one thread takes at a time.
SIZES = (1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 147, 1001, 100_003)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
HALF = DTYPES[2:]

SGD_FAMILY = {
    "gd": lambda p, **kw: optim.GD(p, lr=0.1, **kw),
    "sgd": lambda p, **kw: optim.SGD(p, lr=0.1, **kw),
    "sgd, decay": lambda p, **kw: optim.SGD(p, lr=0.1, weight_decay=0.1, **kw),
    "sgd, dampened": lambda p, **kw: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, **kw),
    "momentum": lambda p, **kw: optim.Momentum(p, lr=0.1, maximize=True, **kw),
    "nesterov": lambda p, **kw: optim.Nesterov(p, lr=0.1, **kw),
}
ADAPTIVE = {
    "adagrad": lambda p, **kw: optim.Adagrad(p, lr=0.1, **kw),
    "adagrad, decay": lambda p, **kw: optim.Adagrad(p, lr=0.1, lr_decay=0.1, weight_decay=0.1, **kw),
    "adam": lambda p, **kw: optim.Adam(p, lr=0.1, eps=1e-3, **kw),
    "adam, decay": lambda p, **kw: optim.Adam(p, lr=0.1, eps=1e-3, weight_decay=0.1, maximize=True, **kw),
    "adam, amsgrad": lambda p, **kw: optim.Adam(p, lr=0.1, eps=1e-3, amsgrad=True, **kw),
    "adamw": lambda p, **kw: optim.AdamW(p, lr=0.1, eps=1e-3, weight_decay=0.1, **kw),
    "adamw, amsgrad": lambda p, **kw: optim.AdamW(p, lr=0.1, eps=1e-3, amsgrad=True, **kw),
}


INSTEAD = {torch.bfloat16: "kernel", torch.float16: "eager"}


def stepped(make, dtype, backend):
    """Parameters of all sizes after three steps, on gradients that first grow and then shrink."""
    params = [nn.Parameter(torch.linspace(0.5, 1.5, n, dtype=torch.float64).to(dtype)) for n in SIZES]
    optimizer = make(params, backend=backend)
    for scale in (1.0, 2.0, 0.5):
        for p in params:
            p.grad = (scale * torch.linspace(0.1, 1.0, p.numel(), dtype=torch.float64)).to(dtype)
        optimizer.step()
    return params


def agree(found, wanted):
    # Some roundings of values below 4: the orders of operations differ, not the steps, which are 0.05 and up.
    bound = 8 * torch.finfo(found[0].dtype).eps
    return all(float((a - b).detach().abs().max()) <= bound for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*SGD_FAMILY, *ADAPTIVE])
def test_chosen_backend_steps_as_the_rule_at_every_size(name, dtype):
    make = (SGD_FAMILY | ADAPTIVE)[name]
    rows = make([nn.Parameter(torch.ones(n, dtype=dtype)) for n in SIZES]).plan().rows
    wrong = name in SGD_FAMILY and dtype in HALF
    assert [row.backend for row in rows] == [INSTEAD[dtype] if wrong else "native"]
    wanted = stepped(make, dtype, "reference")
    assert agree(stepped(make, dtype, None), wanted)
    assert agree(stepped(make, dtype, "eager"), wanted)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("make", SGD_FAMILY.values(), ids=list(SGD_FAMILY))
def test_sgd_kernel_on_16_bits_is_refused_with_its_reason(make, dtype):
    p = nn.Parameter(torch.ones(147, dtype=dtype))
    reason = f"torch._fused_sgd_ steps wrongly on {dtype} on the CPU"
    assert make([p]).plan().rows[0].reason.startswith(reason)
    optimizer = make([p], backend="native")
    p.grad = torch.ones_like(p)
    with pytest.raises(RecipeError, match=f"backend='native': {reason}.*use backend=None"):
        optimizer.step()
    assert torch.equal(p, torch.ones_like(p))


@pytest.mark.parametrize("backend", [None, "native", "eager", "kernel", "reference"])
@pytest.mark.parametrize("name", [*SGD_FAMILY, *ADAPTIVE])
def test_a_second_backward_through_weights_that_were_stepped_is_refused(name, backend):
    p = nn.Parameter(torch.linspace(0.5, 1.5, 20))
    optimizer = (SGD_FAMILY | ADAPTIVE)[name]([p], backend=backend)
    loss = (p**2).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
