"""Complex parameters step as pairs of reals, as in torch, whose complex state they share."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core import names
from downslope.core.errors import ModelError
from tests.optim.peers import agree, element_wise, step

Given = dict[str, Any]

CASES: list[tuple[str, Given]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "lr_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.9}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "amsgrad": True}),
]


def parameters(dtype: torch.dtype = torch.complex128) -> list[nn.Parameter]:
    """Complex ones of several shapes and layouts, and a real one among them."""
    draw = torch.Generator().manual_seed(0)
    found = [torch.randn(3, 4, generator=draw, dtype=dtype), torch.randn((), generator=draw, dtype=dtype)]
    found += [
        torch.randn(4, 3, generator=draw, dtype=dtype).t(),
        torch.randn(5, generator=draw, dtype=torch.float64),
    ]
    found += [torch.randn(0, 2, dtype=dtype)]
    return [nn.Parameter(each) for each in found]


def gradients(params: list[nn.Parameter], steps: int = 8) -> list[list[Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [[torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in params] for _ in range(steps)]


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n} {list(g)}" for n, g in CASES])
@pytest.mark.parametrize("backend", [None, "reference", "eager"])
def test_complex_parameters_step_as_in_torch(name: str, given: Given, backend: str | None) -> None:
    ours, theirs = parameters(), parameters()
    first = getattr(optim, name)(ours, backend=backend, **given)
    second = getattr(torch.optim, name)(theirs, foreach=False, **given)
    step(first, ours, gradients(ours))
    step(second, theirs, gradients(theirs))
    agree(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        for key, value in second.state[q].items():
            if key != "step" and value is not None:
                assert first.state[p][key].dtype == value.dtype
                torch.testing.assert_close(first.state[p][key], value)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam"])
@pytest.mark.parametrize("way", ["to torch", "from torch"])
def test_the_state_goes_over_to_torch_and_back(name: str, way: str) -> None:
    given = {"momentum": 0.9} if name == "SGD" else {}
    makers = [getattr(optim, name), getattr(torch.optim, name)]
    first, second = makers if way == "to torch" else makers[::-1]
    params = parameters()
    rows = gradients(params)
    begun = first(params, lr=0.1, **given)
    step(begun, params, rows[:4])
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    taken = second(twins, lr=0.5, **given)
    taken.load_state_dict(copy.deepcopy(begun.state_dict()))
    step(begun, params, rows[4:])
    step(taken, twins, rows[4:])
    agree(params, twins)


@pytest.mark.parametrize("name", element_wise())
def test_every_rule_takes_a_complex_parameter_as_its_pairs(name: str) -> None:
    make: Any = names.resolve("optimizer", name)
    params = parameters()[:3]
    pairs = [nn.Parameter(torch.view_as_real(p.detach()).clone()) for p in params]
    first, second = make(params), make(pairs)
    for row in gradients(params, 5):
        step(first, params, [row])
        step(second, pairs, [[torch.view_as_real(g).clone() for g in row]])
    agree([torch.view_as_real(p.detach()) for p in params], pairs, 1e-14)
    shown = [torch.view_as_real(first.evaluated(p).detach()) for p in params]
    agree(shown, [second.evaluated(q).detach() for q in pairs], 1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_lazily_conjugated_gradient_counts_as_its_value(name: str) -> None:
    ours, theirs = parameters()[:1], parameters()[:1]
    g = torch.randn(3, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    step(getattr(optim, name)(ours, lr=0.1), ours, [[g.conj()]] * 3)
    step(getattr(optim, name)(theirs, lr=0.1), theirs, [[g.conj().resolve_conj()]] * 3)
    agree(ours, theirs, 0.0)


def test_sparse_complex_gradients_step_as_dense_ones() -> None:
    ours, theirs = parameters()[:1], parameters()[:1]
    g = torch.randn(3, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    g[1] = 0
    step(optim.Adagrad(ours, lr=0.1), ours, [[g.to_sparse(1)]] * 3)
    step(optim.Adagrad(theirs, lr=0.1), theirs, [[g]] * 3)
    agree(ours, theirs, 1e-13)


def test_a_parameter_whose_memory_was_exchanged_is_stepped() -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = optim.Adam([p], lr=0.1)
    g = torch.full((3,), 1 + 1j, dtype=torch.complex64)
    step(optimizer, [p], [[g]])
    p.data = torch.ones(3, dtype=torch.complex64)
    step(optimizer, [p], [[g]])
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.9 - 0.1j, dtype=torch.complex64))


def test_the_kernel_of_pairs_is_torchs_own() -> None:
    row = optim.Adam(parameters()).plan().rows[0]
    assert row.backend == "native"
    assert row.reason == "the chain is torch._fused_adam_ (pairs of reals)"


@pytest.mark.parametrize("name", ["Muon", "Shampoo", "SOAP", "Adafactor"])
def test_a_rule_of_matrices_refuses_in_one_line(name: str) -> None:
    with pytest.raises(ModelError, match=r"^parameter 0 is torch.complex128: \w+ takes[^\n]*such as Adam$"):
        getattr(optim, name)(parameters()[:1])


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (torch.zeros(2, dtype=torch.complex64).conj(), "parameter 0 is the lazy conjugate[^\n]*resolve_conj"),
        (torch.zeros(2, 2).to_sparse(), "parameter 0 is itself sparse[^\n]*to_dense"),
    ],
)
def test_what_cannot_be_stepped_is_refused_in_one_line(p: Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        optim.Adam([p.requires_grad_()])
