from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.cli.given import Given, changed, parsed
from downslope.cli.voice import Voice
from downslope.core.errors import InputError, RecipeError


def linear(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))


@pytest.fixture
def problem() -> ds.Problem:
    data = (torch.randn(8, 2), torch.randn(8, 1))
    return ds.Problem(model=linear, objective="squared_error", train=data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("64", 64),
        ("true", True),
        ("False", False),
        ("none", None),
        ("adam", "adam"),
        ('"full"', "full"),
        ("full", "full"),
        ("[0.9, 0.99]", [0.9, 0.99]),
        ("(0.9, 0.99)", (0.9, 0.99)),
        ("", ""),
        ("torch.optim:SGD", "torch.optim:SGD"),
    ],
)
def test_a_value_is_read_as_toml_then_as_python_then_as_text(text: str, value: object) -> None:
    found = parsed(text)
    assert found == value
    assert type(found) is type(value)


def test_settings_reach_the_recipe_the_model_and_the_problem(problem: ds.Problem) -> None:
    settings = ["lr=0.5", "model.width=7", "goal=0.25", "optimizer=sgd"]
    problem, recipe = changed(problem, ds.Recipe(), settings)
    assert (recipe.lr, recipe.optimizer) == (0.5, "sgd")
    assert problem.arguments == {"width": 7}
    assert problem.goal == 0.25


@pytest.mark.parametrize("settings", [["optimizer=gd"], ["optimizer=gd", "batch_size=full"]])
def test_a_method_on_all_of_the_data_brings_its_batch_size(problem: ds.Problem, settings: list[str]) -> None:
    _, recipe = changed(problem, ds.Recipe(batch_size=16), settings)
    assert (recipe.optimizer, recipe.batch_size) == ("gd", "full")
    with pytest.raises(RecipeError, match="gd sees the whole training set at every step"):
        changed(problem, ds.Recipe(), ["optimizer=gd", "batch_size=32"])


def test_a_setting_of_the_new_optimizer_is_accepted_beside_it(problem: ds.Problem) -> None:
    _, recipe = changed(problem, ds.Recipe(), ["momentum=0.8", "optimizer=momentum"])
    assert recipe.momentum == 0.8


@pytest.mark.parametrize(
    ("settings", "lr", "remark"),
    [
        (["optimizer=lion"], 1e-4, "lr 0.0001, lion's own, as 0.003 was for adam: lr=... says another"),
        (["optimizer=prodigy"], 1.0, "lr 1, prodigy's own, as 0.003 was for adam: lr=... says another"),
        (["optimizer=lion", "lr=0.003"], 0.003, ""),
        (["optimizer=adamw"], 0.003, ""),  # whose usual rate is Adam's
        (["optimizer=adam"], 0.003, ""),
        (["epochs=2"], 0.003, ""),
    ],
)
def test_another_optimizer_has_its_own_rate_where_adams_would_be_none(problem, settings, lr, remark) -> None:
    remarks: list[str] = []
    _, recipe = changed(problem, ds.Recipe(optimizer="adam", lr=0.003), settings, remarks)
    assert recipe.lr == lr
    assert remarks == ([remark] if remark else [])


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("batchsize=3", "batch_size"),
        ("epoch=3", "epochs"),
        ("gaol=1", "goal"),
        ("weight_deacy=0", "weight_decay"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_nearest(problem: ds.Problem, setting: str, nearest: str) -> None:
    with pytest.raises(RecipeError, match=f"did you mean '{nearest}'"):
        changed(problem, ds.Recipe(), [setting])


def test_a_misspelt_model_argument_is_answered_with_the_nearest(problem: ds.Problem) -> None:
    with pytest.raises(InputError, match="did you mean 'width'"):
        changed(problem, ds.Recipe(), ["model.widht=3"])


def test_a_setting_without_a_value_says_what_it_must_be(problem: ds.Problem) -> None:
    with pytest.raises(RecipeError, match="must be key=value"):
        changed(problem, ds.Recipe(), ["lr"])


def test_the_last_of_two_settings_of_one_key_wins(problem: ds.Problem) -> None:
    _, recipe = changed(problem, ds.Recipe(), ["lr=1", "lr=2"])
    assert recipe.lr == 2


def test_the_model_is_changed_by_name_and_reads_its_sizes_from_the_data(problem: ds.Problem) -> None:
    problem = problem.edit(model="mlp", arguments={"width": 7})
    remarks: list[str] = []
    changed_problem, _ = changed(problem, ds.Recipe(), ["model=Linear", "model.outputs=1"], remarks)
    assert changed_problem.model == "linear"
    assert changed_problem.arguments == {"outputs": 1}
    assert [tuple(p.shape) for p in changed_problem.build().parameters()] == [(1, 2), (1,)]
    assert remarks == ["model linear instead, which takes no width=7"]


@pytest.mark.parametrize(
    ("setting", "said"), [("model=linaer", "did you mean 'linear'"), ("model=3", "a name")]
)
def test_what_is_no_model_is_refused(problem: ds.Problem, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        changed(problem, ds.Recipe(), [setting])


def halves(model: nn.Module) -> None:
    for p in model.parameters():
        p.fill_(0.5)


def test_a_setting_of_an_initialisation_that_is_not_named_is_told_whose_it_is(problem: ds.Problem) -> None:
    with pytest.raises(RecipeError, match=r"init.std=0.02: a setting of normal or truncated_normal"):
        changed(problem, ds.Recipe(), ["init.std=0.02"])
    with pytest.raises(RecipeError, match=r"the recipe's init is code \(halves\)"):
        changed(problem, ds.Recipe(init=halves), ["init.std=0.02"])
    for settings in (["init=normal(std=0.02)"], ["init.std=0.02", "init=normal"]):
        assert changed(problem, ds.Recipe(), settings)[1].init == {"name": "normal", "std": 0.02}


def test_the_known_keys_are_each_told_once_with_the_families(problem: ds.Problem) -> None:
    with pytest.raises(RecipeError, match="known: ") as refused:
        changed(problem, ds.Recipe(), ["zzz=1"])
    known = str(refused.value).partition("known: ")[2].split(", ")
    assert len(known) == len(set(known))
    assert {"model", "model.NAME", "objective.NAME", "init.NAME", "maximize"} <= set(known)


def test_the_recipe_is_told_as_it_is_after_the_edits(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = Voice()
    _, recipe = Given(task="digits", settings=["model=softmax", "batch_size=16"]).load(voice)
    voice.begin()
    *_, model, last = capsys.readouterr().err.splitlines()
    assert last == str(recipe)
    assert "batch 16" in last
    assert model.endswith("; model softmax instead")
    assert "batch_size 64 -> 16" in caplog.text
