"""Adafactor's own loops: every family of shapes, any number of threads, weights that move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.optim import Adafactor
from downslope.optim.kernel.factored import BAND, BLOCK, NARROW, SMALL, WHOLE, FactoredStep
from downslope.optim.kernel.factored_texts import UNROLLED
from downslope.optim.kernel.store import missing
from downslope.testing import run

pytestmark = pytest.mark.skipif(missing() is not None, reason="numba makes kernels")

SHAPES = {
    "vector": (3001,),
    "vector in pieces": (WHOLE + 3,),
    "ones": (50, 61, 1, 1),
    "ones in pieces": (WHOLE + 5, 1, 1),
    "tiny": (2051, 3, 3),
    "tiny in pieces": (WHOLE // 9 + 5, 3, 3),
    "lanes": (11, 10, 5, 5),
    "lanes in pieces": (WHOLE // 49 + 7, 7, 7),
    "narrow lanes": (9, 20, 3),
    "matrices": (7, 5, 5),
    "a matrix": (300, 317),
    "matrices in pieces": (3, 250, 260),
    "rows": (2, 390, 410),
    "one row": (1, WHOLE + 1),
    "tall": (WHOLE, 2),
}
"""By family, and whether they are cut."""


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stepped(
    backend: str,
    shapes: list[tuple[int, ...]],
    dtype: torch.dtype,
    scale: float = 1.0,
    low: float | None = None,
) -> list[Tensor]:
    params = [nn.Parameter(drawn(shape, i).to(dtype)) for i, shape in enumerate(shapes)]
    given = [
        [(scale * drawn(shape, 10 * t + i)).to(dtype) for i, shape in enumerate(shapes)] for t in range(3)
    ]
    optimizer = Adafactor(params, lr=0.05, weight_decay=0.1, eps=(low, 1e-3), backend=backend)
    run(optimizer, given)
    states = [
        state[key] for p in params for state in [optimizer.state[p]] for key in sorted(state) if key != "step"
    ]
    return [*(p.detach() for p in params), *states]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shapes_of_every_family_take_the_rules_step(shape: tuple[int, ...]) -> None:
    for ours, rule in zip(
        stepped("kernel", [shape], torch.float64), stepped("reference", [shape], torch.float64), strict=True
    ):
        torch.testing.assert_close(ours, rule, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_float32_is_float64s_step_but_for_its_rounding(scale: float) -> None:
    """Of small gradients, for which eps1 counts, too."""
    shapes = [shape for name, shape in SHAPES.items() if "pieces" not in name]
    for ours, rule in zip(
        stepped("kernel", shapes, torch.float32, scale, 1e-6),
        stepped("reference", shapes, torch.float64, scale, 1e-6),
        strict=True,
    ):
        torch.testing.assert_close(ours.double(), rule, rtol=5e-6, atol=1e-6 * float(rule.abs().max()))


def test_bfloat16_is_rounded_once() -> None:
    shapes = [SHAPES[name] for name in ("ones", "lanes")]
    for ours, rule in zip(
        stepped("kernel", shapes, torch.bfloat16), stepped("reference", shapes, torch.bfloat16), strict=True
    ):
        # Three steps, each to within one rounding of the largest element.
        torch.testing.assert_close(ours, rule, rtol=2**-7, atol=3 * 2**-8 * float(rule.abs().max()))


@pytest.mark.parametrize("name", ["ones", "lanes", "lanes in pieces"])
def test_small_weights_and_long_updates_have_the_rules_length(name: str) -> None:
    """RMS(p) below eps2 and RMS(U) above d, where kernel or host forms the length."""
    ends: list[Tensor] = []
    for backend in ("kernel", "reference"):
        p = nn.Parameter(1e-6 * drawn(SHAPES[name], 0))
        grads = [[10.0**t * drawn(SHAPES[name], t)] for t in range(3)]
        run(Adafactor([p], eps=(None, 0.01), d=1.2, backend=backend), grads)
        ends.append(p.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-18)


def family(shape: tuple[int, ...]) -> set[tuple[str | tuple[int, int], bool]]:
    """Of which families the tables are and whether their rows are whole tensors."""
    p = torch.zeros(shape)
    states = [p] if p.ndim == 1 else [p.new_zeros(*shape[:-1], 1), p.new_zeros(*shape[:-2], 1, shape[-1])]
    return set(FactoredStep([p], [[state] for state in states], maximize=False).tables)


def test_shapes_are_of_the_families_that_they_are_named_after() -> None:
    lanes = ("lanes", "lanes in pieces", "narrow lanes")
    for name, shape in SHAPES.items():
        first, whole = name.partition(" ")[0], "pieces" not in name
        if first == "tiny":
            assert family(shape) == {((shape[-2], shape[-1]), whole)}
        elif first in ("vector", "ones", "matrices"):
            assert family(shape) == {(first, whole)}
        elif name in lanes:
            assert family(shape) == {("lanes", whole)}
            assert UNROLLED < shape[-1] * shape[-2] <= SMALL
            assert shape[-1] <= NARROW
    assert family(SHAPES["a matrix"]) == {("matrices", True)}
    assert all(family(SHAPES[name]) == {("rows", False)} for name in ("rows", "one row", "tall"))
    assert BAND < 390 * 410
    block = BLOCK // 25 // 32 * 32
    assert 0 < 110 % block < 110, "of lanes, a whole block and a part of one"


def test_scratch_is_small_and_does_not_grow_with_the_tensor() -> None:
    rooms: list[int] = []
    for count in (320, 1 << 14):
        params = [nn.Parameter(torch.ones(count, 5, 5))]
        step = FactoredStep(params, [[torch.zeros(count, 5, 1)], [torch.zeros(count, 1, 5)]], maximize=False)
        rooms.append(step.each + sum(places.size for places in step.places.values()))
    assert max(rooms) < 10 * BLOCK


def test_bits_do_not_hang_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    results: list[list[Tensor]] = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(stepped("kernel", list(SHAPES.values()), torch.float64))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_weights_and_states_that_moved_are_found_again() -> None:
    shape, twin = SHAPES["lanes"], nn.Parameter(drawn(SHAPES["lanes"], 0))
    p = nn.Parameter(twin.detach().clone())
    ours, other = Adafactor([p], backend="kernel"), Adafactor([twin], backend="reference")
    for t in range(4):
        for optimizer in (ours, other):
            run(optimizer, [[drawn(shape, t)]])
        if t == 1:
            p.data = p.data.clone()
        if t == 2:
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))
    torch.testing.assert_close(p, twin, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 5), (5, 29)], ids=str)
def test_nan_stays_in_its_matrix_and_zeros_stay(shape: tuple[int, int]) -> None:
    p, g = nn.Parameter(torch.ones(9, *shape, dtype=torch.float64)), drawn((9, *shape), 0)
    g[1], g[2, 0, 0] = 0.0, torch.nan
    run(Adafactor([p], backend="kernel"), [[g]])
    assert torch.isfinite(p[0]).all()
    assert torch.isfinite(p[3:]).all()
    assert torch.equal(p[1], torch.ones_like(p[1]))
    assert p[2].isnan().all()


def test_an_empty_parameter_is_left_alone() -> None:
    empty, p = nn.Parameter(torch.zeros(0, 3, 2)), nn.Parameter(torch.ones(3, 2))
    run(Adafactor([empty, p], backend="kernel"), [[torch.zeros(0, 3, 2), torch.ones(3, 2)]])
    torch.testing.assert_close(p.detach(), torch.full((3, 2), 0.99))


def test_weights_that_are_not_contiguous_are_refused_and_said() -> None:
    p = nn.Parameter(torch.ones(300, 400).t())
    with pytest.raises(
        RecipeError, match=r"not contiguous \(a parameter of shape \(400, 300\)\); use backend=None"
    ):
        run(Adafactor([p], backend="kernel"), [[torch.ones(400, 300)]])
    row = Adafactor([p]).plan().rows[0]
    assert (row.backend, row.reason) == (
        "eager",
        "torch has no fused kernel for this chain; its loops read rows, and the weights are not contiguous",
    )


def test_gradients_in_another_order_of_memory_are_read_as_they_are_meant() -> None:
    shape = (6, 4, 3, 2)
    p, twin = (nn.Parameter(drawn(shape, 0)) for _ in range(2))
    g = drawn(shape, 1)
    ours, rule = Adafactor([p], backend="kernel"), Adafactor([twin], backend="reference")
    for given in (g, g.contiguous(memory_format=torch.channels_last), g):
        p.grad, twin.grad = given, g.clone()
        ours.step()
        rule.step()
    torch.testing.assert_close(p, twin, rtol=1e-13, atol=1e-13)
