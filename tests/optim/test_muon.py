"""Muon against torch's own on matrices, AdamW on the rest, and the singular values themselves."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import RecipeError
from downslope.optim import muon, notes
from downslope.optim.muon import Muon, orthogonal
from downslope.optim.orthogonal import orthogonal_all
from downslope.testing import Case, Descent, RuleContract
from downslope.training.optimizer import build_optimizer
from tests.optim import matrix_recurrences

KEYS: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1}


def contract(name: str, proofs: dict[str, Any] | None = None, **settings: Any) -> Case:
    return Case(
        name,
        lambda params, backend: Muon(params, **settings, ns_precision="float64", backend=backend),
        lambda p, gradients: matrix_recurrences.muon(p, gradients, **settings),
        # Singular values of about 0.05 grow 250 times, and with them what was rounded.
        tolerance={torch.float32: 2e-4, torch.float64: 1e-11, torch.bfloat16: 0.1},
        shapes=((4, 3), (3,), (), (2, 3, 2)),
        **(proofs or {}),
    )


class TestMuon(RuleContract):
    """In float64, the singular values moved one by one."""

    cases = (
        contract(
            "torch's factor",
            {
                "invariances": ("odd", "rotation", "translation"),
                "descents": (Descent("quadratic", 200, 0.05, lr=0.02, shape=(3, 2)),),
            },
            lr=0.02,
            weight_decay=0.0,
            adjust_lr_fn="original",
        ),
        contract("decay", lr=0.02, weight_decay=0.1, momentum=0.8, nesterov=False),
    )


def pair(*shape: int, seed: int = 0) -> tuple[nn.Parameter, nn.Parameter]:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(made.clone()), nn.Parameter(made.clone())


def walk(ours: nn.Parameter, other: nn.Parameter, a: Any, b: Any, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):
        g = torch.randn(shape, generator=draw)
        ours.grad, other.grad = g.clone(), g.reshape(other.shape).clone()
        a.step()
        b.step()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 7), (8, 3, 3, 3), (4, 3, 5)])
def test_a_matrix_takes_the_step_of_torch(shape: tuple[int, ...], nesterov: bool) -> None:
    """A convolution as the matrix of its outputs, which torch is given as one."""
    ours, _ = pair(*shape)
    other = nn.Parameter(ours.detach().clone().reshape(shape[0], -1))
    theirs = torch.optim.Muon(
        [other], **KEYS, momentum=0.9, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
    )
    same = Muon([ours], **KEYS, momentum=0.9, nesterov=nesterov, ns_precision="bfloat16")
    walk(ours, other, same, theirs, shape)
    torch.testing.assert_close(ours.reshape(other.shape), other, rtol=1e-6, atol=1e-6)


def test_a_matrix_larger_than_a_cache_is_one_matrix() -> None:
    shape = (260, 300)
    ours, other = pair(*shape)
    ours.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    other.grad = ours.grad.clone()
    Muon([ours], **KEYS, ns_precision="bfloat16").step()
    torch.optim.Muon([other], **KEYS, adjust_lr_fn="match_rms_adamw").step()
    torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


def test_eps_is_that_of_matrices_also_when_it_changes_in_mid_run() -> None:
    (matrix, _), (vector, other) = pair(4, 3), pair(5)
    optimizer = Muon([matrix, vector], **KEYS)
    theirs = torch.optim.AdamW([other], **KEYS, foreach=False)
    for step in range(4):
        optimizer.param_groups[0]["eps"] = 1e-7 if step < 2 else 1e3
        before = matrix.detach().clone()
        matrix.grad, vector.grad = torch.ones(4, 3), torch.full((5,), 1e-6)
        other.grad = vector.grad.clone()
        optimizer.step()
        theirs.step()
        shrunk = before * (1 - KEYS["lr"] * KEYS["weight_decay"])
        assert torch.allclose(matrix, shrunk, atol=1e-3) is (step >= 2)
    torch.testing.assert_close(vector, other, rtol=1e-6, atol=1e-7)


def test_what_is_no_matrix_takes_the_step_of_adamw() -> None:
    for shape in ((7,), ()):
        ours, other = pair(*shape)
        theirs = torch.optim.AdamW([other], **KEYS, betas=(0.8, 0.95), foreach=False)
        walk(ours, other, Muon([ours], **KEYS, betas=(0.8, 0.95)), theirs, shape)
        torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-7)


def test_states_of_torch_and_of_ours_stand_for_one_another() -> None:
    ours, other = pair(6, 4)
    keys: dict[str, Any] = {"lr": 0.02, "adjust_lr_fn": "original", "ns_steps": 4, "eps": 1e-6}
    a, b = Muon([ours], ns_precision="bfloat16", **keys), torch.optim.Muon([other], **keys)
    walk(ours, other, a, b, (6, 4))
    a2, b2 = Muon([ours], lr=0.5, ns_precision="bfloat16"), torch.optim.Muon([other], lr=0.5)
    a2.load_state_dict(copy.deepcopy(b.state_dict()))
    b2.load_state_dict(copy.deepcopy(a.state_dict()))
    assert a2.param_groups[0]["adjust_lr_fn"] == b2.param_groups[0]["adjust_lr_fn"] == "original"
    walk(ours, other, a2, b2, (6, 4))
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (16, 16)])
def test_a_turned_matrix_gives_the_turned_result(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(4)

    def turn(n: int) -> Tensor:
        return torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))[0]

    g, left, right = torch.randn(shape, generator=draw, dtype=torch.float64), turn(shape[0]), turn(shape[1])
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 5e-2)):
        plain = orthogonal(g, dtype=dtype).double()
        there = orthogonal(left @ g @ right, dtype=dtype).double()
        assert float((there - left @ plain @ right).norm() / plain.norm()) < bound


def test_the_iteration_on_a_diagonal_is_its_polynomial_on_each_entry() -> None:
    made = orthogonal(torch.diag(torch.tensor([3.0, 4.0])), dtype=torch.float64)
    wanted = torch.diag(torch.tensor([0.7228761686, 1.119203930], dtype=torch.float64))  # by hand
    torch.testing.assert_close(made, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("coefficients", [(1.5, -0.5, 0.0), (1.0, 0.0, 0.0)])
def test_a_cubic_is_none_the_less_in_bfloat16(coefficients: tuple[float, float, float]) -> None:
    matrix = torch.randn(96, 64, generator=torch.Generator().manual_seed(7))
    found = orthogonal(matrix, coefficients=coefficients)
    wanted = orthogonal(matrix, coefficients=coefficients, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=0.0, atol=2e-2)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_a_batch_is_its_matrices(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(6)
    matrices = [torch.randn(shape, generator=draw) for _ in range(3)]
    batch = orthogonal_all(matrices, dtype=torch.float64)
    for one, matrix in zip(batch, matrices, strict=True):
        torch.testing.assert_close(one, orthogonal(matrix, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_matrices_of_many_shapes_take_the_steps_that_they_take_alone() -> None:
    shapes = ((4, 6), (3, 3), (4, 6), (6, 4), (3, 3), (4, 6))
    draw = torch.Generator().manual_seed(8)
    start = [torch.randn(shape, generator=draw) for shape in shapes]
    given = [[torch.randn(shape, generator=draw) for shape in shapes] for _ in range(3)]
    together, alone = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    for params, optimizers in ((together, [Muon(together)]), (alone, [Muon([p]) for p in alone])):
        for grads in given:
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_memory_that_is_kept_for_batches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "_SPACES", threading.local())
    monkeypatch.setattr(muon, "KEPT", 40)
    most = 0
    for shape in ((4, 5), (7, 9), (8, 5), (2, 3)):
        p = nn.Parameter(torch.ones(shape))
        p.grad = torch.ones(shape)
        Muon([p]).step()
        most = max(most, p.numel() if p.numel() <= 40 else 0)
        [held] = muon._SPACES.own._held.values()
        assert 4 * most <= held.numel() <= 4 * (most + 32)


def test_the_default_precision_is_near_the_reference() -> None:
    ours, other = pair(12, 20)
    walk(ours, other, Muon([ours], **KEYS), Muon([other], **KEYS, backend="reference"), (12, 20))
    start, _ = pair(12, 20)
    apart, way = (ours - other).detach(), (other - start).detach()
    assert float(apart.norm() / way.norm()) < 2e-2


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (16, 16)])
def test_singular_values_end_near_one_with_the_vectors_kept(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    found = orthogonal(matrix).double()
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    between = u.T @ found @ vt.T
    assert float((between - between.diagonal().diag()).abs().max()) < 0.1


def test_a_step_of_maximize_goes_the_other_way() -> None:
    up, down = pair(4, 3)
    up.grad = down.grad = torch.ones(4, 3)
    Muon([up], weight_decay=0.0, maximize=True).step()
    start, _ = pair(4, 3)
    Muon([down], weight_decay=0.0).step()
    torch.testing.assert_close(up - start, start - down)


def test_state_that_is_saved_goes_on_as_if_nothing_had_been() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    other = copy.deepcopy(model)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))

    def train(of: nn.Module, by: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            by.zero_grad()
            of(x).square().mean().backward()
            by.step()

    whole = Muon(model.parameters(), lr=0.01)
    train(model, whole, 6)
    first = Muon(other.parameters(), lr=0.01)
    train(other, first, 3)
    second = Muon(other.parameters(), lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(other, second, 3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_fits_tunes_and_races_by_its_name() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="muon", lr=0.02, batch_size=64, epochs=2)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    assert run.summary["valid_metric"] > 0.9
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe
    common = recipe.edit(epochs=1)
    race = ds.race(
        problem, ["sgd", "muon"], recipe=ds.Recipe(batch_size=64, epochs=1), seeds=2, trials=2, progress=False
    )
    assert race.racing == ["sgd", "muon"]
    search = ds.tune(problem, common, trials=2, confirm=0, folder=False, progress=False)
    assert {"lr", "momentum"} <= set(search.space)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": -1.0}, "lr=-1: must lie in"),
        ({"momentum": 1.0}, "momentum=1: must lie in"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]=1"),
        ({"ns_coefficients": (1.0, 2.0)}, "must be three numbers"),
        ({"adjust_lr_fn": "moonshot"}, "adjust_lr_fn='moonshot': must be one of"),
        ({"ns_precision": "float16"}, "ns_precision='float16': must be one of"),
        ({"adamw_eps": -1.0}, "adamw_eps=-1: must lie in"),
        ({"matrices": {"rolle": "hidden"}}, "did you mean 'role'"),
        ({"roles": {"a": "heads"}}, "did you mean 'head'"),
        ({"roles": "head"}, "must be a table of names"),
        ({"ns_steps": 0}, "ns_steps=0: must be a whole number from 1 to 100"),
    ],
)
def test_what_lies_outside_of_a_domain_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Muon([nn.Parameter(torch.zeros(2, 2))], **given)


def test_a_sparse_gradient_is_refused() -> None:
    table = nn.Embedding(5, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RecipeError, match="is sparse"):
        Muon(table.parameters()).step()


def routes_of(optimizer: Muon) -> dict[str, str]:
    return {row.reason.split(",")[0].split(":")[0]: str(row.elements) for row in optimizer.plan().rows}


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.head = nn.Linear(4, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.block(self.embed(tokens)))


def test_embedding_and_head_take_adamws_step_by_role_by_name_or_by_choice() -> None:
    model = Language()
    elements = sum(p.numel() for p in model.parameters())
    named = list(model.named_parameters())
    hidden = {"MeanMomentum": "16", "ScaleByAdam": str(elements - 16)}
    with pytest.raises(RecipeError, match="asks for names"):
        Muon(model.parameters(), roles=ds.optim.roles(model))
    assert routes_of(Muon(named, roles=ds.optim.roles(model))) == hidden
    assert routes_of(Muon(named)) == hidden  # embed and head say what they are
    assert routes_of(Muon(named, matrices={"params": "block.*"})) == hidden
    every = {"MeanMomentum": str(16 + 88), "ScaleByAdam": str(elements - 104)}
    assert routes_of(Muon(named, matrices=True)) == every
    assert routes_of(Muon(model.parameters())) == every
    assert routes_of(Muon(named, matrices=False)) == {"ScaleByAdam": str(elements)}


def test_fit_tells_muon_the_roles_of_the_model() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train)
    recipe = ds.Recipe(optimizer="muon", lr=0.02, steps=1, roles={"*.weight": "hidden"})
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe
    model = problem.build()
    for given, matrices in ((recipe, 3), (recipe.edit(roles=None), 2)):
        optimizer = build_optimizer(given, model)
        rows = [row for row in optimizer.plan().rows if row.reason.startswith("MeanMomentum")]
        assert sum(row.tensors for row in rows) == matrices


def test_parameters_without_a_gradient_stay() -> None:
    p: Tensor = nn.Parameter(torch.ones(2, 2))
    Muon([p]).step()
    assert torch.equal(p, torch.ones(2, 2))


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def test_the_last_matrix_of_a_plain_sequential_is_the_head_by_its_names() -> None:
    model = sequential()
    named = list(model.named_parameters())
    assert routes_of(Muon(named))["MeanMomentum"] == "50"  # 5 x 6 and 4 x 5
    assert routes_of(Muon([{"params": named[:2]}, {"params": named[2:], "lr": 0.1}])) == {
        "MeanMomentum": "20", "ScaleByAdam": str(4 + 12 + 3)
    }  # fmt: skip
    assert not Muon(named).plan().note
    chosen = [(name, p) for name, p in named if p.ndim > 1]
    assert routes_of(Muon(chosen)) == {"MeanMomentum": "62"}  # matrices alone were chosen by hand
    assert routes_of(Muon(named, roles={"*.weight": "hidden"}))["MeanMomentum"] == "62"


def test_without_names_it_says_once_that_every_matrix_is_orthogonalised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes._say.cache_clear()
    model = sequential()
    Muon(model.parameters(), matrices=True)
    Muon(model.named_parameters())
    Muon(Language().named_parameters())
    Muon([p for p in model.parameters() if p.ndim > 1])
    assert not caplog.records
    for _ in range(2):
        optimizer = Muon(model.parameters())
    assert [record.getMessage() for record in caplog.records] == [optimizer.plan().note]
    assert "every matrix is orthogonalised, 3 in all" in str(optimizer.plan()).splitlines()[-1]


def test_float64_is_orthogonalised_in_float64_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downslope.optim.orthogonal._has_units", lambda: True)

    def stepped(**options: Any) -> Tensor:
        p = nn.Parameter(torch.zeros(12, 20, dtype=torch.float64))
        p.grad = torch.randn(12, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        Muon([p], **options).step()
        return p.detach()

    truth = stepped(backend="reference")
    assert float((stepped() - truth).norm() / truth.norm()) < 1e-12
    assert float((stepped(ns_precision="bfloat16") - truth).norm() / truth.norm()) > 1e-4
