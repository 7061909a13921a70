"""Inputs that say nothing about the target: rows out of step, noise, one and the same row."""

from __future__ import annotations

import torch

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import Pair

SOME = names(task="digits wine cancer friedman labels images rows motifs adding table")


@fault("uninformative-inputs", way="out of step", bases=SOME, grades={"a twentieth": 0.05, "all": 1.0})
def out_of_step(base: Base, share: float) -> Sick:
    """A share of the inputs belongs to other rows' targets, in both parts."""

    def shuffled(pair: Pair) -> Pair:
        draw = torch.Generator().manual_seed(base.stream)
        rows = (torch.rand(len(pair[0]), generator=draw) < share).nonzero().flatten()
        x = pair[0].clone()
        x[rows] = pair[0][rows[torch.randperm(len(rows), generator=draw)]]
        return x, pair[1]

    healthy = base.problem()
    return Sick(
        base.problem(base.task.mapped(shuffled)), base.recipe, Setup(healthy, base.recipe), judge=healthy
    )


@fault(
    "uninformative-inputs",
    way="instead",
    bases=names(task="digits wine friedman images adding"),
    grades={"noise": "noise", "one row": "row"},
)
def something_else(base: Base, what: str) -> Sick:
    def replaced(pair: Pair) -> Pair:
        draw = torch.Generator().manual_seed(base.stream + len(pair[0]))
        x = torch.randn(pair[0].shape, generator=draw) if what == "noise" else pair[0][:1].expand_as(pair[0])
        return x.clone(), pair[1]

    return Sick(base.problem(base.task.mapped(replaced)), base.recipe)
