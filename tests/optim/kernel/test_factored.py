"""Adafactor's own loops: every family of shapes, any number of threads, weights that move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.optim import Adafactor
from downslope.optim.kernel.factored import BAND, PIECE, WHOLE
from downslope.optim.kernel.factored_texts import UNROLLED
from downslope.optim.kernel.store import missing
from downslope.testing import run

pytestmark = pytest.mark.skipif(missing() is not None, reason="numba makes kernels")

SHAPES = {
    "tiny": (PIECE // 6 + 5, 2, 3, 2),
    "matrices": (40, 30, 5, 4),
    "rows": (2, 290, 310),
    "one row": (1, WHOLE + 1),
    "tall": (WHOLE, 2),
    "vector": (2 * PIECE + 3,),
}


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stepped(backend: str, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    params = [nn.Parameter(drawn(shape, i).to(dtype)) for i, shape in enumerate(shapes)]
    given = [[drawn(shape, 10 * t + i).to(dtype) for i, shape in enumerate(shapes)] for t in range(3)]
    optimizer = Adafactor(params, lr=0.05, weight_decay=0.1, backend=backend)
    run(optimizer, given)
    states = [optimizer.state[p][key] for p in params for key in sorted(optimizer.state[p])]
    return [*(p.detach() for p in params), *states]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shapes_of_every_family_take_the_rules_step(shape: tuple[int, ...]) -> None:
    for ours, rule in zip(
        stepped("kernel", [shape], torch.float64), stepped("reference", [shape], torch.float64), strict=True
    ):
        torch.testing.assert_close(ours, rule, rtol=1e-13, atol=1e-13)


def test_shapes_are_of_the_families_that_they_are_named_after() -> None:
    sizes = {name: shape[-1] * shape[-2] for name, shape in SHAPES.items() if len(shape) > 1}
    assert sizes.pop("tiny") <= UNROLLED < sizes.pop("matrices") <= WHOLE < min(sizes.values())
    assert sizes["rows"] > BAND


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
    shape, twin = SHAPES["vector"], nn.Parameter(drawn(SHAPES["vector"], 0))
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


def test_nan_stays_in_its_matrix_and_zeros_stay() -> None:
    p, g = nn.Parameter(torch.ones(3, 3, 2, dtype=torch.float64)), drawn((3, 3, 2), 0)
    g[1], g[2, 0, 0] = 0.0, torch.nan
    run(Adafactor([p], backend="kernel"), [[g]])
    assert torch.isfinite(p[0]).all()
    assert torch.equal(p[1], torch.ones_like(p[1]))
    assert p[2].isnan().all()


def test_an_empty_parameter_is_left_alone() -> None:
    empty, p = nn.Parameter(torch.zeros(0, 3, 2)), nn.Parameter(torch.ones(3, 2))
    run(Adafactor([empty, p], backend="kernel"), [[torch.zeros(0, 3, 2), torch.ones(3, 2)]])
    torch.testing.assert_close(p.detach(), torch.full((3, 2), 0.99))


def test_weights_that_are_not_contiguous_are_refused_and_said() -> None:
    p = nn.Parameter(torch.ones(300, 400).t())
    with pytest.raises(RecipeError, match="not contiguous; use backend=None"):
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
