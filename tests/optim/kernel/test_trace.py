"""Rules are recorded as lists of operators, and what is none is refused with its reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import Rule, Scalars, ScaleByLr, chain
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.routes import routed


@dataclass(frozen=True, kw_only=True)
class Free(Rule):
    """A rule without state, whose update a test sets."""

    what: str = "plain"
    rate: float = 0.5
    way: ClassVar = staticmethod(lambda rule, g, p, k: g)

    def init(self, p):
        return ()

    def at(self, t):
        return Scalars(rate=self.rate)

    def update(self, g, state, p, k):
        return type(self).way(self, g, p, k), ()


def made(way):
    """A rule of a class of its own, as what is recorded is kept by class."""
    return type("Made", (Free,), {"way": staticmethod(way)})


def recorded(way):
    return traced(chain(made(way)(), ScaleByLr(lr=0.1)))


def test_operations_are_those_of_the_rule_in_their_order():
    found = recorded(lambda rule, g, p, k: k.rate * g + p.sqrt())
    assert [(op.kind, op.args) for op in found.update.ops] == [
        ("mul", ("k0_rate", "g")),
        ("sqrt", ("p",)),
        ("add", ("mul", "sqrt")),
        ("mul", ("k1_lr", "add")),
    ]
    assert found.scalars == {"k0_rate": (0, "rate"), "k1_lr": (1, "lr")}
    assert found.update.results == ("mul_1",)


REFUSED = {
    "exp is none of the operators": lambda rule, g, p, k: g.exp(),
    "mean is none of the operators": lambda rule, g, p, k: g - g.mean(),
    "pow is none of the operators": lambda rule, g, p, k: g**2,
    "add is none of the operators": lambda rule, g, p, k: torch.add(g, p, alpha=2.0),
    "mul_ is none of the operators": lambda rule, g, p, k: g.mul_(2.0),
    "not a list of operators": lambda rule, g, p, k: g if g > 0 else p,
    "Made_rate is read while an element is updated": lambda rule, g, p, k: rule.rate * g,
    r"float\(\) of a number would round it": lambda rule, g, p, k: g.float(),
    "not a list of operators \\(": lambda rule, g, p, k: g * torch.ones(3),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_operator_is_named(reason):
    found = recorded(REFUSED[reason])
    assert isinstance(found, str)
    assert re.search(reason, found)


def test_a_rule_that_is_refused_is_stepped_by_torch_and_the_plan_says_why():
    rule = made(REFUSED["exp is none of the operators"])()
    p = torch.nn.Parameter(torch.zeros(100_000))
    optimizer = optim.Custom([p], chain(rule, ScaleByLr(lr=0.1)))
    (row,) = optimizer.plan().rows
    assert row.backend == "eager"
    assert "exp is none of the operators" in row.reason
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(p.detach(), torch.full_like(p, -0.1))
    with pytest.raises(RecipeError, match="backend='kernel': exp is none"):
        optim.Custom([p], chain(rule, ScaleByLr(lr=0.1)), backend="kernel")


def test_a_switch_is_part_of_what_is_recorded_and_a_number_is_not():
    rule = made(lambda rule, g, p, k: g + p if rule.what == "plain" else g - p)
    plain, other = (traced(chain(rule(what=what))) for what in ("plain", "other"))
    assert [op.kind for op in plain.update.ops] == ["add"]
    assert [op.kind for op in other.update.ops] == ["sub"]
    assert traced(chain(rule(rate=0.25))) is plain


def test_what_a_link_adds_up_is_recorded_with_the_links_before_it():
    class Norm(ScaleByLr):
        scope = "global"
        measures = ("squares",)

        def measure(self, g, state, p, k):
            return (g * g,)

    found = traced(chain(made(lambda rule, g, p, k: k.rate * g)(), Norm(lr=0.1)))
    assert isinstance(found, Traced)
    assert [op.kind for op in found.measures[1].ops] == ["mul", "mul"]
    assert found.measures[1].reads == {"g", "k0_rate"}


def test_every_optimizer_of_the_catalogue_without_matrices_has_programs():
    for row in optim.catalogue():
        composed = row.cls.compose({each.name: each.default for each in row.hyper_parameters})
        for found in routed(composed).active().chains:
            assert found.scope == "matrix" or isinstance(traced(found), Traced), (row.name, traced(found))
