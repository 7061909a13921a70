"""Functions of tensors of two precisions, against the same in float64 throughout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.widened import Widened

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
Y = torch.tensor([0, 1, 2, 3, 1, 1])
W = torch.tensor([1.0, 5.0, 0.2, 2.0])
RECURRENT = nn.LSTM(4, 4).double()

CODE = {
    "weights of classes": lambda x, w: functional.cross_entropy(x, Y, weight=w),
    "a matrix": lambda x, w: (x @ torch.diag(w)).square().mean(),
    "a constant made there": lambda x, w: (x @ torch.full((4, 4), 0.1)).sum() + (w * x).sum(),
    "a list of them": lambda x, w: torch.stack([x[0], w]).square().sum(),
    "written into": lambda x, w: _filled(x, w).square().sum(),
    "a recurrent start": lambda x, w: (
        RECURRENT(x[:, None], (0.5 * torch.ones(1, 1, 4),) * 2)[0].square().sum()
    ),
    "linear": lambda x, w: functional.linear(x, torch.diag(w), torch.ones(4)).square().mean(),
}


def _filled(x: Tensor, w: Tensor) -> Tensor:
    made = torch.zeros(2, 4)
    made[0] = x[0]
    made[1].copy_(w * x[1])
    made += 0.3
    return made


@pytest.mark.parametrize("name", CODE)
def test_code_that_holds_float32_computes_as_in_float64_throughout(name: str) -> None:
    x = X.clone().requires_grad_()
    with Widened(torch.float64):
        found = CODE[name](x, W)
    torch.set_default_dtype(torch.float64)
    try:
        wanted = CODE[name](x, W.double())
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float64
    slopes = [torch.autograd.grad(each, x)[0] for each in (found, wanted)]
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)  # 0.1 and 0.2 are rounded
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-9)


def test_what_is_asked_for_stays_and_draws_are_the_same_numbers() -> None:
    with Widened(torch.float64):
        assert torch.zeros(2, dtype=torch.float32).dtype == torch.float32
        assert torch.arange(3).dtype == torch.int64
        assert X.float().dtype == torch.float32
        torch.manual_seed(0)
        drawn = torch.randn(5)
    torch.manual_seed(0)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, torch.randn(5).double())
