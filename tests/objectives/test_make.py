"""Objectives with settings: what they are, how they read, and back from their text."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core import names
from downslope.core.errors import InputError, ObjectiveError, UnknownNameError
from downslope.core.spelling import is_code, parse
from downslope.core.stated import reference
from downslope.objectives import (
    catalogue,
    composite,
    cross_entropy,
    edited,
    huber,
    l1,
    l2,
    make,
    meaning,
    penalised,
)

OUTPUT = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 2, 1, 0])

SPELT = [
    make("cross_entropy", label_smoothing=0.1),
    make("cross_entropy", weight=[1, 2, 0.5], label_smoothing=0.2),
    make("huber", delta=2),
    make("logistic", pos_weight=3.0),
    penalised("cross_entropy", l2=1e-3),
    penalised("cross_entropy(label_smoothing=0.1)", l1=1e-3, l2=1e-2),
    penalised("huber", l2(0.1, only=["net.*", "head.weight"], name="far"), l1(0.5, only="head.*")),
    composite({"digit": "cross_entropy", "odd": make("logistic", pos_weight=2.0)}, weights={"odd": 0.5}),
    composite({"a": "huber", "b": "absolute_error"}, weights="uncertainty", surgery="pcgrad"),
    penalised(composite({"a": "huber"}), elastic=0.1),
]


@pytest.mark.parametrize("own", SPELT, ids=str)
def test_the_text_makes_the_same_objective_again(own):
    text = reference(own)
    again = names.resolve("objective", text)
    assert reference(again) == text
    assert not is_code(text)
    assert type(again) is type(own)
    assert reference(copy.deepcopy(own)) == text


def test_settings_are_those_of_torch():
    ours = make("cross_entropy", label_smoothing=0.1, weight=(1.0, 2.0, 0.5))
    wanted = functional.cross_entropy(
        OUTPUT, TARGET, label_smoothing=0.1, weight=torch.tensor([1.0, 2.0, 0.5])
    )
    torch.testing.assert_close(ours(OUTPUT, TARGET), wanted)
    assert make("cross_entropy") is cross_entropy


def test_the_attributes_are_those_of_the_function():
    ours = make("cross_entropy", label_smoothing=0.1)
    for mark in ("expects", "target", "surrogate_for", "sum_over", "reduction", "likelihood"):
        assert getattr(ours, mark) == getattr(cross_entropy, mark)
        assert getattr(penalised(ours, l2=1.0), mark) == getattr(cross_entropy, mark)
    assert meaning(ours) == meaning(penalised(ours, l2=1.0)) == meaning("cross_entropy")
    assert meaning(penalised(nn.MSELoss(), l2=1.0)) == meaning(nn.MSELoss())


def test_other_settings_for_one_that_is_there():
    ours = edited(cross_entropy, {"label_smoothing": 0.1})
    assert repr(ours) == "cross_entropy(label_smoothing=0.1)"
    ours = edited(ours, {"l2": 0.01, "label_smoothing": 0.2})
    assert repr(ours) == "penalised(cross_entropy(label_smoothing=0.2), l2=0.01)"
    ours = edited(ours, {"l2": 0.02, "weight": [1, 1, 2]})
    assert repr(ours) == "penalised(cross_entropy(label_smoothing=0.2, weight=[1.0, 1.0, 2.0]), l2=0.02)"
    assert (
        repr(edited(ours, {"l2": 0}))
        == "penalised(cross_entropy(label_smoothing=0.2, weight=[1.0, 1.0, 2.0]))"
    )
    both = edited(SPELT[7], {"weights.digit": 2.0, "odd.pos_weight": 4.0})
    assert reference(both) == (
        "composite({'digit': 'cross_entropy', 'odd': logistic(pos_weight=4.0)}, "
        "weights={'digit': 2.0, 'odd': 0.5})"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("huber(delta=0)", r"^huber: delta=0: must be a number in \(0, inf\)$"),
        ("huber(delta=nan)", "must be a number"),
        ("cross_entropy(label_smoothing=1.5)", r"must be a number in \[0, 1\]"),
        ("cross_entropy(weight=[1, -1])", r"must be numbers in \[0, inf\)"),
        ("cross_entropy(label_smoothin=0.1)", "did you mean 'label_smoothing'"),
        ("cros_entropy(weight=[1])", "did you mean 'cross_entropy'"),
        ("huber(2.0)", "settings go by name"),
        ("huber(delta=open('x'))", "objective 'open' is not known"),
        ("huber(delta=2.0", "cannot be read"),
        ("(lambda: 0)()", "no name with settings"),
        ("penalised(huber, l2=-1)", "must be a number in"),
        ("penalised(huber, l3=1)", "no penalty 'l3'"),
        ("penalised(huber, l2(0.1), l2=0.2)", "two penalties are called 'l2'"),
        ("composite({})", "needs tasks"),
        ("composite({'a': huber}, weights={'b': 1})", "no task 'b'"),
        ("composite({'a': huber}, weights={'a': -1})", "must be a number in"),
        ("composite({'a': huber}, surgery='cagrad')", "must be 'pcgrad'"),
        ("elastic(1)", "is a penalty, which goes beside"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(text, told):
    with pytest.raises(InputError, match=told) as error:
        ds.Problem(model=lambda: nn.Linear(3, 3), objective=text, train=(OUTPUT, TARGET))
    assert "\n" not in str(error.value)


def test_a_text_is_read_and_never_executed(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(InputError):
        names.resolve("objective", f"huber(delta=__import__('pathlib').Path({str(target)!r}).touch())")
    assert not target.exists()


def test_code_is_known_as_such():
    for text in ("<function x>", "a.b:Loss()", "penalised('a:Loss()', l2=1.0)", "penalised(<lambda>)"):
        assert is_code(text)
    for text in ("huber", "huber(delta=1.0)", "a.b:loss", "a.b:loss(alpha=1.0)", None):
        assert not is_code(text)
    assert is_code(reference(penalised(lambda o, t: o.mean(), l2=1.0)))
    assert is_code(reference(penalised(nn.CrossEntropyLoss(), l2=1.0)))


def test_settings_of_code_cannot_be_changed_and_that_is_told():
    with pytest.raises(ObjectiveError, match=r"objective.label_smoothing: CrossEntropyLoss"):
        edited(nn.CrossEntropyLoss(), {"label_smoothing": 0.1})
    with pytest.raises(UnknownNameError):
        make("nothing")


def test_a_function_of_ones_own_has_settings_too():
    def bent(output, target, *, power: float = 2.0):
        return (output - target).abs().pow(power).mean()

    assert make(bent, power=3.0)(torch.tensor([2.0]), torch.tensor([0.0])).item() == 8
    with pytest.raises(ObjectiveError, match="no setting 'powr'; did you mean 'power'"):
        make(bent, powr=3.0)


def test_the_catalogue_has_every_named_objective_with_its_settings():
    rows = {row.name: row for row in catalogue()}
    assert list(rows) == list(names.TABLE["objective"])
    assert rows["huber"].settings == {"delta": 1.0}
    assert set(rows["cross_entropy"].settings) == {"label_smoothing", "weight", "ignore_index"}
    assert rows["cross_entropy"].surrogate_for == "classification error"
    assert rows["squared_error"].likelihood == "a Gaussian"
    assert rows["huber"].function is huber
    assert all(row.formula and str(row).startswith(name) for name, row in rows.items())
    assert all(row.expects and row.target for name, row in rows.items() if name != "elbo")


def test_spelt_values_are_plain():
    found = parse("penalised(huber(delta=2), l2=-1.5, only=['a', 'b'])")
    assert found.args[0].settings == {"delta": 2}
    assert found.settings == {"l2": -1.5, "only": ("a", "b")}
