"""Kronecker factors against the dense Fisher block, in the cases in which theory says they are equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective
from downslope.terrain.ground.prediction import Prediction
from downslope.terrain.kronecker import (
    Taps,
    eigenvectors,
    factors_of,
    gradient_of,
    inverse,
    layers_of,
    rows_of,
    second_moment,
    solve,
)


def dense_fisher(model: nn.Module, x: Tensor, curvature: Tensor, params: list[Tensor]) -> Tensor:
    """``J^T H J`` of chosen parameters, H the Hessian of the mean loss by the flat outputs."""
    names = [name for name, p in model.named_parameters() if any(p is each for each in params)]
    held = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(flat: Tensor) -> Tensor:
        cut = torch.split(flat, [held[name].numel() for name in names])
        given = {name: part.reshape(held[name].shape) for name, part in zip(names, cut, strict=True)}
        return torch.func.functional_call(model, held | given, (x,)).flatten()

    jacobian = torch.func.jacrev(outputs)(torch.cat([held[name].flatten() for name in names]))
    return jacobian.T @ curvature @ jacobian


def measured(model: nn.Module, objective: Any, x: Tensor, y: Tensor, sharing: Any = "expand") -> list[Any]:
    """Layer and rows of each exact direction, of every layer."""
    problem = ds.Problem(model=lambda: model, objective=objective, train=(x, y))
    asked, layers = Objective(problem), layers_of(model)
    with Taps(layers) as taps:
        loss = asked(model, (x, y))
    slopes = [taps.slopes(*each) for each in Prediction(loss, asked).exact()]
    return [
        (layer, [list(rows_of(layer, calls, each[i], sharing)) for each in slopes])
        for i, (layer, calls) in enumerate(zip(taps.layers, taps.calls, strict=True))
    ]


def block(layer: Any, rows: list[Any]) -> Tensor:
    """``A (x) G`` in the order of the layer's flat parameters, weight before bias."""
    A = factors_of(rows[0]).A
    G = torch.stack([factors_of(each).G for each in rows]).sum(0)
    size = sum(p.numel() for p in layer.params)
    columns = [
        torch.cat([part.flatten() for part in layer.parts(G @ unit @ A)])
        for unit in (layer.matrix(each) for each in _units(layer, size))
    ]
    return torch.stack(columns, dim=1)


def _units(layer: Any, size: int) -> list[list[Tensor]]:
    eye = torch.eye(size, dtype=torch.float64)
    sizes = [p.numel() for p in layer.params]
    return [
        [part.reshape(p.shape) for part, p in zip(torch.split(row, sizes), layer.params, strict=True)]
        for row in eye
    ]


@pytest.fixture
def draw() -> torch.Generator:
    torch.manual_seed(0)
    return torch.Generator().manual_seed(0)


def test_blocks_of_a_deep_linear_network_under_squared_error_are_exact(draw: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5, bias=False), nn.Linear(5, 2)).double()
    x, y = torch.randn(7, 4, generator=draw).double(), torch.randn(7, 2, generator=draw).double()
    curvature = 2 / 14 * torch.eye(14, dtype=torch.float64)
    for layer, rows in measured(model, "squared_error", x, y):
        truth = dense_fisher(model, x, curvature, layer.params)
        torch.testing.assert_close(block(layer, rows), truth, rtol=1e-10, atol=1e-12)


def test_block_of_one_example_is_exact_under_cross_entropy(draw: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    x, y = torch.randn(1, 4, generator=draw).double(), torch.tensor([2])
    p = model(x).softmax(1).detach()[0]
    for layer, rows in measured(model, "cross_entropy", x, y):
        truth = dense_fisher(model, x, torch.diag(p) - torch.outer(p, p), layer.params)
        torch.testing.assert_close(block(layer, rows), truth, rtol=1e-10, atol=1e-12)


def test_convolution_that_sees_its_whole_input_once_has_the_block_of_a_linear_layer(
    draw: torch.Generator,
) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten()).double()
    x, y = torch.randn(6, 2, 1, 1, generator=draw).double(), torch.randn(6, 3, generator=draw).double()
    curvature = 2 / 18 * torch.eye(18, dtype=torch.float64)
    ((layer, rows),) = measured(model, "squared_error", x, y)
    torch.testing.assert_close(
        block(layer, rows), dense_fisher(model, x, curvature, layer.params), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding="valid", groups=2),
        lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2, padding_mode="circular", bias=False),
        lambda: nn.Conv3d(2, 3, 2, padding=1, padding_mode="replicate"),
    ],
)
def test_rows_of_a_convolution_make_up_its_gradient(make: Any, draw: torch.Generator) -> None:
    conv = make().double()
    dims = len(conv.kernel_size)
    x = torch.randn(3, conv.in_channels, *[6, 7, 5][:dims], generator=draw).double()
    (layer,) = layers_of(conv)
    with Taps([layer]) as taps:
        out = conv(x)
    cotangent = torch.randn(out.shape, generator=draw).double()
    slopes = taps.slopes([out], [cotangent])
    made = layer.parts(gradient_of(rows_of(layer, taps.calls[0], slopes[0])))
    for found, truth in zip(made, torch.autograd.grad(out, layer.params, cotangent), strict=True):
        torch.testing.assert_close(found, truth)


def test_shared_positions_are_summed_before_they_are_squared_under_reduce(draw: torch.Generator) -> None:
    """Of outputs that are the mean over positions of a linear layer, "reduce" has the exact block."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean(1)

    model = Mean().double()
    x, y = torch.randn(5, 4, 3, generator=draw).double(), torch.randn(5, 2, generator=draw).double()
    curvature = 2 / 10 * torch.eye(10, dtype=torch.float64)
    ((layer, rows),) = measured(model, "squared_error", x, y, "reduce")
    truth = dense_fisher(model, x, curvature, layer.params)
    torch.testing.assert_close(block(layer, rows), truth, rtol=1e-10, atol=1e-12)
    ((_, expanded),) = measured(model, "squared_error", x, y, "expand")
    assert (block(layer, expanded) - truth).norm() > 0.1 * truth.norm()


def test_expand_is_exact_where_each_position_has_an_output_of_its_own(draw: torch.Generator) -> None:
    model = nn.Linear(3, 2).double()
    x, y = torch.randn(5, 4, 3, generator=draw).double(), torch.randn(5, 4, 2, generator=draw).double()
    ((layer, rows),) = measured(model, "squared_error", x, y)
    truth = dense_fisher(model, x, 2 / 40 * torch.eye(40, dtype=torch.float64), layer.params)
    torch.testing.assert_close(block(layer, rows), truth, rtol=1e-10, atol=1e-12)


def test_corrected_eigenvalues_are_the_diagonal_of_the_fisher_in_the_basis(draw: torch.Generator) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)).double()
    x, y = torch.randn(6, 1, 3, 3, generator=draw).double(), torch.randn(6, 2, generator=draw).double()
    layer, rows = measured(model, "squared_error", x, y)[0]
    made = eigenvectors(factors_of([part for each in rows for part in each]))
    found = torch.stack([second_moment(each, made.left, made.right) for each in rows]).sum(0)
    truth = dense_fisher(model, x, 2 / 12 * torch.eye(12, dtype=torch.float64), layer.params)
    for o, i in ((0, 0), (1, 3)):
        rank_one = torch.outer(made.left[0, :, o], made.right[0, :, i]).unsqueeze(0)
        direction = torch.cat([part.flatten() for part in layer.parts(rank_one)])
        assert found[0, o, i].item() == pytest.approx((direction @ truth @ direction).item(), rel=1e-9)


def test_damped_solutions_invert_what_they_say(draw: torch.Generator) -> None:
    roots = torch.randn(2, 1, 5, 5, generator=draw).double()
    A, G = roots[0] @ roots[0].mT, roots[1][:, :3] @ roots[1][:, :3].mT
    W, damping = torch.randn(1, 3, 5, generator=draw).double(), 0.3
    factors = factors_of([])._replace(A=A, G=G)
    exact = torch.linalg.solve(
        torch.kron(G[0], A[0]) + damping * torch.eye(15, dtype=torch.float64), W.flatten()
    )
    torch.testing.assert_close(solve(eigenvectors(factors), W, damping).flatten(), exact)
    pi = ((A[0].trace() / 5) / (G[0].trace() / 3)).sqrt()
    root = damping**0.5
    factored = torch.linalg.inv(G[0] + root / pi * torch.eye(3, dtype=torch.float64)) @ W[0]
    factored = factored @ torch.linalg.inv(A[0] + root * pi * torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(solve(inverse(factors, damping), W, damping)[0], factored)
