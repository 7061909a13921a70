"""Schedules with settings: spelt in one way, the same from a file, refused in one line."""

from __future__ import annotations

import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError, RecipeError
from downslope.training.rates import schedule_of

CASES = [
    ("cosine(final=0.1)", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.1)),
    ("step(every=5, factor=0.5)", lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.5)),
]


@pytest.mark.parametrize(("spelt", "make"), CASES, ids=["cosine", "step"])
def test_a_setting_is_that_of_torchs_scheduler(spelt, make) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, factor = make(optimizer), schedule_of(ds.Recipe(schedule=spelt, steps=20), 20)
    for t in range(20):
        assert factor(t) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_it_comes_back_from_a_file_as_it_was() -> None:
    recipe = ds.Recipe(schedule="Cosine( final = 0.1 )", steps=5)
    assert recipe.schedule == "cosine(final=0.1)"
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_setting_without_a_name_is_taken_by_its_place() -> None:
    assert ds.Recipe(schedule="cosine(0.1)", steps=5).schedule == "cosine(final=0.1)"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cosine(finale=0.1)", "schedule 'cosine' has no setting 'finale'; did you mean 'final'?"),
        ("cosine(final=2)", "final=2: must lie in"),
        ("cosine(0.1, 2, 3, 4)", "too many: it takes final"),
        ("constant(0.1)", "too many: it has none"),
        ("cosine(0.1, final=0.2)", "final is given twice"),
        ("cosin(final=0.1)", "did you mean 'cosine'"),
        ("cosine(final=", "cannot be read"),
        ("step(every='a')", "every='a'"),
    ],
)
def test_what_is_none_is_refused_in_one_line(given: str, said: str) -> None:
    with pytest.raises((RecipeError, InputError), match=r"^[^\n]*$") as error:
        ds.Recipe(schedule=given)
    assert said in str(error.value)


def test_an_average_takes_up_the_weights_at_the_ends_of_the_cycles_that_were_asked_for() -> None:
    x = torch.randn(40, 3)
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, x.sum(1)))
    recipe = ds.Recipe(
        optimizer="sgd", lr=0.01, steps=60, batch_size=10, average="swa", schedule="cyclic(cycles=4)"
    )
    run = ds.fit(problem, recipe, folder=False, progress=False)
    assert "every 15 steps" in run.choices["average"]
