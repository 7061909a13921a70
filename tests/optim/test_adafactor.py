"""Adafactor under the contract, beside torch's, and where the two differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.optim import Adafactor, Custom, ScaleByFactors, chain
from downslope.optim.factored import PIECE
from downslope.testing import Case, Descent, Hand, RuleContract, run
from tests.optim import recurrences

SHAPES = ((3, 2), (7,), (), (4, 3, 2), (4, 2, 3, 2))
"""Of few families, as each is a kernel to build."""


def case(name: str, matrix: bool = False, proofs: dict[str, Any] | None = None, **settings: Any) -> Case:
    factor = "matrix" if matrix else "last"
    return Case(
        name,
        lambda params, backend: Adafactor(params, **settings, factor=factor, backend=backend),
        lambda p, grads: recurrences.adafactor(p, grads, matrix=matrix, **settings),
        None if matrix else lambda params: torch.optim.Adafactor(params, foreach=False, **settings),
        shapes=SHAPES,
        **(proofs or {}),
    )


# With W = [[1, 2], [3, 4]], RMS(W) = sqrt(7.5); the first gradient has rank 1, so that U is 1 everywhere.
# The second is I: b = 1 - 2**-.8 = .42565082, R = C = (1.35130165, 4.54368281), V = R C / 2.94749223.
BY_HAND = Hand(
    after=(
        [[0.972613872125, 1.972613872125], [2.972613872125, 3.972613872125]],
        [[0.938137179880, 1.972613872125], [2.972613872125, 3.962360425118]],
    ),
    start=[[1.0, 2.0], [3.0, 4.0]],
    gradients=([[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]),
)


class TestAdafactor(RuleContract):
    cases = (
        case(
            "plain",
            proofs={
                "hand": BY_HAND,
                "invariances": ("odd", "scale"),
                "equals": {
                    "chain": lambda params, backend: Custom(params, chain(ScaleByFactors()), backend=backend)
                },
                "descents": (Descent("quadratic", 300, 1e-3, lr=0.1), Descent("rosenbrock", 2000, 1.0)),
            },
        ),
        case("decay", lr=0.05, weight_decay=0.1, d=1.5, beta2_decay=-0.6),
        case("eps", eps=(0.3, 0.5), maximize=True),
        case("matrix", matrix=True, lr=0.03, weight_decay=0.02),
    )


def stepped(optimizer: type[torch.optim.Optimizer], shape: tuple[int, ...], **settings: Any) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    p = nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=draw))
    grads = [[torch.randn(shape, dtype=torch.float64, generator=draw)] for _ in range(3)]
    run(optimizer([p], **settings), grads)
    return p.detach()


@pytest.mark.parametrize("backend", ["reference", "eager", None])
@pytest.mark.parametrize("shape", [(300, 400), (3, 250, 300), (130, 40, 3, 3), (4, 3, 20, 30), (100_000,)])
def test_tensors_that_are_cut_take_the_step_of_torch(shape: tuple[int, ...], backend: str | None) -> None:
    assert torch.Size(shape).numel() > PIECE["cpu"] or len(shape) == 4
    ours = stepped(Adafactor, shape, weight_decay=0.1, backend=backend)
    torch.testing.assert_close(
        ours, stepped(torch.optim.Adafactor, shape, weight_decay=0.1), rtol=0, atol=1e-13
    )


def test_state_is_that_of_the_factors() -> None:
    params = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    kept = {"last": [5, 7, 1, 4 * 5, 4 * 2 * 5], "matrix": [5, 7, 1, 4 + 6, 4 + 12]}
    for factor, sizes in kept.items():
        optimizer = Adafactor(params, factor=factor)
        run(optimizer, [[torch.ones(shape) for shape in SHAPES]])
        states = [optimizer.state[p] for p in params]
        assert [set(state) for state in states] == [
            {"step", *(("row_var", "col_var") if p.ndim > 1 else ("variance",))} for p in params
        ]
        assert [sum(v.numel() for k, v in s.items() if k != "step") for s in states] == sizes


def test_every_dtype_has_its_own_eps() -> None:
    """Torch takes that of the first parameter for all, and 2**-7 for bfloat16's."""
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    params = [nn.Parameter(torch.ones(3, dtype=dtype)) for dtype in dtypes]
    run(Adafactor(params), [[torch.full_like(p, 1e-9) for p in params]])
    # U = g / max(|g|, eps1), and the step is .01 U.
    for p, share in zip(params, (1e-9 / 2**-23, 1.0, 1e-9 / 2**-23), strict=True):
        assert float(p.detach()[0]) == pytest.approx(1 - 0.01 * share, rel=torch.finfo(p.dtype).eps)


def test_a_row_of_zeros_and_no_gradient_at_all_stay_finite() -> None:
    for backend in ("reference", "eager", None):
        p = nn.Parameter(torch.ones(4, 3))
        g = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
        g[1] = 0.0
        optimizer = Adafactor([p], backend=backend)
        run(optimizer, [[torch.zeros(4, 3)], [g]])
        assert torch.isfinite(p).all()
        assert torch.equal(p[1], torch.ones(3))


def test_a_gradient_that_is_not_finite_stays_in_its_matrix() -> None:
    """As in torch: where RMS(U) is NaN, nothing is cut."""
    results: list[Tensor] = []
    for kind, settings in ((Adafactor, {}), (Adafactor, {"backend": "eager"}), (torch.optim.Adafactor, {})):
        p = nn.Parameter(torch.ones(2, 3, 3))
        g = torch.ones(2, 3, 3)
        g[0, 1, 1] = torch.nan
        run(kind([p], **settings), [[g]])
        results.append(p.detach())
    assert results[0][0].isnan().all()
    for ours in results[:-1]:
        torch.testing.assert_close(ours, results[-1], equal_nan=True)


def test_weights_in_another_order_of_memory_are_stepped_too() -> None:
    shape = (8, 6, 3, 3)
    plain = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for factor in ("last", "matrix"):
        for p in (plain, last):
            run(Adafactor([p], factor=factor), [[g], [2 * g]])
        torch.testing.assert_close(plain, last)


def test_settings_changed_in_the_group_count() -> None:
    p, q = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    ours, theirs = Adafactor([p]), torch.optim.Adafactor([q])
    for eps, d in (((None, 1e-3), 1.0), ((0.5, 0.1), 2.0), ((None, 1e-3), 1.0)):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0].update(eps=eps, d=d)
            run(optimizer, [[torch.eye(3)]])
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta2_decay": 0.1}, "beta2_decay=0.1: must lie in"),
        ({"d": 0.5}, "d=0.5: must lie in"),
        ({"eps": (-1.0, 1e-3)}, r"eps\[0\]=-1: must lie in"),
        ({"eps": (None, None)}, r"eps\[1\]=None: must be a number"),
        ({"eps": 1e-8}, "eps=1e-08: must be two numbers"),
        ({"factor": "largest"}, "factor='largest': must be one of 'last', 'matrix'"),
        ({"lr": torch.tensor([0.1, 0.2])}, "lr is a tensor of shape .2,.: Adafactor takes one number"),
    ],
)
def test_what_lies_outside_of_a_domain_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Adafactor([nn.Parameter(torch.zeros(2, 2))], **given)
