"""Parameters and gradients of any shape and layout step as torch's plainest code steps them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.rule import Chain
from tests.optim.peers import CASES, NAMES, agree, drawn_like, made, ours, step, theirs

KINDS = ["plain", "without dimensions", "empty", "transposed", "channels last", "with gaps"]


@pytest.mark.parametrize(("name", "backend"), CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["same", "contiguous", "expanded"])
def test_any_layout_takes_the_right_step(name: str, backend: str | None, kind: str, layout: str) -> None:
    params, twins = made(kind), made(kind)
    optimizer = ours(name, backend)(params, lr=0.01)
    if (kind, backend) == ("with gaps", "native"):
        with pytest.raises(RecipeError, match=r"^backend='native': [^\n]* needs tensors without gaps"):
            step(optimizer, params, drawn_like(params, 1, layout))
        return
    step(optimizer, params, drawn_like(params, 5, layout))
    step(theirs(name)(twins, lr=0.01), twins, drawn_like(twins, 5, layout))
    agree(params, twins)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-5), (torch.float16, 2**-8)])
def test_parameters_of_16_bits_step_within_their_rounding(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    params, exact = made("plain", dtype), [nn.Parameter(p.detach().double()) for p in made("plain", dtype)]
    given = drawn_like(params, 5)
    step(ours(name)(params, lr=0.01), params, given)
    step(theirs(name)(exact, lr=0.01), exact, [[g.double() for g in row] for row in given])
    agree([p.detach().double() for p in params], exact, tolerance)
    assert all(p.dtype == dtype for p in params)


class Descent(optim.Rule):
    """Of operators alone."""

    def init(self, p):
        return ()

    def at(self, t):
        return optim.Scalars()

    def update(self, g, state, p, k):
        return g.abs() + p, ()


class Beyond(Descent):
    """Looks at how much it is given."""

    def update(self, g, state, p, k):
        return g.abs() + p / p.numel() * g.numel(), ()


@pytest.mark.parametrize(
    ("rule", "backend", "largest"),
    [(Descent, "eager", 1 << 16), (Descent, "reference", 200_003), (Beyond, "eager", 200_003)],
)
def test_eager_takes_a_large_tensor_in_pieces_that_the_cache_holds(rule, backend, largest, monkeypatch):
    plain, turned = nn.Parameter(torch.zeros(200_003)), nn.Parameter(torch.zeros(300, 400).t())
    optimizer = optim.Custom([plain, turned], optim.chain(rule()), backend=backend)
    sizes: list[int] = []
    update = Chain.update

    def seen(chain, g, *rest):
        if isinstance(g, torch.Tensor):  # and no symbol, of which kernels are made
            sizes.append(g.numel())
        return update(chain, g, *rest)

    monkeypatch.setattr(Chain, "update", seen)
    plain.grad = torch.linspace(-1.0, 1.0, 200_003)
    turned.grad = torch.linspace(-1.0, 1.0, 120_000).reshape(300, 400).t()
    wanted = [-p.grad.abs() for p in (plain, turned)]
    optimizer.step()
    assert max(sizes) == largest
    assert sum(sizes) == 320_003
    assert torch.equal(plain.detach(), wanted[0])
    assert torch.equal(turned.detach(), wanted[1])
