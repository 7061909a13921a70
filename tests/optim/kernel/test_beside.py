"""Kernels that read gradients as they come: of half precision beside float32 copies, and of any layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.optim import Custom, ScaleByLr, chain
from downslope.optim.kernel.table import PIECE

SHAPES = [(0,), (), (7,), (2 * PIECE + 5,), (300, 500), (40, 30, 20), (2, 140_001)]

RULES = {
    "rmsprop": lambda p, **given: optim.RMSprop(p, momentum=0.9, **given),
    "lamb": lambda p, **given: optim.LAMB(p, weight_decay=0.1, **given),
    "clip": lambda p, **given: Custom(p, chain(optim.ClipNorm(max_norm=0.5), ScaleByLr(lr=0.1)), **given),
    "adafactor": optim.Adafactor,
    "adamw": optim.AdamW,
}


def turned(x):
    """The same numbers, in another order in memory."""
    return torch.empty(x.shape[::-1], dtype=x.dtype).permute(list(range(x.ndim))[::-1]).copy_(x)


def values(dtype, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw).to(dtype) for shape in SHAPES]


def states_of(optimizer, params):
    return [v for p in params for v in optimizer.state[p].values() if isinstance(v, torch.Tensor)]


@pytest.mark.parametrize(
    ("name", "backend", "dtype"),
    [
        *((name, "kernel", torch.bfloat16) for name in RULES),
        *((name, "kernel", torch.float16) for name in ("clip", "lamb")),
        ("adamw", "native", torch.bfloat16),
        ("rmsprop", "eager", torch.bfloat16),
        ("lamb", "eager", torch.float16),
    ],
)
def test_float32_copies_take_the_steps_of_float32_parameters(name, backend, dtype):
    params = [nn.Parameter(x) for x in values(dtype, 0)]
    wide = [nn.Parameter(p.detach().float()) for p in params]
    ours = RULES[name](params, rounding="master", backend=backend)
    theirs = RULES[name](wide, backend=backend)
    for t in range(3):
        for p, w, g in zip(params, wide, values(dtype, t + 1), strict=True):
            p.grad, w.grad = g, g.float()
        if t == 2:  # written from outside: counts, even where the kernel reads both
            with torch.no_grad():
                params[4][3, :7], wide[4][3, :7] = 2.5, 2.5
        ours.step()
        theirs.step()
    for p, w in zip(params, wide, strict=True):
        assert torch.equal(p, ours.state[p]["master"].to(dtype))
        slack = 1e-6 if backend == "kernel" else 0.0  # LLVM may fuse another product with a sum
        torch.testing.assert_close(ours.state[p]["master"], w.detach(), rtol=slack, atol=slack)
        for key, value in theirs.state[w].items():
            torch.testing.assert_close(ours.state[p][key], value, rtol=slack, atol=slack)


@pytest.mark.parametrize("backend", ["kernel", None])
def test_a_parameter_with_gaps_has_a_copy_without(backend):
    p = nn.Parameter(torch.ones(300, 1000, dtype=torch.bfloat16)[:, ::2])
    w = nn.Parameter(torch.ones(300, 500))
    ours = optim.RMSprop([p], rounding="master", backend=backend)
    theirs = optim.RMSprop([w], backend=backend)
    for t in range(3):
        p.grad = torch.randn(300, 500, generator=torch.Generator().manual_seed(t)).bfloat16()
        w.grad = p.grad.float()
        ours.step()
        theirs.step()
    assert torch.equal(ours.state[p]["master"], w)
    assert torch.equal(p, w.bfloat16())


def test_no_number_in_the_parameter_becomes_none_in_its_copy():
    p = nn.Parameter(torch.ones(9, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=2.0**-12, rounding="master", backend="kernel")
    p.grad = torch.ones_like(p)
    optimizer.step()
    with torch.no_grad():
        p[2], p[3] = float("nan"), float("inf")
    optimizer.step()
    assert p.isnan().tolist() == [i == 2 for i in range(9)]
    assert p[3] == float("inf")
    assert optimizer.state[p]["master"][0] == 1 - 2.0**-11
    with torch.no_grad():
        p.fill_(3.0)
    optimizer.step()
    assert (optimizer.state[p]["master"] == 3 - 2.0**-12).all()


@pytest.mark.parametrize("rounding", [None, "master", "stochastic"])
@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "kernel") for name in RULES), ("adamw", "native"), ("rmsprop", "eager"), ("lamb", "eager")],
)
def test_bits_do_not_hang_on_how_a_gradient_lies(name, backend, rounding):
    if rounding == "stochastic" and (name == "adafactor" or backend == "native"):
        pytest.skip("another backend rounds by chance")
    dtype = torch.float32 if rounding is None else torch.bfloat16
    given = {} if rounding is None else {"rounding": rounding}
    found = []
    for lies in (lambda n: False, lambda n: True, lambda n: n % 2):
        params = [nn.Parameter(x) for x in values(dtype, 0)]
        last = values(dtype, 9)[4]
        params.append(nn.Parameter(last if name == "adafactor" else turned(last)))
        optimizer = RULES[name](params, backend=backend, **given)
        for t in range(3):
            grads = [*values(dtype, t + 1), values(dtype, t + 10)[4]]
            for n, (p, g) in enumerate(zip(params, grads, strict=True)):
                g = torch.empty_like(p).copy_(g)
                p.grad = turned(g) if lies(n + t) and p.is_contiguous() else g.contiguous() if lies(n) else g
            optimizer.step()
        found.append([*(p.detach() for p in params), *states_of(optimizer, params)])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("backend", ["kernel", "eager", "native"])
def test_a_gradient_of_one_number_for_all_elements_counts_for_all(backend):
    p, q = (nn.Parameter(torch.linspace(0, 1, 150_000).reshape(300, 500)) for _ in range(2))
    ours, theirs = (optim.AdamW([each], backend=backend) for each in (p, q))
    for size in (1.0, -2.0):
        p.grad, q.grad = torch.tensor(size).expand(300, 500), torch.full((300, 500), size)
        ours.step()
        theirs.step()
    assert torch.equal(p, q)
