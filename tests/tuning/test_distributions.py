"""A space in Optuna's terms, and back."""

from __future__ import annotations

import json

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from downslope.core.space import choice, draw, integer, log, one_minus, uniform, when
from downslope.tuning.distributions import distributions_of, params_of, values_of

SPACE = {
    "lr": log(1e-5, 0.1),
    "momentum": one_minus(log(1e-3, 1e-1)),
    "model.width": integer(16, 512, log=True),
    "dropout": when(uniform(0, 0.5), optimizer="sgd"),
    "optimizer": choice("sgd", "adam", None),
    "betas": choice((0.9, 0.99), (0.9, 0.999)),
    "nesterov": choice(True, 1),
}


def test_ranges_and_their_logarithms_are_optunas():
    assert distributions_of(SPACE) == {
        "lr": FloatDistribution(1e-5, 0.1, log=True),
        "1-momentum": FloatDistribution(1e-3, 1e-1, log=True),
        "model.width": IntDistribution(16, 512, log=True),
        "dropout": FloatDistribution(0, 0.5),
        "optimizer": CategoricalDistribution(["sgd", "adam", None]),
        "betas": CategoricalDistribution(["(0.9, 0.99)", "(0.9, 0.999)"]),
        "nesterov": CategoricalDistribution(["True", "1"]),
    }


@pytest.mark.parametrize("u", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_values_come_back_through_json_within_every_distribution(u):
    values = draw(SPACE, [u] * len(SPACE))
    params = params_of(SPACE, values)
    found = distributions_of(SPACE)
    assert all(found[name]._contains(found[name].to_internal_repr(it)) for name, it in params.items())
    back = values_of(SPACE, json.loads(json.dumps(params)))
    assert back == values


def test_parameters_of_another_space_are_left_out():
    assert values_of({"lr": log(1e-5, 0.1)}, {"lr": 0.01, "gone": 3}) == {"lr": 0.01}
