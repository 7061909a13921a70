"""Factories that make several groups: recipe data that trains, resumes and is repaired as they would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import ModelError, RecipeError
from downslope.core.recipe import Recipe
from downslope.optim.grouping import throw_away
from downslope.training import choices
from downslope.training.fit import resume
from downslope.training.optimizer import build_optimizer, settled
from tests.training.problems import by_hand, regression, same_history, same_state

Make = Callable[[Any], torch.optim.Optimizer]


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Tanh())
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def problem(**changes: Any) -> ds.Problem:
    return regression(**({"model": Net} | changes))


def by_dimension(params: Any) -> torch.optim.Optimizer:
    params = list(params)
    decay, rest = [p for p in params if p.ndim > 1], [p for p in params if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01, fused=True)


def by_layer(params: Any) -> torch.optim.Optimizer:
    params = list(params)
    groups = [{"params": params[i : i + 2], "lr": 0.05 * 0.5**i, "momentum": 0.2 * i} for i in (0, 2, 4)]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True)


def by_model(model: nn.Module) -> torch.optim.Optimizer:
    groups = [{"params": model.body.parameters(), "lr": 0.003}, {"params": model.head.parameters()}]
    return torch.optim.Adam(groups, lr=0.03, betas=(0.8, 0.95), fused=True)


def by_name(named_parameters: Any) -> torch.optim.Optimizer:
    named = list(named_parameters)
    biases, others = [p for n, p in named if n.endswith("bias")], [p for n, p in named if "bias" not in n]
    groups = [{"params": others}, {"params": biases, "lr": 0.5, "initial_accumulator_value": 0.0}]
    return torch.optim.Adagrad(groups, lr=0.1, fused=True)


def odd(params: Any) -> torch.optim.Optimizer:
    """A method that is only torch's, without a fused kernel."""
    params = list(params)
    return torch.optim.ASGD([{"params": params[:3], "lr": 0.001}, {"params": params[3:]}], lr=0.02)


def partial(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(params)[-2:], lr=0.05, fused=True)


def from_list(make: Make, model: nn.Module) -> torch.optim.Optimizer:
    """What a hand-written loop would call."""
    if make is by_model:
        return make(model)
    return make(list(model.named_parameters()) if make is by_name else list(model.parameters()))


def hand_loop(make: Make, how: Recipe, whole: ds.Problem) -> tuple[nn.Module, list[float]]:
    models: list[nn.Module] = []

    class Capturing(Net):
        def __init__(self) -> None:
            super().__init__()
            models.append(self)

    own = whole.edit(model=Capturing)
    with choices.threads(1):  # as fit takes for so small a model
        return by_hand(own, how, lambda params: from_list(make, models[-1]))


ALL = [by_dimension, by_layer, by_model, by_name, odd, partial]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_fit_takes_the_bits_of_a_hand_written_loop_with_the_same_groups(make: Make, precision: str) -> None:
    dtype = torch.float32 if precision == "float32" else torch.float64
    whole = problem(train=tuple(each.to(dtype) for each in regression().train.batch), valid=None)
    how = Recipe(optimizer=make, batch_size=16, epochs=3, precision=precision, seed=3)
    run = ds.fit(whole, how, folder=False, progress=False)
    model, losses = hand_loop(make, how, whole)
    assert run.history.series("train_loss").values.tolist() == losses
    assert same_state(run.weights["last"], model.state_dict())
    assert run.recipe is not None
    assert not run.recipe.opaque
    again = Recipe.from_toml(run.recipe.to_toml())
    assert again == run.recipe
    second = ds.fit(whole, again, folder=False, progress=False)
    assert same_history(run, second)
    assert same_state(run.weights["last"], second.weights["last"])


@pytest.mark.parametrize("make", ALL)
def test_groups_have_the_order_the_settings_and_the_parameters_that_the_factory_gave(make: Make) -> None:
    whole = problem()
    how = settled(whole, Recipe(optimizer=make))
    model = whole.build()
    ours, theirs = build_optimizer(how, model), from_list(make, model)
    assert len(ours.param_groups) == len(theirs.param_groups)
    for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert [id(p) for p in a["params"]] == [id(p) for p in b["params"]]
        assert all(a[key] == b[key] for key in a.keys() & b.keys() - {"params"})


def test_dimensions_tell_the_groups_without_a_model() -> None:
    recipe = Recipe(optimizer=by_dimension)
    assert recipe.optimizer == "adamw"
    assert [(g.ndim, dict(g.settings)) for g in recipe.groups] == [
        ((2, 3, 4, 5), {}), ((0, 1), {"weight_decay": 0.0}),
    ]  # fmt: skip
    assert (recipe.lr, recipe.weight_decay) == (0.01, 0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.SGD(list(params)[:2], lr=0.1),
        lambda params: torch.optim.SGD(
            [{"params": [p for p in params if (p.numel() > 20) == large]} for large in (True, False)]
        ),
        lambda params: torch.optim.SGD([{"params": [p]} for p in params], lr=0.1),
        lambda params: torch.optim.SGD([{"params": params[40]}], lr=0.1),
        lambda model: torch.optim.SGD(model.parameters()),
        lambda named_parameters: torch.optim.SGD([p for _, p in named_parameters]),
    ],
)
def test_groups_that_hang_on_the_model_wait_for_it(make: Make) -> None:
    recipe = Recipe(optimizer=make)
    assert recipe.opaque
    with pytest.raises(RecipeError, match=r"known from recipe.settled\(model\) on$"):
        recipe.to_toml()


def test_positions_that_look_like_dimensions_in_one_list_are_not_taken_for_them() -> None:
    flat = {i for i, p in enumerate(throw_away()[0]) if p.dim() < 2}

    def make(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        rows = [[p for i, p in enumerate(params) if (i in flat) == each] for each in (True, False)]
        return torch.optim.SGD([{"params": rows[0]}, {"params": rows[1], "lr": 1.0}])

    assert Recipe(optimizer=make).opaque


def test_whole_modules_are_named_once() -> None:
    groups = Recipe(optimizer=by_model).settled(Net()).groups
    assert [group.params for group in groups] == [("body.*",), ("head.*",)]


def test_a_factory_that_gives_all_parameters_alike_needs_no_groups() -> None:
    recipe = Recipe(optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.3)).settled(Net())
    assert (recipe.optimizer, recipe.lr, recipe.groups) == ("adam", 0.3, ())


def test_what_a_factory_leaves_out_stays_as_it_is() -> None:
    run = ds.fit(problem(), Recipe(optimizer=partial, epochs=2), folder=False, progress=False)
    start = problem().build(0).state_dict()
    for name, value in run.weights["last"].items():
        assert torch.equal(value, start[name]) == name.startswith("body.")


def test_an_edit_before_the_model_is_known_counts_after() -> None:
    early = Recipe(optimizer=by_model).edit(lr=0.3, weight_decay=0.5).settled(Net())
    late = Recipe(optimizer=by_model).settled(Net()).edit(lr=0.3, weight_decay=0.5)
    assert early == late
    assert [group["lr"] for group in build_optimizer(early, Net()).param_groups] == pytest.approx([0.03, 0.3])
    assert [group["weight_decay"] for group in build_optimizer(early, Net()).param_groups] == [0.5, 0.5]


def test_the_recorded_rate_is_the_recipes_own() -> None:
    run = ds.fit(problem(), Recipe(optimizer=by_model, epochs=1), folder=False, progress=False)
    assert run.recipe is not None
    assert set(run.history.series("lr").values.tolist()) == {run.recipe.lr} == {0.03}


@pytest.mark.parametrize("make", [by_layer, by_model, partial])
def test_a_resumed_run_takes_the_bits_of_an_uninterrupted_one(make: Make, tmp_path: Path) -> None:
    how = Recipe(optimizer=make, epochs=4, batch_size=16, clip_norm=0.5)
    whole = ds.fit(problem(), how, folder=tmp_path / "whole", progress=False)

    def stop(state: Any) -> None:
        if state.step >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ds.fit(problem(), how, folder=tmp_path / "cut", progress=False, on_probe=stop, observe=0.5)
    again = resume(tmp_path / "cut", problem(), progress=False)
    assert again.status == "done"
    assert same_state(again.state("last"), whole.state("last"))


def test_a_population_trains_members_with_groups_as_they_would_alone() -> None:
    recipe = Recipe(optimizer=by_model, epochs=2)
    both = ds.fit_population(problem(), [recipe, recipe.edit(lr=0.3)], seeds=[4], progress=False)
    for how, member in zip((recipe, recipe.edit(lr=0.3)), both, strict=True):
        alone = ds.fit(problem(), how.edit(seed=4), folder=False, progress=False)
        assert same_state(alone.weights["last"], member.weights["last"])
    assert not same_state(both[0].weights["last"], both[1].weights["last"])


def test_groups_of_an_edited_model_fit_or_are_refused_in_one_line() -> None:
    whole = problem()
    how = settled(whole, Recipe(optimizer=by_model, epochs=1))
    for edit in (ds.edits.StandardiseInputs(), ds.edits.ReplaceModule("body.2", "torch.nn:ReLU")):
        ds.fit(whole.edit(edit), how, folder=False, progress=False)
    listed = how.edit(groups=[{"params": ["body.1.bias"], "lr": 0.1}])
    gone = whole.edit(ds.edits.ReplaceModule("body.1", "torch.nn:Identity"))
    with pytest.raises(RecipeError, match=r"^group 1: the model has no parameter 'body.1.bias'[^\n]*groups$"):
        ds.fit(gone, listed, folder=False, progress=False)


def test_parameters_that_an_edit_adds_take_the_recipes_own_settings() -> None:
    whole = problem().edit(ds.edits.WrapModel(before=lambda: nn.Linear(4, 4)))
    model = whole.build()
    optimizer = build_optimizer(Recipe(optimizer=by_model).settled(model), model)
    assert [(group["lr"], len(group["params"])) for group in optimizer.param_groups] == [
        (0.003, 4), (0.03, 2), (0.03, 2),
    ]  # fmt: skip


def test_a_recipe_that_trains_nothing_is_refused_in_one_line() -> None:
    fixed = Recipe(optimizer="sgd", groups=[{"params": "*", "train": False}])
    with pytest.raises(ModelError, match=r"^the recipe's groups train no parameter[^\n]*$"):
        ds.fit(problem(), fixed, folder=False, progress=False)


def test_a_factory_that_fails_on_the_model_is_refused_in_one_line() -> None:
    for make in (lambda params: torch.optim.SGD(params[40:]), lambda model: torch.optim.SGD(model.neck)):
        with pytest.raises(RecipeError, match=r"^the optimizer factory raised [^\n]*$"):
            ds.fit(problem(), Recipe(optimizer=make), folder=False, progress=False)


def test_an_optimizer_with_parameters_of_its_own_stays_code() -> None:
    extra = nn.Parameter(torch.zeros(2))
    recipe = Recipe(optimizer=lambda params: torch.optim.SGD([*params, extra], lr=0.1))
    assert recipe.settled(Net()).opaque
    optimizer = build_optimizer(recipe.edit(lr=0.5), Net())
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    with pytest.raises(RecipeError, match=r"^weight_decay=0.1: the optimizer's own code has no weight_decay"):
        build_optimizer(recipe.edit(weight_decay=0.1), Net())


def test_diagnose_and_repair_take_a_recipe_with_groups() -> None:
    def hot(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            [{"params": model.body.parameters(), "lr": 3.0}, {"params": model.head.parameters()}], lr=30.0
        )

    found = ds.diagnose(problem(), Recipe(optimizer=hot, epochs=3), progress=False, folder=False)
    assert "learning-rate-too-high" in {each.symptom for each in found.findings}
    # Of two seeds Student's interval is 13 standard errors wide: hardly anything is sure.
    fixed = ds.repair(
        problem(), Recipe(optimizer=hot, epochs=3), diagnosis=found, budget="20s", seeds=3, progress=False,
        folder=False,
    )  # fmt: skip
    assert len(fixed.recipe.groups) == 2
    assert fixed.recipe.lr is not None
    assert fixed.recipe.lr < 30.0
    assert fixed.recipe.groups[0].settings["lr"] == pytest.approx(fixed.recipe.lr / 10)
