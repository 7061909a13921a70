"""Torch's arguments that choose an implementation: taken, and of no consequence."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.core.recipe import Recipe, optimizer_defaults
from downslope.optim.implementation import IMPLEMENTATION

CLASSES = (optim.SGD, optim.Adagrad, optim.RMSprop, optim.Adam, optim.AdamW)


def make(cls, **given):
    p = nn.Parameter(torch.linspace(-1.0, 1.0, 5))
    p.grad = torch.linspace(0.5, 2.0, 5)
    optimizer = cls([p], lr=0.1, **given)
    optimizer.step()
    return optimizer, p


@pytest.mark.parametrize("cls", CLASSES)
def test_class_takes_what_torchs_class_takes(cls):
    theirs = inspect.signature(getattr(torch.optim, cls.__name__)).parameters
    assert set(cls.implementation) == set(IMPLEMENTATION) & set(theirs)


@pytest.mark.parametrize("cls", CLASSES)
def test_they_choose_nothing(cls):
    plain, wanted = make(cls)
    for name in cls.implementation:
        refused = name in ("capturable", "differentiable")
        for value in (None, False) if refused else (None, False, True):
            optimizer, p = make(cls, **{name: value})
            assert torch.equal(p, wanted)
            assert set(optimizer.param_groups[0]) == set(plain.param_groups[0])
            assert optimizer.plan() == plain.plan()


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (optim.Adam, {"differentiable": True}, "differentiable=True: not supported, no gradient flows"),
        (optim.SGD, {"differentiable": True}, "differentiable=True: not supported"),
        (optim.Adam, {"capturable": True}, "capturable=True: not supported, .* CUDA graphs; leave it False"),
        (optim.Adam, {"fused": "yes"}, "fused='yes': must be True, False or None"),
        (optim.Adam, {"beta": (0.9, 0.99)}, "Adam has no hyper-parameter 'beta'; did you mean 'betas'"),
        (optim.SGD, {"momentun": 0.9}, "SGD has no hyper-parameter 'momentun'; did you mean 'momentum'"),
        (optim.AdamW, {"foreech": True}, "did you mean 'foreach'"),
        (optim.RMSprop, {"fused": True}, "RMSprop has no hyper-parameter 'fused'"),
        (optim.SGD, {"capturable": False}, "SGD has no hyper-parameter 'capturable'"),
    ],
)
def test_others_are_refused_in_one_line(cls, given, message):
    with pytest.raises(RecipeError, match=message) as caught:
        make(cls, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_they_are_no_settings_of_a_recipe(name):
    hidden = {*IMPLEMENTATION, "implementation"}
    assert not hidden & optimizer_defaults(name).keys()
    row = next(row for row in optim.catalogue() if row.name == name)
    assert not hidden & {setting.name for setting in row.hyper_parameters}
    with pytest.raises(RecipeError, match="'foreach' is no key of a recipe"):
        Recipe(optimizer=name, foreach=True)
