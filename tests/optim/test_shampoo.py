"""Shampoo under the contract, its roots against SciPy's, and what can go wrong with factors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.blocks import cuts, merged
from downslope.optim.roots import eigen, inverse_root
from downslope.testing import Case, Descent, Hand, RuleContract
from tests.optim import matrix_recurrences

EYE = [[1.0, 0.0], [0.0, 1.0]]
STEPS = ([[3.0, 0.0], [0.0, 4.0]], [[4.0, 0.0], [0.0, 3.0]])
AFTER = ([[0.9, 0.0], [0.0, 0.9]], [[0.82, 0.0], [0.0, 0.84]])

# A root of a factor that has eigenvalues near 0 magnifies the rounding of its entries.
LOOSE = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 0.1}


def case(name, proofs=None, **settings):
    return Case(
        name,
        lambda params, backend: optim.Shampoo(params, **settings, backend=backend),
        lambda p, gradients: matrix_recurrences.shampoo(p, gradients, **settings),
        tolerance=LOOSE,
        shapes=((4, 3), (3,), (2, 3, 2)),
        **(proofs or {}),
    )


class TestShampoo(RuleContract):
    cases = (
        case(
            "paper",
            {
                "hand": Hand(AFTER, EYE, STEPS, tolerance=1e-9),
                "invariances": ("odd", "translation"),
                "descents": (Descent("quadratic", 100, 1e-3, lr=0.5, shape=(3, 2)),),
            },
            lr=0.1,
            betas=(0.0, 1.0),
            merge_dims=False,
            epsilon=1e-9,
        ),
        case(
            "no eps",
            {"invariances": ("scale", "rotation")},
            lr=0.1,
            betas=(0.0, 1.0),
            epsilon=0.0,
            merge_dims=False,
        ),
        case("mean gradient", lr=0.1, betas=(0.9, 0.95), epsilon=1e-3, weight_decay=0.1, merge_dims=False),
        case(
            "every third, grafted on Adam",
            lr=0.1,
            betas=(0.9, 0.99),
            epsilon=1e-3,
            precondition_frequency=3,
            start_preconditioning_step=5,
            grafting="adam",
            momentum=0.5,
            merge_dims=False,
        ),
        case(
            "coupled decay",
            lr=0.1,
            epsilon=1e-3,
            weight_decay=0.1,
            use_decoupled_weight_decay=False,
            grafting="sgd",
            merge_dims=False,
        ),
    )


def walk(optimizer, gradients):
    [p] = optimizer.param_groups[0]["params"]
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


def drawn(*shape, steps=5, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for _ in range(steps)]


@pytest.mark.parametrize("power", [0.25, 0.5, 1 / 6])
def test_inverse_root_is_scipys_of_any_matrix(power):
    g = drawn(6, 6)[0]
    a = g @ g.T
    wanted = scipy.linalg.fractional_matrix_power(a.numpy() + 0.01 * np.eye(6), -power)
    np.testing.assert_allclose(inverse_root(a, power, 0.01).numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_inverse_root_of_low_rank_without_eps_is_that_of_the_pseudo_inverse():
    g = drawn(6, 2)[0]
    a = g @ g.T
    root = inverse_root(a, 0.5)
    np.testing.assert_allclose((root @ root).numpy(), np.linalg.pinv(a.numpy()), rtol=1e-8, atol=1e-10)


def test_rounding_below_zero_is_raised_before_eps_is_added():
    a = torch.diag(torch.tensor([-1e-9, 1.0, 4.0], dtype=torch.float64))
    found = inverse_root(a, 0.5, 1e-4).diagonal()
    torch.testing.assert_close(found, (a.diagonal() + 1e-9 + 1e-4) ** -0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_lapack_is_never_called_on_what_is_not_finite(value, monkeypatch):
    def refused(matrix):
        raise AssertionError("called")

    monkeypatch.setattr(torch.linalg, "eigh", refused)
    assert eigen(torch.full((3, 3), value)) is None
    assert inverse_root(torch.full((3, 3), value), 0.25) is None


def test_lapack_that_fails_is_asked_again_with_a_raised_diagonal(monkeypatch):
    own, asked = torch.linalg.eigh, []

    def moody(matrix):
        asked.append(matrix)
        if len(asked) < 3:
            raise torch.linalg.LinAlgError("failed to converge")
        return own(matrix)

    a = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    monkeypatch.setattr(torch.linalg, "eigh", moody)
    values, _ = eigen(a)
    torch.testing.assert_close(values, a.diagonal())
    assert float(asked[0][0, 0]) == 1.0
    assert 1.0 < float(asked[1][0, 0]) < float(asked[2][0, 0]) < 1.0 + 1e-11


def test_lapack_that_always_fails_leaves_the_last_root(monkeypatch):
    p = nn.Parameter(drawn(3, 3, seed=1)[0])
    optimizer = optim.Shampoo([p], epsilon=1e-3)
    walk(optimizer, drawn(3, 3, steps=2))
    before = optimizer.state[p]["root_0_0"].clone()

    def broken(matrix):
        raise torch.linalg.LinAlgError("failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", broken)
    walk(optimizer, drawn(3, 3, steps=1, seed=2))
    assert torch.equal(optimizer.state[p]["root_0_0"], before)
    assert bool(torch.isfinite(p).all())


def test_on_one_number_it_is_adagrad():
    given = drawn(1, 1, steps=20)
    found = walk(optim.Shampoo([nn.Parameter(torch.ones(1, 1).double())], lr=0.1, betas=(0.0, 1.0)), given)
    theirs = torch.optim.Adagrad([nn.Parameter(torch.ones(1, 1).double())], lr=0.1, eps=0.0)
    torch.testing.assert_close(found, walk(theirs, given), rtol=1e-9, atol=1e-9)


def test_a_large_matrix_is_stepped_block_by_block():
    given = drawn(5, 7, steps=6)
    settings = {"lr": 0.1, "epsilon": 1e-3, "grafting": "adagrad", "merge_dims": False}
    whole = optim.Shampoo([nn.Parameter(torch.zeros(5, 7).double())], max_preconditioner_dim=3, **settings)
    found = walk(whole, given)
    names = {key for key in whole.state[whole.param_groups[0]["params"][0]] if key.startswith("factor")}
    assert names == {f"factor_{block}_{side}" for block in range(6) for side in range(2)}
    for cut in cuts((5, 7), 3):
        p = nn.Parameter(torch.zeros(5, 7).double()[cut].clone())
        alone = walk(optim.Shampoo([p], **settings), [g[cut] for g in given])
        torch.testing.assert_close(found[cut], alone, rtol=1e-12, atol=1e-12)


def test_a_kernel_goes_with_its_inputs():
    given = drawn(6, 2, 3, 3, steps=4)
    settings = {"lr": 0.1, "epsilon": 1e-3}
    found = walk(optim.Shampoo([nn.Parameter(torch.zeros(6, 2, 3, 3).double())], **settings), given)
    flat = optim.Shampoo([nn.Parameter(torch.zeros(6, 18).double())], **settings)
    torch.testing.assert_close(found.view(6, 18), walk(flat, [g.view(6, 18) for g in given]))


@pytest.mark.parametrize(
    ("shape", "limit", "seen"),
    [
        ((64, 3, 3, 3), 512, (64, 27)),
        ((64, 3, 3, 3), 9, (64, 3, 9)),
        ((2, 2), 100, (2, 2)),
        ((1, 7), 10, (7,)),
        ((), 10, (1,)),
        ((4, 1, 1), 10, (4,)),
    ],
)
def test_sides_are_merged_down_to_two(shape, limit, seen):
    assert merged(shape, limit) == seen


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"betas": (1.0, 1.0)}, r"betas\[0\]=1: must lie in"),
        ({"betas": (0.9, 1.1)}, r"betas\[1\]=1.1: must lie in"),
        ({"epsilon": -1.0}, "epsilon=-1: must lie in"),
        ({"max_preconditioner_dim": 0}, "max_preconditioner_dim=0: must be a whole number"),
        ({"precondition_frequency": 1.5}, "precondition_frequency=1.5: must be a whole number"),
        ({"grafting": "lamb"}, "grafting='lamb': must be one of"),
        ({"merge_dims": 1}, "merge_dims=1: must be True or False"),
    ],
)
def test_what_lies_outside_of_a_domain_is_refused(given, said):
    with pytest.raises(RecipeError, match=said):
        optim.Shampoo([nn.Parameter(torch.zeros(2, 2))], **given)


def test_state_has_the_shapes_that_the_catalogue_tells():
    [row] = [row for row in optim.catalogue() if row.name == "shampoo"]
    assert row.memory == "(m, n) + 2 (m, m) + 2 (n, n)"
    assert row.scope == "matrix"


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_steps_on_a_gpu_are_those_on_the_cpu(name):
    makes = {
        "muon": lambda p: optim.Muon(p, ns_precision="float32"),
        "shampoo": lambda p: optim.Shampoo(p, epsilon=1e-3, max_preconditioner_dim=4),
        "soap": lambda p: optim.SOAP(p, precondition_frequency=2),
    }
    ends = []
    for device in ("cpu", "cuda"):
        p = nn.Parameter(torch.ones(6, 5, device=device))
        given = [g.to(device) for g in drawn(6, 5, dtype=torch.float32)]
        ends.append(walk(makes[name]([p]), given).cpu())
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_leave_what_the_factors_span(dtype):
    """The factor of a vector has one rank a step; its root stretches whatever else the mean holds."""
    p = nn.Parameter(torch.zeros(64, dtype=dtype))
    given = [g.to(dtype) for g in drawn(64, dtype=torch.float32)]
    wide = nn.Parameter(torch.zeros(64))
    ends = [walk(optim.Shampoo([x], lr=0.01), [g.to(x.dtype) for g in given]) for x in (p, wide)]
    torch.testing.assert_close(ends[0].float(), ends[1], rtol=0.02, atol=2e-3)
