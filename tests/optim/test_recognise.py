"""What a factory makes becomes a name and settings, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope import optim
from downslope.core.errors import RecipeError, UnknownNameError
from downslope.optim import build, recognise
from downslope.testing import gradients, parameters, run
from downslope.training.optimizer import build_optimizer


def importable(params):
    groups = [{"params": params[:1], "lr": 0.5}, {"params": params[1:]}]
    return torch.optim.SGD(groups, lr=0.1)


class Own(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, twist=2.0):
        super().__init__(params, {"lr": lr, "twist": twist})


@pytest.mark.parametrize(
    ("factory", "name", "lr", "settings"),
    [
        (lambda p: torch.optim.SGD(p, lr=3.0), "sgd", 3.0, {}),
        (torch.optim.Adam, "adam", 1e-3, {}),
        (
            lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, fused=True),
            "sgd",
            0.1,
            {"momentum": 0.9, "nesterov": True},
        ),
        (
            lambda p: torch.optim.AdamW(p, weight_decay=0.1, foreach=True),
            "adamw",
            1e-3,
            {"weight_decay": 0.1},
        ),
        (lambda p: torch.optim.Adam(p, lr=torch.tensor(0.25)), "adam", 0.25, {}),
        (lambda p: torch.optim.Adagrad(p, lr_decay=0.1), "adagrad", 1e-2, {"lr_decay": 0.1}),
        (lambda p: torch.optim.RMSprop(p, centered=True), "rmsprop", 1e-2, {"centered": True}),
        (lambda p: optim.Momentum(p, lr=0.2, momentum=0.5), "momentum", 0.2, {"momentum": 0.5}),
        (optim.GD, "gd", 1e-3, {}),
        (lambda p: torch.optim.NAdam(p, lr=0.1), "nadam", 0.1, {}),
        (
            lambda p: torch.optim.RAdam(p, weight_decay=0.1, decoupled_weight_decay=True),
            "radam",
            1e-3,
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ),
        (lambda p: torch.optim.Adamax(p, betas=(0.8, 0.9)), "adamax", 2e-3, {"betas": (0.8, 0.9)}),
        (lambda p: torch.optim.Adadelta(p, rho=0.95), "adadelta", 1.0, {"rho": 0.95}),
        (lambda p: optim.Lion(p, lr=0.1), "lion", 0.1, {}),
        (lambda p: torch.optim.ASGD(p, lr=0.1), "torch.optim:ASGD", 0.1, {}),
        (lambda p: torch.optim.Adam(p, amsgrad=True), "adam", 1e-3, {"amsgrad": True}),
        (lambda p: torch.optim.SGD(p, momentum=1.5), "torch.optim:SGD", 1e-3, {"momentum": 1.5}),
    ],
)
def test_factory_becomes_name_and_settings_and_they_build_the_same_steps(factory, name, lr, settings):
    found = recognise(factory)
    assert (found.name, found.lr, found.settings) == (name, lr, settings)
    assert found.editable
    first, second = parameters(torch.float64), parameters(torch.float64)
    run(factory(first), gradients(torch.float64, 5))
    run(build(found.name, second, {"lr": found.lr, **found.settings}), gradients(torch.float64, 5))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)  # a tensor lr is float32 in torch


def test_factory_with_groups_that_can_be_imported_is_its_path():
    found = recognise(importable)
    assert found.name == f"{__name__}:importable"
    assert not found.editable
    assert "2 parameter groups" in found.description
    made = build(found.name, parameters(torch.float32), {})
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.1]


@pytest.mark.parametrize(
    "factory",
    [
        lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.1}], lr=0.2),
        lambda p: Own(p, lr=0.2),
        lambda p: optim.Custom(p, optim.chain(optim.ScaleByLr(lr=0.1))),
    ],
)
def test_other_code_is_opaque(factory):
    found = recognise(factory)
    assert found.name is None
    assert not found.editable


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda p: torch.optim.SGD(p, lr=-1), "factory raised ValueError: Invalid learning rate"),
        (lambda p: p.nothing, "factory raised AttributeError"),
        (lambda p: None, "factory gave a NoneType: it must give a torch.optim.Optimizer"),
        (lambda p: optim.SGD(p, lr=-1), r"lr=-1: must lie in \[0, inf\)"),
        (lambda: None, "factory raised TypeError"),
    ],
)
def test_factory_that_fails_is_refused_in_one_line(factory, message):
    with pytest.raises(RecipeError, match=message) as caught:
        recognise(factory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("adam", {"beta": 1}, RecipeError, "has no hyper-parameter 'beta'; did you mean 'betas'"),
        ("sgd", {"momentun": 1}, RecipeError, "did you mean 'momentum'"),
        ("torch.optim:NAdam", {"momentum_decy": 1}, RecipeError, "did you mean 'momentum_decay'"),
        ("torch.optim:NAdam", {"lr": -1}, RecipeError, "Invalid learning rate: -1"),
        ("torch:ones", {}, RecipeError, "'torch:ones'"),
        ("torch:float32", {}, RecipeError, "must be a class or a factory"),
        ("adma", {}, UnknownNameError, "did you mean 'adam'"),
    ],
)
def test_building_from_wrong_settings_names_the_nearest(name, settings, error, message):
    with pytest.raises(error, match=message):
        build(name, [nn.Parameter(torch.zeros(1))], settings)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (lambda p: optim.Adam(p, lr=0.1, nonfinite="skip", backend="reference"), "adam"),
        (lambda p: optim.SAM(p, "adam", lr=0.1, nonfinite="skip", backend="reference"), "sam(adam)"),
    ],
)
def test_what_is_of_all_groups_is_kept_by_a_recipe_and_made_again(factory, name):
    recipe = ds.Recipe(optimizer=factory)
    assert recipe.optimizer == name
    assert recipe.settings == {"nonfinite": "skip", "backend": "reference"}
    again = ds.Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    made = build_optimizer(again, nn.Linear(2, 2))
    assert (made.nonfinite, getattr(made, "base_optimizer", made).backend) == ("skip", "reference")


@pytest.mark.parametrize("given", [{"nonfinite": "skipp"}, {"backend": "referense"}])
def test_what_is_of_all_groups_is_checked_with_the_recipe(given):
    with pytest.raises(RecipeError, match="must be one of None"):
        ds.Recipe(optimizer="adam", **given)
    with pytest.raises(RecipeError, match="is no key of a group"):
        ds.Recipe(optimizer="adam", groups=[{"ndim": 1, next(iter(given)): None}])


def test_a_factory_of_muon_without_names_orthogonalises_every_matrix_as_its_code_does(caplog) -> None:
    """And nothing is said of parameters that are thrown away; a class, which a recipe calls, has roles."""
    found = recognise(lambda p: optim.Muon(p, lr=0.1))
    assert (found.name, found.settings) == ("muon", {"matrices": True})
    around = recognise(lambda p: optim.Lookahead(optim.Muon(p, lr=0.1)))
    assert (around.name, around.settings) == ("lookahead(muon)", {"matrices": True})
    assert recognise(lambda p: optim.Muon(p, matrices={"ndim": [4]})).settings == {"matrices": {"ndim": [4]}}
    assert recognise(optim.Muon).settings == {}
    assert not caplog.records

    def trained(optimizer) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
        if not isinstance(optimizer, str):
            problem = ds.Problem(model=model, train=(x, y), objective="cross_entropy")
            recipe = ds.Recipe(optimizer=optimizer, batch_size="full", steps=3)
            return ds.fit(problem, recipe).model()
        muon = optim.Muon(model.parameters(), lr=0.1, matrices=True)
        for _ in range(3):
            muon.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            muon.step()
        return model

    ours, theirs = trained(lambda p: optim.Muon(p, lr=0.1)), trained("by hand")
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def bound_by_hook(optimizer, params) -> None:
    optimizer.register_step_post_hook(lambda *_: [p.detach().clamp_(-0.1, 0.1) for p in params] and None)


def bound_by_method(optimizer, params) -> None:
    whole = optimizer.step

    def step(closure=None):
        found = whole(closure)
        bound_by_hook_of(params)
        return found

    optimizer.step = step


def bound_by_hook_of(params) -> None:
    for p in params:
        p.detach().clamp_(-0.1, 0.1)


def bound_inside(optimizer, params) -> None:
    bound_by_hook(getattr(optimizer, "base_optimizer", optimizer), params)


@pytest.mark.parametrize("bound", [bound_by_hook, bound_by_method, bound_inside])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.5),
        lambda p: optim.Adam(p, lr=0.5),
        lambda p: optim.SAM(p, base_optimizer=torch.optim.SGD, lr=0.5),
    ],
    ids=["torch's", "ours", "around torch's"],
)
def test_what_a_factory_puts_into_its_optimizer_stays_in_a_run(make, bound) -> None:
    def factory(params):
        optimizer = make(params)
        bound(optimizer, params)
        return optimizer

    assert recognise(make).name is not None
    assert recognise(factory).name is None
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.clamp_(-0.05, 0.05)
    data = torch.randn(20, 4), torch.randn(20, 3)
    problem = ds.Problem(model=model, train=data, objective="squared_error")
    run = ds.fit(problem, ds.Recipe(optimizer=factory, batch_size="full", steps=5), progress=False)
    assert run.state("last")["weight"].abs().max() <= 0.1


def test_a_scheduler_inside_a_factory_keeps_it_code() -> None:
    def factory(params):
        optimizer = torch.optim.SGD(params, lr=0.5)
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return optimizer

    assert recognise(factory).name is None
