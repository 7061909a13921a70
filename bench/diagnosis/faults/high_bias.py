"""A model too small for what it is to learn."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault

HARD = names(task="digits table friedman circles product labels", net="mlp mlp-custom")


@fault("high-bias", way="width", bases=HARD, grades={"32": 32, "2": 2, "1": 1})
def narrow(base: Base, width: int) -> Sick:
    twin = Setup(base.problem(depth=1, act="tanh"), base.recipe)
    return Sick(base.problem(width=width, depth=1, act="tanh"), base.recipe, twin)


@fault(
    "high-bias",
    way="linear",
    bases=names(task="circles product friedman moons many-moons", net="mlp"),
    also=("missing-nonlinearity",),
    grades={"no hidden layer": 0},
)
def linear(base: Base, depth: int) -> Sick:
    return Sick(base.problem(depth=depth), base.recipe)


@fault("high-bias", way="images", bases=names(task="images"), grades={"4 channels": 4, "1 channel": 1})
def few_channels(base: Base, channels: int) -> Sick:
    def parts(count: int) -> dict[str, int]:
        return {"channels": count}

    return Sick(base.problem(parts=parts(channels)), base.recipe)


@fault(
    "high-bias",
    way="sequences",
    bases=names(task="rows motifs adding", net="rnn gru lstm-custom rnn-custom"),
    grades={"40": 40, "1": 1},
)
def few_states(base: Base, width: int) -> Sick:
    return Sick(base.problem(width=width), base.recipe)
