"""Hessian-vector products against the dense Hessian in float64, and where a second derivative is missing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError, ObjectiveError
from downslope.terrain import Hessian, sharpness


def net(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
        return model, torch.randn(11, 4, dtype=dtype), torch.randint(0, 3, (11,))


def dense(model: nn.Module, loss_of) -> torch.Tensor:
    """The Hessian over the parameters in order, by torch.func, flattened."""
    named = {name: p.detach() for name, p in model.named_parameters()}
    blocks = torch.func.jacrev(torch.func.jacrev(loss_of))(named)
    sizes = {name: p.numel() for name, p in named.items()}
    rows = [torch.cat([blocks[a][b].reshape(sizes[a], sizes[b]) for b in named], 1) for a in named]
    return torch.cat(rows, 0)


def functional_loss(model, x, y):
    return lambda params: nn.functional.cross_entropy(torch.func.functional_call(model, params, (x,)), y)


def test_every_column_is_that_of_the_dense_hessian():
    model, x, y = net()
    wanted = dense(model, functional_loss(model, x, y))
    hessian = Hessian(lambda: nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    columns = torch.stack([hessian.product(e) for e in torch.eye(hessian.size, dtype=torch.float64)], 1)
    assert hessian.exact
    torch.testing.assert_close(columns, wanted, rtol=1e-12, atol=1e-14)


def test_loss_and_gradient_come_along():
    model, x, y = net()
    loss = nn.functional.cross_entropy(model(x), y)
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    hessian = Hessian(lambda: nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    assert hessian.loss == loss.item()
    torch.testing.assert_close(hessian.gradient, wanted)


def test_frozen_parameters_are_left_out_and_unused_ones_are_flat():
    model, x, y = net()
    model[0].bias.requires_grad_(False)
    unused = nn.Parameter(torch.randn(2, dtype=torch.float64))
    params = [*model.parameters(), unused]
    hessian = Hessian(lambda: nn.functional.cross_entropy(model(x), y), params)
    assert hessian.size == 20 + 15 + 3 + 2
    full = dense(model, functional_loss(model, x, y))
    keep = [*range(20), *range(25, 43)]
    v = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    product = hessian.product(v)
    torch.testing.assert_close(product[:38], full[keep][:, keep] @ v[:38])
    assert product[38:].abs().max() == 0


def test_a_linear_loss_and_a_constant_one_have_no_curvature():
    p = nn.Parameter(torch.randn(3))
    for loss in (lambda: p.sum() * 2, lambda: torch.tensor(1.0)):
        assert Hessian(loss, [p]).product(torch.ones(3)).tolist() == [0, 0, 0]


def test_nothing_is_left_behind():
    model, x, y = net()
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    Hessian(lambda: (model(x) * torch.rand(3)).square().mean(), list(model.parameters())).product(
        torch.ones(43)
    )
    sharpness(lambda: nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


class OnceOnly(torch.autograd.Function):
    """A cube whose author forbids a second derivative; torch then gives no error but a curvature of zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_without_a_second_derivative_gradients_are_differenced(dtype, rtol):
    p = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=dtype))
    old = p.detach().clone()
    hessian = Hessian(lambda: OnceOnly.apply(p).sum(), [p])
    v = torch.tensor([1.0, 1.0, -3.0], dtype=dtype)
    torch.testing.assert_close(hessian.product(v), 6 * old * v, rtol=rtol, atol=rtol)
    assert not hessian.exact
    assert torch.equal(p, old)
    assert hessian.product(torch.zeros(3, dtype=dtype)).abs().max() == 0


class Fused(torch.autograd.Function):
    """Half the squares, whose gradient is computed in the forward pass, as fused losses do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.detach().clone())
        return x.square().sum() / 2

    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0].detach() * grad


def test_a_custom_backward_that_loses_curvature_in_silence_is_found_out():
    model, x, _ = net()
    params = list(model.parameters())
    plain = Hessian(lambda: model(x).square().sum() / 2, params)
    fused = Hessian(lambda: Fused.apply(model(x)), params)
    v = torch.randn(43, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert plain.exact
    assert not fused.exact
    torch.testing.assert_close(fused.product(v), plain.product(v), rtol=1e-6, atol=1e-6)


class Twice(torch.autograd.Function):
    """A cube with a backward that can be differentiated again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_a_custom_backward_with_a_graph_stays_exact():
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    hessian = Hessian(lambda: Twice.apply(p).sum(), [p])
    assert hessian.exact
    assert hessian.product(torch.ones(2, dtype=torch.float64)).tolist() == [6, -12]


def test_differences_see_one_draw_of_dropout():
    p = nn.Parameter(torch.linspace(1, 2, 64, dtype=torch.float64))
    hessian = Hessian(lambda: nn.functional.dropout(OnceOnly.apply(p), 0.5).sum(), [p])
    product = hessian.product(torch.ones(64, dtype=torch.float64))
    # Kept units count twice; a second draw would give differences of the size of 1/h.
    kept = product.abs() > 1
    torch.testing.assert_close(product[kept], (12 * p.detach())[kept], rtol=1e-6, atol=0)
    assert 0 < kept.sum() < 64


def test_attention_has_its_exact_curvature():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
        x = torch.randn(3, 5, 8, dtype=torch.float64)
    q = layer.self_attn.in_proj_weight
    hessian = Hessian(lambda: layer(x).square().mean() + layer(x).pow(3).mean(), [q])
    v = torch.randn(hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v /= v.norm()
    step, old, slopes = 1e-5, q.detach().clone(), []
    for sign in (1, -1):
        with torch.no_grad():
            q.copy_(old + sign * step * v.reshape(q.shape))
        loss = layer(x).square().mean() + layer(x).pow(3).mean()
        slopes.append(torch.autograd.grad(loss, q)[0].flatten())
    with torch.no_grad():
        q.copy_(old)
    assert hessian.exact
    torch.testing.assert_close(hessian.product(v), (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_products_see_the_random_numbers_of_the_first_evaluation_whatever_is_drawn_between():
    p = nn.Parameter(torch.linspace(1, 2, 64, dtype=torch.float64))
    hessian = Hessian(lambda: nn.functional.dropout(OnceOnly.apply(p), 0.5).sum(), [p])
    v = torch.ones(64, dtype=torch.float64)
    first = hessian.product(v)
    torch.rand(10)
    assert torch.equal(hessian.product(v), first)


def test_the_fused_attention_that_has_no_second_derivative_is_not_used():
    draw = torch.Generator().manual_seed(0)
    q = nn.Parameter(torch.randn(1, 2, 64, 16, generator=draw))
    k, v = torch.randn(2, 1, 2, 64, 16, generator=draw)
    attend = nn.functional.scaled_dot_product_attention
    hessian = Hessian(lambda: attend(q, k, v).square().mean(), [q])
    hessian.product(torch.ones(hessian.size))
    assert hessian.exact


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_models_have_their_exact_curvature_on_the_cpu(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = kind(3, 4, batch_first=True).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    hessian = Hessian(lambda: model(x)[0].square().mean(), list(model.parameters()))
    v, w = torch.randn(2, hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # A difference of gradients is symmetric only to its rounding.
    torch.testing.assert_close(v @ hessian.product(w), w @ hessian.product(v), rtol=1e-12, atol=1e-14)
    assert hessian.exact


def test_what_is_no_scalar_and_what_cannot_be_trained_is_refused_in_one_line():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(ObjectiveError, match=r"\(3,\)"):
        Hessian(lambda: p * 2, [p])
    with pytest.raises(ObjectiveError, match="float"):
        Hessian(lambda: 3.0, [p])
    with pytest.raises(ModelError, match="no parameter"):
        Hessian(p.sum, [p.detach()])


def test_an_error_of_the_closure_is_the_users_own():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        Hessian(lambda: p @ torch.ones(4), [p])
