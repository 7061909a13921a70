"""Sparse gradients: rows that they name take the step of torch's optimizers, the others stay as they are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from tests.optim.peers import agree, step

Given = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own AdaGrad asks for it

SAME: list[tuple[str, Given]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("SparseAdam", {"lr": 0.1}),
    ("SparseAdam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "maximize": True}),
]


def table(dtype: torch.dtype = torch.float64, rows: int = 7, width: int = 3) -> nn.Parameter:
    draw = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(rows, width, generator=draw, dtype=torch.float64).to(dtype))


def sparse(p: Tensor, rows: list[int], seed: int = 0) -> Tensor:
    """A hybrid gradient with a row of values for each of `rows`, which may be named twice."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(rows), *p.shape[1:], generator=draw, dtype=torch.float64).to(p.dtype)
    return torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.int64), values, p.shape, check_invariants=True
    )


NAMED = [[0, 3], [3, 3, 5], [], [6, 0, 6, 6], [1]]


def drawn(p: Tensor, steps: int = 10) -> list[list[Tensor]]:
    return [[sparse(p, NAMED[t % len(NAMED)], t)] for t in range(steps)]


@pytest.mark.parametrize(("name", "given"), SAME, ids=[f"{n} {list(g)}" for n, g in SAME])
@pytest.mark.parametrize("backend", [None, "reference", "eager"])
def test_duplicates_and_empty_gradients_step_as_torch(name: str, given: Given, backend: str | None) -> None:
    ours, theirs = table(), table()
    step(getattr(optim, name)([ours], backend=backend, **given), [ours], drawn(ours))
    step(getattr(torch.optim, name)([theirs], **given), [theirs], drawn(theirs))
    agree([ours], [theirs], 1e-12)


@pytest.mark.parametrize(("name", "given"), SAME, ids=[f"{n} {list(g)}" for n, g in SAME])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2)])
def test_indices_of_every_element_step_as_in_torch(name: str, given: Given, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=draw, dtype=torch.float64)
    rows = [
        [
            (
                torch.randn(shape, generator=draw, dtype=torch.float64)
                * (torch.rand(shape, generator=draw) > 0.5)
            )
        ]
        for _ in range(6)
    ]
    made = [[g.to_sparse()] for (g,) in rows]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    step(getattr(optim, name)([ours], **given), [ours], made)
    step(getattr(torch.optim, name)([theirs], **given), [theirs], made)
    agree([ours], [theirs], 1e-12)


def lazy_adam(p: np.ndarray, given: list[Tensor], lr: float, b1: float, b2: float, eps: float) -> np.ndarray:
    """Kingma and Ba's algorithm 1 on the rows of each gradient alone, in float64."""
    p, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(given, 1):
        named = sorted({int(i) for i in g._indices()[0]})
        dense = g.to_dense().numpy()
        for i in named:
            m[i] = b1 * m[i] + (1 - b1) * dense[i]
            v[i] = b2 * v[i] + (1 - b2) * dense[i] ** 2
            p[i] -= lr * m[i] / (1 - b1**t) / (np.sqrt(v[i] / (1 - b2**t)) + eps)
    return p


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_takes_its_own_step_on_the_rows_that_are_named(amsgrad: bool) -> None:
    p = table()
    given = drawn(p, 20)
    wanted = lazy_adam(p.detach().numpy(), [g for (g,) in given], 0.1, 0.9, 0.5, 1e-3)
    step(optim.Adam([p], lr=0.1, betas=(0.9, 0.5), eps=1e-3, amsgrad=amsgrad), [p], given)
    same = np.abs(p.detach().numpy() - wanted).max() < 1e-12
    assert same != amsgrad


def test_adam_and_sparse_adam_differ_in_eps_alone() -> None:
    first, second = table(), table()
    step(optim.Adam([first], lr=0.1, eps=0.0), [first], drawn(first))
    step(optim.SparseAdam([second], lr=0.1, eps=0.0), [second], drawn(second))
    agree([first], [second], 1e-12)
    with_eps = table()
    step(optim.Adam([with_eps], lr=0.1, eps=1e-2), [with_eps], drawn(with_eps))
    other = table()
    step(optim.SparseAdam([other], lr=0.1, eps=1e-2), [other], drawn(other))
    assert not torch.allclose(with_eps, other, atol=1e-3)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "SparseAdam", "AdamW"])
def test_rows_that_no_gradient_names_stay_bit_for_bit(name: str) -> None:
    p = table()
    before = p.detach().clone()
    given = {"weight_decay": 0.0} if name == "AdamW" else {}
    optimizer = getattr(optim, name)([p], lr=0.1, **given)
    step(optimizer, [p], [[sparse(p, [1, 4], t)] for t in range(4)])
    assert torch.equal(p[[0, 2, 3, 5, 6]], before[[0, 2, 3, 5, 6]])
    assert not (p[[1, 4]] == before[[1, 4]]).any()
    for key in optimizer.state[p].keys() - {"step"}:
        assert (optimizer.state[p][key][[0, 2, 3, 5, 6]] == 0).all()


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_where_zeros_move_nothing_sparse_and_dense_are_the_same(name: str) -> None:
    lazy, dense = table(), table()
    given = drawn(lazy)
    step(getattr(optim, name)([lazy], lr=0.1), [lazy], given)
    step(getattr(optim, name)([dense], lr=0.1), [dense], [[g.to_dense()] for (g,) in given])
    agree([lazy], [dense], 1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_gradients_may_change_between_sparse_and_dense(name: str) -> None:
    ours, theirs = table(), table()
    given = [[g if t % 3 else g.to_dense()] for t, (g,) in enumerate(drawn(ours, 9))]
    step(getattr(optim, name)([ours], lr=0.1), [ours], given)
    step(getattr(torch.optim, name)([theirs], lr=0.1, foreach=False), [theirs], given)
    agree([ours], [theirs], 1e-12)


def test_adam_goes_from_sparse_to_dense_with_one_state() -> None:
    p = table()
    optimizer = optim.Adam([p], lr=0.1)
    step(optimizer, [p], [[sparse(p, [0, 1])], [torch.ones_like(p)], [sparse(p, [2])]])
    assert int(optimizer.state[p]["step"]) == 3
    assert ((optimizer.state[p]["exp_avg"][3:] - 0.1).abs() < 1e-15).all()


def test_a_table_and_a_dense_parameter_in_one_group_step_each_in_its_way() -> None:
    found = []
    for make in (optim.Adagrad, torch.optim.Adagrad):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten(), nn.Linear(12, 2)).double()
        optimizer = make(model.parameters(), lr=0.1)
        for t in range(5):
            words = torch.randint(0, 9, (6, 3), generator=torch.Generator().manual_seed(t))
            optimizer.zero_grad()
            model(words).square().sum().backward()
            optimizer.step()
        found.append(list(model.parameters()))
        if make is optim.Adagrad:
            assert {row.backend for row in optimizer.plan().rows} == {"rows", "native"}
    agree(*found, 1e-12)


def test_states_go_over_to_torch_and_back() -> None:
    theirs = table()
    begun = torch.optim.SparseAdam([theirs], lr=0.1)
    step(begun, [theirs], drawn(theirs, 4))
    ours = nn.Parameter(theirs.detach().clone())
    taken = optim.SparseAdam([ours], lr=0.5)
    taken.load_state_dict(copy.deepcopy(begun.state_dict()))
    step(taken, [ours], drawn(ours))
    step(begun, [theirs], drawn(theirs))
    agree([ours], [theirs], 1e-12)
    saved = taken.state_dict()
    assert type(saved["state"][0]["step"]) is int
    back = nn.Parameter(ours.detach().clone())
    again = torch.optim.SparseAdam([back], lr=0.5)
    again.load_state_dict(copy.deepcopy(saved))
    step(again, [back], drawn(back))
    step(taken, [ours], drawn(ours))
    agree([ours], [back], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_named_often_is_added_up_before_it_is_rounded(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.zeros(2, dtype=dtype))
    g = torch.sparse_coo_tensor(
        torch.zeros(1, 300, dtype=torch.int64), torch.ones(300, dtype=dtype), (2,), check_invariants=True
    )
    step(optim.SGD([p], lr=1.0), [p], [[g]])
    assert p.tolist() == [-300.0, 0.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: optim.SGD(p, momentum=0.9), "HeavyBall moves [^\n]*sparse=False[^\n]*momentum=0$"),
        (lambda p: optim.SGD(p, weight_decay=0.1), "CoupledDecay moves [^\n]*weight_decay=0$"),
        (optim.AdamW, "DecoupledDecay moves [^\n]*weight_decay=0$"),
        (optim.RMSprop, "ScaleByRms moves [^\n]*sparse=False in the embedding$"),
        (lambda p: optim.Adam(p, backend="native"), "^backend='native'[^\n]*use backend=None$"),
    ],
)
def test_a_rule_that_moves_every_row_refuses_in_one_line(make: Any, words: str) -> None:
    p = table()
    with pytest.raises(RecipeError, match=words):
        step(make([p]), [p], [[sparse(p, [1])]])


def test_all_that_moves_is_named_and_what_cannot_be_switched_off_gets_no_setting() -> None:
    p = table()
    chain = optim.chain(optim.CoupledDecay(weight_decay=0.1), optim.ScaleByRms(), optim.ScaleByLr(lr=0.1))
    with pytest.raises(
        RecipeError, match=r"CoupledDecay and ScaleByRms move rows .*=False in the embedding$"
    ):
        step(optim.Custom([p], chain), [p], [[sparse(p, [1])]])


CLIPS = {
    "norm": optim.ClipNorm(max_norm=0.5),
    "norm of each": optim.ClipTensor(max_tensor_norm=0.5),
    "value": optim.ClipValue(clip_value=0.1),
}


@pytest.mark.parametrize("clip", CLIPS)
def test_clipped_rows_are_those_of_the_clipped_dense_gradient(clip: str) -> None:
    lazy, dense, beside = table(), table(), (table(rows=2), table(rows=2))
    chain = optim.chain(CLIPS[clip], optim.ScaleBySum(), optim.ScaleByLr(lr=0.1))
    given = drawn(lazy)
    other = [torch.full_like(beside[0], 0.3)]
    step(optim.Custom([lazy, beside[0]], chain), [lazy, beside[0]], [[*row, *other] for row in given])
    rows = [[g.to_dense(), *other] for (g,) in given]
    step(optim.Custom([dense, beside[1]], chain), [dense, beside[1]], rows)
    agree([lazy, beside[0]], [dense, beside[1]], 1e-13)


def test_the_plan_says_rows_while_the_gradient_is_sparse() -> None:
    p = table()
    optimizer = optim.Adam([p])
    assert optimizer.plan().rows[0].backend == "native"
    p.grad = sparse(p, [1])
    assert optimizer.plan().rows[0].backend == "rows"
