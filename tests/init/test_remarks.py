"""What `fit` says of a start: of equal units, and of residual branches."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.init import remark
from tests.init.test_fixup import residual


def digits(**arguments):
    data = ds.data.digits(scale=16)
    return ds.Problem(model="mlp", objective="cross_entropy", train=data.train, arguments=arguments)


@pytest.mark.parametrize("init", ["zeros", "constant", {"name": "constant", "value": 0.5}])
def test_fit_says_in_one_line_that_equal_units_stay_equal(init, caplog):
    caplog.set_level(logging.WARNING, logger="downslope")
    ds.fit(digits(depth=2), ds.Recipe(steps=2, init=init), folder=False, observe=0)
    told = [record.message for record in caplog.records if record.message.startswith("init ")]
    assert len(told) == 1
    assert "the units of 1, 3 start alike" in told[0]
    assert "init='auto'" in told[0]


def test_nothing_is_said_of_a_model_without_hidden_layers_or_of_a_random_start(caplog):
    caplog.set_level(logging.WARNING, logger="downslope")
    ds.fit(digits(depth=0), ds.Recipe(steps=2, init="zeros"), folder=False, observe=0)
    ds.fit(digits(depth=2), ds.Recipe(steps=2, init="he"), folder=False, observe=0)
    assert not [record for record in caplog.records if record.message.startswith("init ")]


def test_fixup_says_what_it_took_for_a_residual_branch():
    told = remark(residual(3), "fixup", torch.randn(2, 64))
    assert told == (
        "init fixup: 3 residual branches, from 1: 1.layers.0.weight -> 1.layers.1.weight "
        "to 3: 3.layers.0.weight -> 3.layers.1.weight"
    )
    assert remark(nn.Linear(2, 2), None, None) is None


def test_diagnose_finds_the_zeros():
    found = ds.diagnose(digits(depth=2), ds.Recipe(optimizer="sgd", lr=0.1, epochs=3, init="zeros"))
    assert found.findings[0].symptom == "symmetric-init"
    assert str(found.findings[0].remedies[0]) == "initialise the weights to suit each layer's activation"
