"""Rates by depth and gradual unfreezing: the bits of a torch loop with the same groups, resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import randomness
from downslope.core.errors import RecipeError
from downslope.training.fit import resume
from tests.training.problems import same_history, same_state
from tests.training.test_resume import Stop, probed_often

__all__ = ["probed_often"]

X = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(5, 3, generator=torch.Generator().manual_seed(1))).argmax(1)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(),
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.0),
        nn.Linear(8, 3),
    )  # fmt: skip


UNITS = (("0", "1"), ("3", "4"), ("7",))


def problem(**changes: Any) -> ds.Problem:
    fields: dict[str, Any] = {"model": net, "objective": "cross_entropy", "train": (X, Y)} | changes
    return ds.Problem(**fields)


def fit(recipe: ds.Recipe, of: ds.Problem | None = None) -> ds.Run:
    return ds.fit(of or problem(), recipe, folder=False, progress=False, observe=0)


def groups_by_hand(model: nn.Module, lr: float, decay: float) -> list[dict[str, Any]]:
    """Bottom up, as a user of torch writes them."""
    return [
        {
            "params": [p for name in row for p in model.get_submodule(name).parameters()],
            "lr": lr * decay ** (2 - i),
        }
        for i, row in enumerate(UNITS)
    ]


def loop(
    make: Callable[[nn.Module], torch.optim.Optimizer],
    epochs: int,
    before_epoch: Callable[[nn.Module, int], None] = lambda model, epoch: None,
) -> dict[str, Tensor]:
    """A plain torch loop over batches of 16 in the order of seed 0."""
    model = problem().build(0)
    optimizer = make(model)
    for epoch in range(epochs):
        before_epoch(model, epoch)
        for index in randomness.permutation(len(X), 0, epoch).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[index]), Y[index]).backward()
            optimizer.step()
    return dict(model.state_dict())


def thaw(every: int, still: bool) -> Callable[[nn.Module, int], None]:
    """Gradual unfreezing as its paper describes it; `still`: frozen layers in eval mode."""

    def before(model: nn.Module, epoch: int) -> None:
        for i, row in enumerate(UNITS):
            trained = i >= 2 - epoch // every
            for name in row:
                model.get_submodule(name).requires_grad_(trained).train(trained or not still)

    return before


OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": ({"optimizer": "sgd", "lr": 0.1}, lambda groups: torch.optim.SGD(groups, lr=0.1)),
    "momentum": (
        {"optimizer": "torch.optim:SGD", "lr": 0.1, "momentum": 0.9},
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    ),
    "adam": ({"optimizer": "adam", "lr": 0.01}, lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layer_decay_has_the_bits_of_a_torch_loop_with_a_group_for_each_depth(name: str) -> None:
    how, make = OPTIMIZERS[name]
    run = fit(ds.Recipe(**how, batch_size=16, epochs=4, layer_decay=0.5))
    there = loop(lambda model: make(groups_by_hand(model, how["lr"], 0.5)), 4)
    assert same_state(run.state("last"), there)


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_unfreezing_has_the_bits_of_a_torch_loop_that_thaws_by_hand(name: str, still: bool) -> None:
    how, make = OPTIMIZERS[name]
    recipe = ds.Recipe(**how, batch_size=16, epochs=6, unfreeze=2, frozen="eval" if still else "train")
    there = loop(lambda model: make(model.parameters()), 6, thaw(2, still))
    assert same_state(fit(recipe).state("last"), there)


def test_a_depth_that_has_not_joined_yet_is_as_it_was() -> None:
    start = problem().build(0).state_dict()
    end = fit(ds.Recipe(lr=0.01, batch_size=16, epochs=2, unfreeze=2)).state("last")
    assert [key for key in start if torch.equal(start[key], end[key])] == [
        key for key in start if not key.startswith("7.")
    ]


def test_decay_of_weights_and_own_groups_are_cut_by_depth_too() -> None:
    decayed = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "layer_decay": 0.5, "batch_size": 16}
    model = problem().build(0)
    by_hand: list[dict[str, Any]] = []
    for group in groups_by_hand(model, 0.01, 0.5):
        weights, others = ([p for p in group["params"] if (p.dim() > 1) is more] for more in (True, False))
        by_hand += [{**group, "params": weights}, {**group, "params": others, "weight_decay": 0.0}]
    for how in (decayed, decayed | {"decay": "all", "groups": [{"ndim": [0, 1], "weight_decay": 0.0}]}):
        from downslope.training.optimizer import build_optimizer

        made = build_optimizer(ds.Recipe(**how), model)
        said = {id(p): (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}
        wanted = {id(p): (g["lr"], g.get("weight_decay", 0.1)) for g in by_hand for p in g["params"]}
        assert said == wanted


def test_a_schedule_moves_all_depths_alike_and_the_history_holds_the_rate_of_each() -> None:
    recipe = ds.Recipe(
        optimizer="sgd", lr=0.1, batch_size=16, epochs=4, layer_decay=0.5, unfreeze=1, schedule="exponential"
    )
    run = fit(recipe)
    leading = run.history.series("lr").values[2::3]  # of the last of three steps an epoch
    for index, name in enumerate(("0", "3", "7")):
        rates = run.history.series(f"lr/{name}").values
        joined = [epoch >= 2 - index for epoch in range(4)]
        assert rates == pytest.approx(leading * 0.5 ** (2 - index) * joined)
    rows = run.facts["depth"]
    assert [row["from_epoch"] for row in rows] == [2, 1, 0]
    assert [row["parameters"] for row in rows] == [5 * 8 + 8 + 16, 64 + 8 + 16, 24 + 3]


@pytest.mark.parametrize("stop", [1, 4, 6, 8])
@pytest.mark.parametrize("still", ["eval", "train"])
@pytest.mark.usefixtures("probed_often")
def test_an_interrupted_run_that_unfreezes_goes_on_to_the_same_bits(
    still: str, stop: int, tmp_path: Path
) -> None:
    recipe = ds.Recipe(
        optimizer="adam", lr=0.01, batch_size=16, epochs=6, unfreeze=2, layer_decay=0.7, frozen=still,
        weight_decay=0.01, schedule="cosine",
    )  # fmt: skip
    whole = ds.fit(problem(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    ds.fit(problem(), recipe, folder=tmp_path / "cut", progress=False, observe=0.5, on_probe=Stop(stop))
    again = resume(tmp_path / "cut", problem(), progress=False)
    assert same_state(again.state("last"), whole.state("last"))
    assert same_history(again, whole)


@pytest.mark.parametrize("still", [True, False])
def test_statistics_of_a_norm_that_a_group_holds_fixed_stay_unless_asked_otherwise(still: bool) -> None:
    start = problem().build(0).state_dict()
    groups = [{"params": ["0.*", "1.*"], "train": False}]
    recipe = ds.Recipe(lr=0.01, batch_size=16, epochs=2, groups=groups, frozen="eval" if still else "train")
    end = fit(recipe).state("last")
    assert torch.equal(start["0.weight"], end["0.weight"])
    assert torch.equal(start["1.running_mean"], end["1.running_mean"]) is still
    assert not torch.equal(start["4.running_mean"], end["4.running_mean"])


def test_a_torch_loop_that_trains_a_head_alone_keeps_its_bits() -> None:
    """A factory was written for a loop in which frozen norms go on counting: its recipe says so."""
    recipe = ds.Recipe(
        optimizer=lambda model: torch.optim.SGD(model[7].parameters(), lr=0.1), batch_size=16, epochs=3
    )
    run = fit(recipe)
    assert run.recipe is not None
    assert run.recipe.frozen == "train"
    there = loop(lambda model: torch.optim.SGD(model[7].parameters(), lr=0.1), 3)
    assert same_state(run.state("last"), there)


def test_recipes_of_depth_are_read_back_from_toml_and_said_in_their_line() -> None:
    recipe = ds.Recipe(layer_decay=0.8, unfreeze=2, frozen="train")
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe
    assert "layer_decay 0.8, unfreeze 2" in str(recipe)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layer_decay": 0.0}, r"layer_decay=0\.0: must be a number in \(0, 1\]"),
        ({"layer_decay": 1.5}, r"layer_decay=1\.5: must be a number in \(0, 1\]"),
        ({"unfreeze": 0}, r"unfreeze=0: must be an integer in \[1, inf\)"),
        ({"frozen": "still"}, "frozen='still': must be 'eval' or 'train'"),
        ({"llrd": 0.5}, "did you mean 'layer_decay'"),
    ],
)
def test_what_is_no_depth_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        ds.Recipe(**given)


class Own(torch.optim.SGD):
    """Neither torch's nor ours."""


def test_layer_decay_with_an_optimizer_that_is_code_is_refused() -> None:
    with pytest.raises(RecipeError, match="code, which makes its groups itself"):
        fit(ds.Recipe(optimizer=lambda params: Own(params, lr=0.1), layer_decay=0.5, epochs=1))


def test_what_was_told_says_the_rates_and_what_never_joins(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=16, epochs=2, layer_decay=0.5, unfreeze=1)
    ds.fit(problem(), recipe, folder=False, observe=0)
    said = capsys.readouterr().err
    assert "fit: 3 depths from 0 to 7, lr 0.025 to 0.1, 1 of them is never trained in 2 epochs" in said
    ds.fit(problem(), recipe.edit(epochs=3), folder=False, observe=0)
    assert "one more every epoch, all from epoch 3 on" in capsys.readouterr().err
