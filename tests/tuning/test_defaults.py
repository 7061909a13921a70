"""The space that is searched where none is given."""

from __future__ import annotations

import pytest

from downslope.core.errors import SpaceError
from downslope.core.recipe import Lost, Recipe
from downslope.core.space import log, one_minus
from downslope.tuning.defaults import default_space

LR, FIRST = log(1e-5, 1e-1), log(1e-4, 1.0)
DECAY, AVERAGE = log(1e-7, 1e-1), one_minus(log(1e-3, 1e-1))


@pytest.mark.parametrize(
    ("recipe", "space"),
    [
        (Recipe(optimizer="momentum"), {"lr": FIRST, "momentum": AVERAGE, "weight_decay": DECAY}),
        (
            Recipe(optimizer="sgd"),
            {"lr": FIRST, "momentum": one_minus(log(1e-3, 1)), "weight_decay": DECAY},
        ),
        (Recipe(optimizer="sgd", momentum=0.9), {"lr": FIRST, "momentum": AVERAGE, "weight_decay": DECAY}),
        (
            Recipe(optimizer="adam"),
            {"lr": LR, "betas.0": AVERAGE, "betas.1": one_minus(log(1e-4, 1e-1)), "weight_decay": DECAY},
        ),
        (Recipe(optimizer="rmsprop"), {"lr": LR, "alpha": AVERAGE, "weight_decay": DECAY}),
        (Recipe(optimizer="gd"), {"lr": FIRST, "weight_decay": DECAY}),
        (Recipe(optimizer="lars"), {"lr": log(1e-2, 1e2), "momentum": AVERAGE, "weight_decay": DECAY}),
        (
            Recipe(optimizer="prodigy"),
            {
                "d_coef": log(0.1, 10.0),
                "betas.0": AVERAGE,
                "betas.1": one_minus(log(1e-4, 1e-1)),
                "weight_decay": DECAY,
            },
        ),
        (Recipe(optimizer="levenberg_marquardt"), {"damping": log(1e-6, 1.0)}),
        (Recipe(optimizer="trust_region"), {"radius": log(1e-2, 1e2)}),
    ],
    ids=lambda each: str(each)[:30],
)
def test_it_is_what_the_optimizer_has_in_the_ranges_of_the_book(recipe, space):
    found = default_space(recipe)
    assert found == space
    assert list(found) == list(space)


def test_the_range_of_the_rate_reaches_ten_times_beyond_one_that_was_said():
    assert default_space(Recipe(optimizer="sgd", lr=0.5))["lr"] == log(1e-4, 5.0)
    assert default_space(Recipe(optimizer="sgd", lr=1e-5))["lr"] == log(1e-6, 1.0)
    assert default_space(Recipe(optimizer="adam", lr=0.5))["lr"] == log(1e-5, 5.0)


def test_a_default_rate_is_inside_of_its_range():
    """Adadelta's is 1, ten times beyond what is searched of others."""
    for name in ("torch.optim:Adadelta", "torch.optim:SGD", "adam", "sgd"):
        rates = default_space(Recipe(optimizer=name))["lr"]
        assert rates.low < Recipe(optimizer=name).lr < rates.high


def test_what_has_nothing_to_search_says_so():
    with pytest.raises(SpaceError, match="is code"):
        default_space(Recipe(optimizer=Lost("own")))
    with pytest.raises(SpaceError, match="nothing that is searched by default"):
        default_space(Recipe(optimizer="lbfgs"))
