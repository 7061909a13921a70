"""Every training target is the same: a broken join, a wrong column."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import Pair


@fault(
    "constant-target",
    bases=names(task="digits wine cancer diabetes friedman labels images rows motifs adding"),
    grades={"in training": False, "in both parts": True},
)
def all_the_same(base: Base, both: bool) -> Sick:
    def same(pair: Pair) -> Pair:
        return pair[0], pair[1][:1].expand_as(pair[1]).clone()

    healthy = base.problem()
    task = base.task.mapped(same, same if both else (lambda pair: pair))
    return Sick(base.problem(task), base.recipe, Setup(healthy, base.recipe), judge=healthy)
