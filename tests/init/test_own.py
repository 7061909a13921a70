"""A function of the user's own as the recipe's initialisation."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import ModelError, RecipeError, UnknownNameError
from downslope.diagnosis.finished import diagnose_run as finished
from downslope.training.tasks import load_task

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


PROBLEM = ds.Problem(model=network, objective="cross_entropy", train=(X, Y), valid=(X, Y), metric="accuracy")


def halves(model: nn.Module) -> None:
    for p in model.parameters():
        p.fill_(0.5)


def drawn(model: nn.Module, std: float = 0.02) -> None:
    for p in model.parameters():
        p.data.normal_(std=std)


def as_for_apply(net: nn.Module) -> None:
    if isinstance(net, nn.Linear):
        nn.init.constant_(net.weight, 0.25)
        nn.init.zeros_(net.bias)


def of_any_module(module: nn.Module) -> None:
    as_for_apply(module)


def of_a_weight(weight: Tensor, generator: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=generator).sign())


def start(init: Any, seed: int = 0) -> dict[str, Tensor]:
    return PROBLEM.build(seed, ds.Recipe(init=init).init).state_dict()


def test_a_function_of_the_model_makes_the_start() -> None:
    assert all(bool((value == 0.5).all()) for value in start(halves).values())


@pytest.mark.parametrize("function", [as_for_apply, of_any_module])
def test_a_function_of_a_module_is_called_with_every_module_as_apply_does(function: Any) -> None:
    wanted = network()
    wanted.apply(function)
    found = start(function)
    assert all(torch.equal(found[key], value) for key, value in wanted.state_dict().items())


def test_a_function_of_a_weight_fills_weights_and_leaves_biases_at_zero() -> None:
    found = start(of_a_weight)
    assert bool((found["0.weight"].abs() == 1).all())
    assert not bool(found["0.bias"].any())


def test_torchs_own_functions_can_be_given_as_they_are() -> None:
    found = start(nn.init.orthogonal_)["2.weight"]
    assert torch.allclose(found @ found.T, torch.eye(2), atol=1e-6)
    assert bool((start(functools.partial(nn.init.constant_, val=3.0))["0.weight"] == 3).all())


def test_what_it_draws_comes_from_the_seed_of_the_recipe() -> None:
    one, again, other = start(drawn, 1), start(drawn, 1), start(drawn, 2)
    assert torch.equal(one["0.weight"], again["0.weight"])
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert 0 < float(one["0.weight"].std()) < 0.05


def test_the_run_says_the_name_and_the_source_and_the_folder_keeps_them(tmp_path: Path) -> None:
    recipe = ds.Recipe(lr=0.01, epochs=2, init=functools.partial(drawn, std=0.5))
    run = ds.fit(PROBLEM, recipe, folder=tmp_path / "run", progress=False)
    assert "init drawn(std=0.5)" in str(run.recipe)
    assert run.facts["init"]["name"] == "drawn(std=0.5)"
    assert "p.data.normal_(std=std)" in run.facts["init"]["source"]
    kept = ds.load_run(tmp_path / "run", PROBLEM)
    assert kept.facts["init"] == run.facts["init"]
    assert "init drawn(std=0.5)" in str(kept.recipe)
    state = kept.model().state_dict()
    assert all(torch.equal(state[key], value) for key, value in run.model().state_dict().items())
    page = ds.report(kept).save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "p.data.normal_(std=std)" in page


def test_a_run_whose_start_was_code_goes_on_from_its_state_and_starts_anew_only_with_the_code(
    tmp_path: Path,
) -> None:
    recipe = ds.Recipe(lr=0.01, steps=3, init=drawn)
    ds.fit(PROBLEM, recipe, folder=tmp_path / "run", progress=False)
    longer = ds.load_run(tmp_path / "run", PROBLEM).recipe.edit(steps=6)
    resumed = ds.fit(PROBLEM, longer, folder=tmp_path / "run", resume=True, progress=False)
    whole = ds.fit(PROBLEM, recipe.edit(steps=6), folder=False, progress=False)
    assert resumed.summary["train_loss"] == whole.summary["train_loss"]
    with pytest.raises(
        RecipeError, match=r"the init of this run was code \(drawn\).*recipe.edit\(init=...\)"
    ):
        ds.fit(PROBLEM, longer, folder=False, progress=False)


TASK = """
import downslope as ds

def spread(model):
    for p in model.parameters():
        p.uniform_(-{width}, {width})

def problem():
    data = ds.data.digits(scale=16)
    return ds.Problem(model="softmax", objective="cross_entropy", train=data.train, valid=data.valid)

def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.1, steps=3, init=spread)
"""


def test_a_task_that_still_says_the_same_code_gives_it_back_to_its_run(tmp_path: Path) -> None:
    file = tmp_path / "task.py"
    file.write_text(TASK.format(width=0.1))
    task = load_task(str(file))
    ds.fit(task.problem, task.recipe, folder=tmp_path / "run", progress=False)
    same = ds.load_run(tmp_path / "run")
    same.the_problem()
    assert callable(same.recipe.init)
    assert "init" not in str(finished(same).not_checked)
    file.write_text(TASK.format(width=0.2))
    other = ds.load_run(tmp_path / "run")
    other.the_problem()
    with pytest.raises(RecipeError, match=r"the init of this run was code \(spread\)"):
        other.recipe.init(network())


def test_a_recipe_file_refuses_code_and_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"init drawn is code.*'module:function'"):
        ds.Recipe(init=drawn).save(tmp_path / "recipe.toml")


def test_a_function_in_a_module_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_starts.py").write_text(
        "def mine(model, *, value=0.5):\n    for p in model.parameters():\n        p.fill_(value)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert all(bool((value == 0.5).all()) for value in start("my_starts:mine").values())
    recipe = ds.Recipe(init="my_starts:mine").edit(**{"init.value": 0.25})
    again = ds.Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert all(bool((value == 0.25).all()) for value in start(again.init).values())
    sys.modules.pop("my_starts")


def nothing(model: nn.Module) -> None:
    del model


def another(model: nn.Module) -> nn.Module:
    halves(model)
    return network()


def broken(model: nn.Module) -> None:
    raise ValueError("no such layer")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (nothing, "init nothing changed no parameter.*in place"),
        (another, "init another returned another Sequential"),
        (broken, r"init broken failed: ValueError: no such layer \(test_own.py, line \d+\)"),
    ],
)
def test_a_function_that_is_no_initialisation_is_refused_in_one_line(function: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        ds.fit(PROBLEM, ds.Recipe(init=function, epochs=1), folder=False, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [nn.Linear, network(), 3])
def test_what_is_no_function_is_refused(given: Any) -> None:
    with pytest.raises((RecipeError, UnknownNameError), match="init="):
        ds.Recipe(init=given)


def test_a_setting_without_an_initialisation_is_told_whose_it_is() -> None:
    with pytest.raises(
        RecipeError, match=r"init.std=0.02: a setting of normal or truncated_normal"
    ) as caught:
        ds.Recipe(**{"init.std": 0.02})
    assert "init='normal(std=0.02)'" in str(caught.value)
    with pytest.raises(RecipeError, match=r"a factor on what any initialisation draws.*auto"):
        ds.Recipe(lr=0.1).edit(**{"init.scale": 0.5})
    with pytest.raises(RecipeError, match=r"no initialisation has such a setting; did you mean 'std'"):
        ds.Recipe(**{"init.stdd": 0.02})
    with pytest.raises(RecipeError, match=r"init is code \(drawn\), which has no settings"):
        ds.Recipe(init=drawn).edit(**{"init.std": 0.02})
