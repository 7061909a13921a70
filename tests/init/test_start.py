"""A start as part of a recipe: read from the problem's data, the member's own, kept with the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import downslope as ds
from downslope.core.errors import ModelError

DIGITS = ds.data.digits(scale=16)


class Own(nn.Module):
    """Functional activations, in which nothing but a pass shows what follows what."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 96), nn.Linear(96, 96), nn.Linear(96, 10)

    def forward(self, x):
        return self.c(torch.tanh(self.b(functional.relu(self.a(x.flatten(1))))))


def problem(train=DIGITS.train) -> ds.Problem:
    return ds.Problem(model=Own, objective="cross_entropy", train=train)


def gains(model: nn.Module) -> list[float]:
    """Weight variance times fan-in."""
    return [(layer.weight.var() * layer.in_features).item() for layer in (model.a, model.b, model.c)]


def test_auto_sees_functions_through_recipe_and_edit() -> None:
    wanted = [2.0, 1.0, 2 * 96 / 106]
    assert gains(problem().build(0, "auto")) == pytest.approx(wanted, rel=0.1)
    redrawn = problem().edit(ds.edits.Reinitialise("auto"))
    assert gains(redrawn.build(0)) == pytest.approx(wanted, rel=0.1)
    first = problem().edit(ds.edits.Reinitialise("auto", ("a",))).build(0)
    assert gains(first)[0] == pytest.approx(2.0, rel=0.1)
    assert torch.equal(first.b.weight, problem().build(0).b.weight)


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(zip(*DIGITS.train, strict=True))


@pytest.mark.parametrize("kind", ["loader", "stream"])
def test_examples_come_from_loaders_and_streams_too(kind: str) -> None:
    data = DataLoader(TensorDataset(*DIGITS.train), batch_size=128) if kind == "loader" else Streamed()
    found = problem(data).build(0, {"name": "lsuv", "examples": 128})
    assert torch.isfinite(found.a.weight).all()
    with torch.no_grad():
        assert found.a(DIGITS.train[0].flatten(1)).std().item() == pytest.approx(1, rel=0.15)


def test_a_member_of_a_population_starts_as_it_would_alone() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, steps=5, init={"name": "lsuv", "scale": 0.5})
    members = ds.fit_population(problem(), recipe, seeds=[0, 1], progress=False)
    alone = ds.fit(problem(), members[1].recipe, folder=False, progress=False)
    assert alone.summary["train_loss"] == members[1].summary["train_loss"]
    assert alone.summary["train_loss"] != members[0].summary["train_loss"]


def test_a_run_that_is_read_again_has_the_start_of_the_recipe(tmp_path: Path) -> None:
    wide = ds.Problem(
        model="mlp", objective="cross_entropy", train=DIGITS.train, arguments={"width": 64, "depth": 1}
    )
    recipe = ds.init.mup_recipe(wide, ds.Recipe(optimizer="adam", lr=0.01, steps=3), {"width": 16})
    run = ds.fit(wide, recipe, folder=tmp_path / "run", progress=False)
    again = ds.load_run(tmp_path / "run")
    assert again.recipe == recipe == run.recipe
    built = wide.build(recipe.seed, again.recipe.init)
    assert torch.equal(built[1].weight, wide.build(recipe.seed, recipe.init)[1].weight)


def test_data_that_the_model_cannot_take_is_one_line_for_what_looks_at_it() -> None:
    narrow = problem((torch.randn(20, 7), torch.zeros(20, dtype=torch.long)))
    assert gains(narrow.build(0, "auto"))[0] > 0  # the order of the modules has to do
    with pytest.raises(ModelError, match="lsuv: the model cannot take the batch") as told:
        narrow.build(0, "lsuv")
    assert "\n" not in str(told.value)
