"""Muon against torch's own on matrices, AdamW on the rest, and the singular values themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import RecipeError
from downslope.optim.muon import Muon, orthogonal

KEYS: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1}


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
    walk(ours, other, Muon([ours], **KEYS, momentum=0.9, nesterov=nesterov), theirs, shape)
    torch.testing.assert_close(ours.reshape(other.shape), other, rtol=1e-6, atol=1e-6)


def test_what_is_no_matrix_takes_the_step_of_adamw() -> None:
    for shape in ((7,), ()):
        ours, other = pair(*shape)
        theirs = torch.optim.AdamW([other], **KEYS, betas=(0.8, 0.95), foreach=False)
        walk(ours, other, Muon([ours], **KEYS, betas=(0.8, 0.95)), theirs, shape)
        torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-7)


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


def test_parameters_without_a_gradient_stay() -> None:
    p: Tensor = nn.Parameter(torch.ones(2, 2))
    Muon([p]).step()
    assert torch.equal(p, torch.ones(2, 2))
