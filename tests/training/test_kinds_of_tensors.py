"""`fit` trains sparse embeddings, complex weights, and those of bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.training.fit import resume
from tests.training.test_resume import Stop

DRAW = torch.Generator().manual_seed(0)
WORDS = torch.randint(0, 30, (60, 4), generator=DRAW)
TOLD = torch.randn(30, 3, generator=DRAW)[WORDS].mean(1).sum(1, keepdim=True)


class Bag(nn.Module):
    """The mean of the words' vectors, then a line."""

    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 3, sparse=sparse), nn.Linear(3, 1)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.words(words).mean(1))


def bags(sparse: bool = True) -> Any:
    return ds.Problem(model=lambda: Bag(sparse), objective="squared_error", train=(WORDS, TOLD))


def fitted(problem: Any, **given: Any) -> nn.Module:
    recipe = ds.Recipe(**{"lr": 0.05, "epochs": 2, "batch_size": 16} | given)
    return ds.fit(problem, recipe, folder=False, progress=False).model()


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
@pytest.mark.parametrize(
    "given", [{}, {"clip_norm": 0.1}, {"clip_value": 0.02}, {"accumulate": 3}, {"average": "ema"}], ids=str
)
def test_a_sparse_embedding_trains_as_a_dense_one(name: str, given: dict[str, Any]) -> None:
    found, wanted = fitted(bags(), optimizer=name, **given), fitted(bags(False), optimizer=name, **given)
    for p, q in zip(found.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_adam_moves_the_words_of_each_batch_alone() -> None:
    words = WORDS % 20  # the others never occur
    problem = ds.Problem(model=Bag, objective="squared_error", train=(words, TOLD))
    start, found = fitted(problem, optimizer="adam", lr=0.0), fitted(problem, optimizer="adam")
    assert torch.equal(found.words.weight[20:], start.words.weight[20:])
    assert (found.words.weight[:20] != start.words.weight[:20]).all()


def test_two_members_with_sparse_gradients_train_as_each_alone() -> None:
    recipes = [ds.Recipe(optimizer="adam", lr=lr, epochs=2, batch_size=16) for lr in (0.05, 0.1)]
    for run, recipe in zip(
        ds.fit_population(bags(), recipes, folder=False, progress=False), recipes, strict=True
    ):
        alone = ds.fit(bags(), recipe, folder=False, progress=False).model()
        assert torch.equal(run.model().words.weight, alone.words.weight)


class Turned(nn.Module):
    """How long a complex combination of the inputs is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.complex(x, torch.zeros_like(x)) @ self.weight).abs().sum(1, keepdim=True)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_complex_weights_train_as_by_a_loop_with_torchs_optimizer(name: str) -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    y = x.abs().sum(1, keepdim=True)
    problem = ds.Problem(model=Turned, objective="squared_error", train=(x, y))
    given = {"optimizer": name, "lr": 0.01, "batch_size": "full", "epochs": None, "steps": 15}
    found, other = fitted(problem, **given), fitted(problem, **given | {"lr": 0.0})
    peer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[name]
    optimizer = peer(other.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        (other(x) - y).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(found.weight, other.weight, rtol=1e-5, atol=1e-6)


class Half(nn.Sequential):
    """A line in bfloat16."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 1))
        self.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16()).float()


def test_a_recipe_says_how_bfloat16_weights_are_rounded() -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    problem = ds.Problem(model=Half, objective="squared_error", train=(x, x.sum(1, keepdim=True)))

    def loss(**given: Any) -> float:
        model = fitted(problem, optimizer="sgd", lr=2e-4, epochs=100, **given)
        assert model[0].weight.dtype == torch.bfloat16
        return float((model(x) - x.sum(1, keepdim=True)).square().mean().detach())

    stalled, arrived = loss(), loss(rounding="stochastic", rounding_seed=1)
    assert arrived < 0.8 * stalled
    by_factory = ds.Recipe(optimizer=lambda params: ds.optim.SGD(params, lr=2e-4, rounding="master"))
    assert by_factory.optimizer == "sgd"
    assert by_factory.settings == {"rounding": "master"}
    assert loss(rounding="master") == pytest.approx(arrived, rel=0.2)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Half, {"optimizer": "adam", "rounding": "stochastic", "rounding_seed": 3}),
        (Half, {"optimizer": "nadam", "rounding": "master"}),
        (Turned, {"optimizer": "adam"}),
    ],
    ids=["by chance", "master", "complex"],
)
def test_a_resumed_run_repeats_the_bits(model: Any, given: dict[str, Any], tmp_path: Path) -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    recipe = ds.Recipe(lr=0.01, epochs=20, batch_size=8, seed=1, **given)

    def problem() -> Any:
        return ds.Problem(model=model, objective="squared_error", train=(x, x.sum(1, keepdim=True)))

    whole = ds.fit(problem(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    part = ds.fit(problem(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=Stop(20))
    assert part.status == "interrupted"
    again = resume(tmp_path / "part", problem(), progress=False)
    for p, q in zip(whole.model().parameters(), again.model().parameters(), strict=True):
        assert torch.equal(p, q)
