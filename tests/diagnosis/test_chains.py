"""Parameters are found behind whatever moves their values, and products are those of torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downslope.diagnosis.chains import Graph, bends, examples, leaf_behind, product

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
W = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
V = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
K = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()


def graph(made: Tensor, *held: Tensor) -> Graph:
    return Graph(made.sum(), {id(each) for each in held})


LAYERS: dict[str, Callable[[], Tensor]] = {
    "x @ w": lambda: X @ W,
    "linear": lambda: functional.linear(X, W.t(), torch.ones(5)),
    "three axes": lambda: X.reshape(3, 4, 6) @ W,
    "einsum": lambda: torch.einsum("bi,ij->bj", X, W),
    "einsum, turned": lambda: torch.einsum("ij,bi->bj", W, X),
    "w' @ x'": lambda: (W.T @ X.T).T,
    "broadcast": lambda: torch.matmul(W.t(), X.reshape(3, 4, 6).transpose(1, 2)).transpose(1, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_given_the_data_and_has_a_row_for_each_unit(name: str) -> None:
    found = graph(LAYERS[name](), W)
    (factor,) = found.factors.values()
    given = examples(factor)
    assert given is not None
    assert (factor.leaf is W, factor.entry, found.whole) == (True, True, True)
    torch.testing.assert_close(given, X)
    torch.testing.assert_close(factor.rows(W.detach()), W.detach().t())


def test_a_single_example_is_a_row_and_a_vector_one_unit() -> None:
    w = torch.randn(6, requires_grad=True)
    for made, rows in ((X @ w, 12), (w @ X[0], 1), ((X * w).sum(1), 12), (X[0] @ w, 1)):
        (factor,) = graph(made, w).factors.values()
        given = examples(factor)
        assert given is not None
        assert (given.shape, factor.rows(w.detach()).shape) == ((rows, 6), (1, 6))


def test_the_rows_of_a_convolution_are_its_channels() -> None:
    (factor,) = graph(functional.conv1d(X.reshape(3, 2, 12), K), K).factors.values()
    assert factor.rows(K.detach()).shape == (4, 6)


@pytest.mark.parametrize("first", [LAYERS["x @ w"], LAYERS["linear"]])
def test_products_are_calculated_as_torch_does(first: Callable[[], Tensor]) -> None:
    hidden = first()
    made = hidden.tanh() @ V
    value = product(made.grad_fn)
    assert value is not None
    torch.testing.assert_close(value, made.detach())
    assert leaf_behind(made.grad_fn) is None


RECTIFIED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.0)),
}


@pytest.mark.parametrize("name", RECTIFIED)
def test_rectifiers_are_known_however_they_are_written(name: str) -> None:
    hidden = RECTIFIED[name](X @ W)
    found = list(bends(graph(hidden @ V, W, V)))
    assert [each.kind for each in found] == ["relu"]
    torch.testing.assert_close(found[0].made, hidden.detach())


def test_a_sigmoid_written_out_is_one_and_a_clamp_of_the_loss_no_activation() -> None:
    hidden = 1 / (1 + torch.exp(-(X @ W)))
    found = list(bends(graph((1 - hidden @ V).clamp(min=0), W, V)))
    assert [each.kind for each in found] == ["sigmoid"]
    torch.testing.assert_close(found[0].made, hidden.detach())


def test_two_parameters_of_a_product_make_no_layer_and_loose_leaves_no_whole() -> None:
    other = torch.randn(5, 6, requires_grad=True)
    assert not graph(W @ other, W, other).factors
    assert not graph(X @ W @ other, W).whole


def test_what_is_added_to_a_layer_is_told_and_whether_that_is_all() -> None:
    b = torch.zeros(5, requires_grad=True)
    found = graph(torch.tanh(X @ W + b) @ V, W, V, b)
    first, last = found.factors.values()
    layers, biases, only = found.added(first)
    assert ([each.leaf is W for each in layers], [each is b for each in biases], only) == (
        [True],
        [True],
        True,
    )
    assert found.added(last)[1:] == ([], True)
    assert not graph(X @ W + X[:, :5], W).added(graph(X @ W, W).factors.popitem()[1])[1]
    residual = graph((X @ W) @ V + X[:, :3], W, V)
    assert not residual.added(list(residual.factors.values())[-1])[2]


def test_data_that_comes_in_beside_the_layers_makes_the_inputs_incomplete() -> None:
    assert graph(torch.relu(X @ W) @ V, W, V).complete()
    assert not graph((X @ W + X[:, :5]) @ V, W, V).complete()
    assert not graph((X @ W * X[:, :5]) @ V, W, V).complete()
    assert graph((X @ W * 2.0) @ V, W, V).complete()
