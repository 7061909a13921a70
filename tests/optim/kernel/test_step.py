"""A kernel steps as the rules do: on every number, length, layout and thread, wherever the tensors lie."""

from __future__ import annotations

import gc
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import Custom, Rule, Scalars, ScaleByLr, chain
from downslope.optim.kernel.table import PIECE
from downslope.optim.kernel.threads import GRAIN

ODD = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 1e-40, 1e30, -1e30, 3e19]

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "2 - a": lambda a, b: 2 - a,
    "1 / a": lambda a, b: 1.0 / a,
    "-a": lambda a, b: -a,
    "sqrt": lambda a, b: a.sqrt(),
    "abs": lambda a, b: a.abs(),
    "sign": lambda a, b: a.sign(),
    "square": lambda a, b: a.square(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where >": lambda a, b: torch.where(a > b, a, 2.0),
    "where <=": lambda a, b: torch.where(a <= 0.0, b, a),
    "mask": lambda a, b: (a >= b).float() * 3.0,
    "mask without float": lambda a, b: a * (b < 1.0),
    "both": lambda a, b: torch.where((a > 0.0) & ~(b > 0.0), 1.0, 0.0),
    "a / sqrt": lambda a, b: a / b.sqrt(),
    "sqrt / sqrt * a": lambda a, b: a.abs().sqrt() / b.abs().sqrt() * a,
    "small * (a * a)": lambda a, b: 1e-30 * (a * a),
    "x - x": lambda a, b: a - a,
    "literal infinity": lambda a, b: torch.minimum(a, b + float("inf")),
}


Held = NamedTuple("Held", [(f"out{i}", Tensor) for i in range(len(OPERATORS))])


class Remembers(Rule):
    """Keeps what every operator makes of g and p."""

    memory: ClassVar = Held
    keys: ClassVar = Held._fields

    def init(self, p):
        return Held(*(torch.zeros_like(p) for _ in OPERATORS))

    def at(self, t):
        return Scalars()

    def update(self, g, state, p, k):
        return g - g, Held(*(operator(g, p) for operator in OPERATORS.values()))


def odd(n, shift, dtype):
    """`n` numbers in which every pair of `ODD` stands at some place for shifts 0 and 1."""
    return torch.tensor([ODD[(i // len(ODD) if shift else i) % len(ODD)] for i in range(n)], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_operator_gives_what_torch_gives_on_every_number(dtype):
    lengths = (1, 3, 8, 17, 169, 341)
    found = {}
    for backend in ("reference", "kernel"):
        params = [nn.Parameter(odd(n, 1, dtype)) for n in lengths]
        optimizer = Custom(params, chain(Remembers()), backend=backend)
        for p, n in zip(params, lengths, strict=True):
            p.grad = odd(n, 0, dtype)
        optimizer.step()
        found[backend] = [[optimizer.state[p][key] for p in params] for key in Held._fields]
    wrong = [
        name
        for name, *pair in zip(OPERATORS, found["kernel"], found["reference"], strict=True)
        if not all(
            torch.equal(ours.isnan(), theirs.isnan())
            and torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
            for ours, theirs in zip(*pair, strict=True)
        )
    ]
    assert wrong == []


LENGTHS = (0, 1, 2, 5, 31, 64, 100, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 77)


def after(make, lengths=LENGTHS, dtype=torch.float32, steps=3, prepared=lambda params: None):
    draw = torch.Generator().manual_seed(3)
    params = [nn.Parameter(torch.randn(n, generator=draw, dtype=torch.float64).to(dtype)) for n in lengths]
    prepared(params)
    optimizer = make(params)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw, dtype=torch.float64).to(dtype)
        optimizer.step()
    return params, optimizer


def adam(backend, **settings):
    return lambda params: optim.Adam(
        params, **{"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1} | settings, backend=backend
    )


def lamb(backend):
    return lambda params: optim.LAMB(params, lr=0.1, weight_decay=0.1, backend=backend)


def clipped(backend):
    return lambda params: Custom(
        params, chain(optim.ClipNorm(max_norm=1.0), ScaleByLr(lr=0.1)), backend=backend
    )


def capped(backend):
    return lambda params: Custom(
        params, chain(optim.ClipNormInf(max_norm=0.5), ScaleByLr(lr=0.1)), backend=backend
    )


@pytest.mark.parametrize("make", [adam, lamb, clipped, capped], ids=["adam", "lamb", "clip", "clip inf"])
@pytest.mark.parametrize(
    ("dtype", "slack"),
    [(torch.float32, 2e-6), (torch.float64, 1e-14), (torch.bfloat16, 2**-6)],
    ids=["float32", "float64", "bfloat16"],
)
def test_every_length_steps_as_the_rule(make, dtype, slack):
    ours, _ = after(make("kernel"), dtype=dtype)
    theirs, _ = after(make("reference"), dtype=dtype)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=slack, atol=slack)


@pytest.mark.parametrize("make", [adam, lamb, clipped], ids=["adam", "lamb", "clip"])
def test_bits_do_not_hang_on_threads(make):
    lengths = (*LENGTHS, 3 * GRAIN)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(after(make("kernel"), lengths)[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf")], ids=["nan", "-nan", "inf"])
def test_a_largest_element_that_is_not_finite_is_not_lost(bad):
    found = []
    for backend in ("kernel", "reference"):
        params = [nn.Parameter(torch.ones(n)) for n in (70, PIECE + 3)]
        optimizer = capped(backend)(params)
        for p in params:
            p.grad = torch.linspace(-1.0, 1.0, p.numel())
        params[1].grad[PIECE - 5] = bad
        optimizer.step()
        found.append(params)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_climbing_is_descending_on_the_gradient_reversed():
    up, _ = after(adam("kernel", maximize=True, weight_decay=0.0))
    down, _ = after(adam("reference", maximize=True, weight_decay=0.0))
    for a, b in zip(up, down, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_bfloat16_is_rounded_once_and_as_torch_rounds():
    p = nn.Parameter(torch.linspace(-3, 3, 5001).bfloat16())
    start, g = p.detach().float(), torch.linspace(-1, 7, 5001).bfloat16()
    optimizer = optim.GD([p], lr=0.3, backend="kernel")
    p.grad = g.clone()
    p.grad[7] = float("nan")
    optimizer.step()
    wanted = (start.double() - torch.tensor(0.3).double() * g.double()).bfloat16()
    assert p.dtype == torch.bfloat16
    assert p[7].isnan()
    p.data[7] = wanted[7]
    assert torch.equal(p.detach(), wanted)


@pytest.mark.parametrize("layout", ["transposed", "expanded"])
def test_a_gradient_laid_out_otherwise_is_paired_with_the_right_elements(layout):
    found = []
    for backend in ("kernel", "reference"):
        p = nn.Parameter(torch.arange(12.0).reshape(3, 4))
        optimizer = optim.RMSprop([p], lr=0.1, backend=backend)
        for t in range(3):
            if t:
                p.grad = (
                    torch.arange(12.0).reshape(4, 3).t()
                    if layout == "transposed"
                    else torch.ones(4).expand(3, 4)
                )
            else:
                p.grad = torch.ones(3, 4)
            optimizer.step()
        found.append(p)
    torch.testing.assert_close(*found)


def test_tensors_that_moved_between_two_steps_are_found_where_they_are():
    found = []
    for backend in ("kernel", "reference"):
        p, q = nn.Parameter(torch.ones(40)), nn.Parameter(torch.ones(8, 3))
        optimizer = optim.Adam([p, q], lr=0.1, backend=backend)
        for t in range(6):
            p.grad, q.grad = torch.full((40,), 1.0 + t), torch.arange(24.0).reshape(q.shape)
            optimizer.step()
            if t == 1:
                p.data = p.data.clone()
            if t == 2:
                optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].clone() * 2
            if t == 3:
                optimizer.load_state_dict(optimizer.state_dict())
            if t == 4:
                q.data, shape = q.data.t().contiguous().t(), q.shape
                assert q.shape == shape
            gc.collect()
        found.append((p, q))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("before", "after"), [("bfloat16", "float16"), ("float32", "float64"), ("float32", "another state")]
)
def test_a_model_whose_dtype_changed_is_not_read_as_before(before, after):
    p = nn.Parameter(torch.ones(100_000, dtype=getattr(torch, before)))
    optimizer = optim.RMSprop([p], lr=0.5)
    assert optimizer.plan().rows[0].backend == "kernel"
    p.grad = torch.ones_like(p)
    optimizer.step()
    if after == "another state":
        p.data = p.data.clone()
        optimizer.state[p]["square_avg"] = optimizer.state[p]["square_avg"].double()
    else:
        p.data = p.data.to(getattr(torch, after))
    p.grad = torch.ones_like(p)
    optimizer.step()
    twin = nn.Parameter(torch.ones(3, dtype=torch.float64))
    exact = torch.optim.RMSprop([twin], lr=0.5)
    for _ in range(2):
        twin.grad = torch.ones_like(twin)
        exact.step()
    torch.testing.assert_close(p.detach()[:3].double(), twin.detach(), rtol=0.02, atol=0.02)


def test_autograd_hears_of_a_step():
    p = nn.Parameter(torch.ones(3))
    loss = (p * p * p).sum()
    p.grad = torch.ones(3)
    optim.RMSprop([p], backend="kernel").step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gaps_in_memory_are_refused_when_asked_for_and_left_to_torch_otherwise():
    p = nn.Parameter(torch.ones(100_000, 2)[:, 0])
    p.grad = torch.ones(100_000)
    with pytest.raises(RecipeError, match=r"^backend='kernel': a kernel needs tensors without gaps[^\n]*$"):
        optim.RMSprop([p], backend="kernel").step()
    assert optim.RMSprop([p]).plan().rows[0].backend == "eager"


def test_a_switch_that_is_turned_makes_another_kernel():
    rows = []
    for backend in ("kernel", "reference"):
        p = nn.Parameter(torch.ones(5))
        optimizer = optim.SGD([p], lr=0.1, momentum=0.9, backend=backend)
        for t in range(4):
            p.grad = torch.full((5,), 1.0 + t)
            optimizer.param_groups[0]["nesterov"] = t >= 2
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + t)
            optimizer.step()
        rows.append(p)
    torch.testing.assert_close(*rows)


def test_size_and_settings_choose_the_kernel():
    def backend(shapes, **settings):
        (row,) = optim.RMSprop([nn.Parameter(torch.zeros(s)) for s in shapes], **settings).plan().rows
        return row.backend

    assert backend([(99_999,)]) == "eager"
    assert backend([(99_999,), (1,)]) == "kernel"
    assert backend([(2,)] * 99) == "eager"
    assert backend([(2,)] * 100) == "kernel"
    assert backend([(2,)], backend="kernel") == "kernel"
    assert optim.Adam([nn.Parameter(torch.zeros(200_000))]).plan().rows[0].backend == "native"
    assert optim.NAdam([nn.Parameter(torch.zeros(200_000))]).plan().rows[0].backend == "kernel"


def test_totals_are_exact_where_float32_would_lose_them():
    draw = torch.Generator().manual_seed(1)
    p = nn.Parameter(torch.zeros(300_001))
    p.grad = 1.0 + torch.rand(p.shape, generator=draw)
    optimizer = Custom([p], chain(optim.ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0)), backend="kernel")
    g = p.grad.clone()
    optimizer.step()
    wanted = -g.double() / (g.double().norm() + 1e-6)
    torch.testing.assert_close(p.detach(), wanted.float(), rtol=2e-7, atol=0.0)


def test_states_of_small_tensors_lie_side_by_side_and_are_saved_as_ever(tmp_path):
    def made():
        params = [nn.Parameter(torch.ones(3, 7).t()) for _ in range(60)]
        params += [
            nn.Parameter(torch.ones(70_000)),
            nn.Parameter(torch.ones(4000)),
            nn.Parameter(torch.ones(())),
        ]
        return params, optim.NAdam(params, lr=0.1, backend="kernel")

    def step(params, optimizer, times):
        for t in range(times):
            for i, p in enumerate(params):
                p.grad = torch.full_like(p, 1.0 + t + i)
            optimizer.step()

    (straight, whole), (params, optimizer) = made(), made()
    step(straight, whole, 5)
    step(params, optimizer, 3)
    places = {optimizer.state[p]["exp_avg"].untyped_storage().data_ptr() for p in params}
    assert len(places) == 2
    assert all(optimizer.state[p]["exp_avg"].stride() == p.stride() for p in params)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    others, after = made()
    for p, q in zip(others, params, strict=True):
        p.data.copy_(q.data)
    after.load_state_dict(torch.load(tmp_path / "state.pt"))
    step(others, after, 3)
    step(params, optimizer, 3)
    for p, q, r in zip(others, params, straight, strict=True):
        assert torch.equal(p, q)
        assert p.shape == r.shape
    assert (tmp_path / "state.pt").stat().st_size < 2.2 * 4 * sum(p.numel() for p in params) + 60_000


def test_a_parameter_that_waits_keeps_its_state_beside_those_that_step():
    found = []
    for backend in ("kernel", "reference"):
        params = [nn.Parameter(torch.ones(5)) for _ in range(4)]
        optimizer = optim.NAdam(params, lr=0.1, backend=backend)
        for t in range(6):
            for i, p in enumerate(params):
                p.grad = torch.full((5,), 1.0 + t) if (t + i) % 3 else None
            optimizer.step()
        found.append(params)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
