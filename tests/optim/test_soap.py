"""SOAP under the contract, its basis against SciPy's, and Adam where there is no basis."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.eigenbasis import basis_of, gram, power_step, turned, turned_back
from downslope.testing import Case, Descent, RuleContract
from tests.optim import matrix_recurrences

# Adam divides by the size of each turned entry, so that what rounding turns by is magnified.
LOOSE = {torch.float32: 2e-3, torch.float64: 1e-10, torch.bfloat16: 0.3}


def case(name, proofs=None, **settings):
    return Case(
        name,
        lambda params, backend: optim.SOAP(params, **settings, backend=backend),
        lambda p, gradients: matrix_recurrences.soap(p, gradients, **settings),
        tolerance=LOOSE,
        # Sides no longer than the others together: else the first gradient leaves eigenvectors open.
        shapes=((4, 4), (3,), (2, 3, 4)),
        sixteen_bits=False,
        **(proofs or {}),
    )


class TestSOAP(RuleContract):
    cases = (
        case(
            "paper",
            {
                "invariances": ("odd", "translation"),
                "descents": (Descent("quadratic", 300, 1e-3, lr=0.03, shape=(3, 2)),),
            },
            lr=0.01,
            weight_decay=0.0,
        ),
        case("every step, decay", lr=0.01, precondition_frequency=1, betas=(0.9, 0.99)),
        case("one side", lr=0.01, max_precond_dim=3, precondition_frequency=4),
        case("eps 0", {"invariances": ("scale",)}, lr=0.01, weight_decay=0.0, eps=0.0),
    )


def drawn(*shape, steps=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(steps)]


def walk(optimizer, gradients):
    [p] = optimizer.param_groups[0]["params"]
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


def test_without_a_basis_it_is_adamw():
    """No side is short enough for one, so Q is the identity."""
    given = drawn(4, 5, steps=20)
    found = walk(optim.SOAP([nn.Parameter(torch.ones(4, 5).double())], max_precond_dim=1), given)
    theirs = torch.optim.AdamW([nn.Parameter(torch.ones(4, 5).double())], lr=3e-3, betas=(0.95, 0.95))
    torch.testing.assert_close(found, walk(theirs, given), rtol=1e-12, atol=1e-14)


def test_the_first_step_is_adamws_and_counts():
    p = nn.Parameter(torch.ones(4, 5).double())
    optimizer = optim.SOAP([p])
    theirs = torch.optim.AdamW([nn.Parameter(torch.ones(4, 5).double())], lr=3e-3, betas=(0.95, 0.95))
    given = drawn(4, 5, steps=1)
    torch.testing.assert_close(walk(optimizer, given), walk(theirs, given), rtol=1e-12, atol=1e-14)
    assert float(optimizer.state[p]["step"]) == 1.0


def test_after_the_first_step_the_basis_is_that_of_its_gradient():
    p = nn.Parameter(torch.ones(4, 4).double())
    optimizer = optim.SOAP([p])
    [g] = drawn(4, 4, steps=1)
    walk(optimizer, [g])
    state = optimizer.state[p]
    u, _, vt = np.linalg.svd(g.numpy())
    np.testing.assert_allclose(np.abs(u.T @ state["Q_0"].numpy()), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.abs(vt @ state["Q_1"].numpy()), np.eye(4), atol=1e-9)


def test_vectors_have_a_basis_only_when_asked_for():
    for asked in (False, True):
        p = nn.Parameter(torch.ones(4))
        optimizer = optim.SOAP([p], precondition_1d=asked)
        p.grad = torch.arange(4.0)
        optimizer.step()
        assert ("Q_0" in optimizer.state[p]) is asked


def test_steps_of_root_mean_square_one_when_asked_for():
    p = nn.Parameter(torch.zeros(4, 4).double())
    walk(optim.SOAP([p], lr=0.1, normalize_grads=True, weight_decay=0.0), drawn(4, 4, steps=1))
    torch.testing.assert_close(p.square().mean().sqrt(), torch.tensor(0.1).double())


def test_gram_contracts_all_sides_but_one():
    g = drawn(2, 3, 4)[0]
    for side in range(3):
        np.testing.assert_allclose(gram(g, side), matrix_recurrences.outer(g.numpy(), side), rtol=1e-12)


def test_turning_there_and_back_changes_nothing():
    g = drawn(3, 4, 2)[0]
    bases = [torch.linalg.qr(each)[0] for each in (drawn(3, 3)[0], drawn(4, 4)[0])]
    torch.testing.assert_close(turned_back(turned(g, [*bases, None]), [*bases, None]), g)
    wanted = np.einsum("abc,ai,bj->ijc", g.numpy(), *(basis.numpy() for basis in bases))
    np.testing.assert_allclose(turned(g, [*bases, None]), wanted, rtol=1e-10, atol=1e-12)


def test_power_steps_come_to_the_eigenvectors_of_scipy():
    q = torch.linalg.qr(drawn(5, 5)[0])[0]
    a = q @ torch.diag(torch.tensor([5.0, 1.0, 3.0, 0.3, 0.1]).double()) @ q.T
    basis = torch.eye(5).double()
    for _ in range(60):
        basis, _ = power_step(a, basis)
    wanted = scipy.linalg.eigh(a.numpy())[1][:, ::-1]
    np.testing.assert_allclose(np.abs(wanted.T @ basis.numpy()), np.eye(5), atol=1e-8)
    np.testing.assert_allclose(np.abs(wanted.T @ basis_of(a).numpy()), np.eye(5), atol=1e-10)


def test_a_factor_that_is_not_finite_leaves_the_basis():
    eye = torch.eye(3)
    basis, order = power_step(torch.full((3, 3), float("nan")), eye)
    assert basis is eye
    assert order.tolist() == [0, 1, 2]
    assert basis_of(torch.full((3, 3), float("inf"))) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"betas": (0.9, 1.0)}, r"betas\[1\]=1"),
        ({"shampoo_beta": 1.0}, "shampoo_beta=1: must lie in"),
        ({"precondition_frequency": 0}, "precondition_frequency=0: must be a whole number"),
        ({"max_precond_dim": 0}, "max_precond_dim=0: must be a whole number"),
        ({"precondition_1d": 1}, "precondition_1d=1: must be True or False"),
    ],
)
def test_what_lies_outside_of_a_domain_is_refused(given, said):
    with pytest.raises(RecipeError, match=said):
        optim.SOAP([nn.Parameter(torch.zeros(2, 2))], **given)


def test_state_has_the_shapes_that_the_catalogue_tells():
    [row] = [row for row in optim.catalogue() if row.name == "soap"]
    assert row.state == ("exp_avg", "exp_avg_sq", "GG_0", "GG_1", "Q_0", "Q_1")
    assert row.memory == "2 (m, n) + 2 (m, m) + 2 (n, n)"
