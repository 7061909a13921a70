"""What is asked for lies further back than the recurrence remembers (Bengio, Simard and Frasconi 1994)."""

from __future__ import annotations

import dataclasses

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.nets import Knobs, Unrolled
from bench.diagnosis.tasks import adding_task


@fault(
    "long-term-dependency",
    bases=names(task="adding-far"),
    twinned=True,
    grades={
        "lag 1": (2, "rnn"),
        "lag 15": (30, "rnn"),
        "lag 20": (40, "rnn"),
        "lag 15, unrolled": (30, "loop"),
        "lag 20, rmsprop": (40, "rmsprop"),
    },
)
def adding(base: Base, how: tuple[int, str]) -> Sick:
    """A plain network beside a gated one."""
    steps, form = how
    task = dataclasses.replace(adding_task(base.stream, steps), name="adding-far")
    recipe = base.recipe.edit(epochs=12)
    model = (lambda: Unrolled("rnn", task, Knobs())) if form == "loop" else None
    sick = recipe.edit(lr=3e-3) if form != "rmsprop" else recipe.edit(optimizer="rmsprop", lr=1e-3)
    return Sick(base.problem(task, net="rnn", model=model), sick, Setup(base.problem(task), recipe))
