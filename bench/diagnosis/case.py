"""A case: what to train, what was injected, and where it stands in the bench. Built only when it is run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.diagnosis import fault as faults
from bench.diagnosis.base import RECIPES, Base, half, stream
from bench.diagnosis.fault import FAULTS, SCRIPTS, Fault, Script, Setup, Sick

HALVES = ("calibrate", "report")

MOST = 6
"""Combinations that a fault is injected into, unless all are asked for: evenly drawn from where it fits."""

Kind = Literal["sick", "twin", "odd", "script", "script twin"]


@dataclass(frozen=True)
class Case:
    id: str
    kind: Kind
    symptom: str | None
    """What was injected; None for a healthy one."""
    base: str
    """Task, model, optimizer; "odd/" and a name for odd choices."""
    grade: str
    level: int
    """0 for the mildest grade."""
    seed: int
    half: str
    build: Callable[[], Setup]
    also: tuple[str, ...] = ()
    script: Callable[[], str] | None = None
    constant: float | None = None
    worst: bool = True
    """Whether this is the last grade of its fault."""


def cases(*, wide: bool = False) -> Iterator[Case]:
    """All that is injected: twins first, then odd choices, then faults, symptom by symptom.

    Twins and odd choices stand in both halves, with seeds and data of their own. A fault in a combination
    stands in one of them, in turns.

    Args:
        wide: Every fault in every combination where it fits, in both halves.
    """
    faults.load()
    from bench.diagnosis.odd import ODD

    for name in RECIPES:
        for where in HALVES:
            yield _twin(Base(name, _seed(*name.split("/")[:2], where)))
    for name, made in ODD.items():
        for where in HALVES:
            seed = _seed("odd", name, where)
            number = stream("odd", name, seed)
            yield Case(f"odd/{name}/{seed}", "odd", None, f"odd/{name}/-", "", 0, seed, half(number),
                       lambda made=made, number=number: made(number))  # fmt: skip
    for given in FAULTS:
        turn = stream(given.symptom, given.way, 0)
        for i, name in enumerate(given.bases if wide else _drawn(given, turn)):
            for where in HALVES if wide else (HALVES[(turn // 2 + i) % 2],):
                yield from _sick(given, Base(name, _seed(*name.split("/")[:2], where)))
    for script in SCRIPTS:
        for where in HALVES:
            yield from _scripts(script, _seed("script", f"{script.symptom} {script.name}", where))


def _seed(task: str, net: str, where: str) -> int:
    """The smallest seed whose stream lies in that half."""
    return next(seed for seed in itertools.count() if half(stream(task, net, seed)) == where)


def _drawn(given: Fault, turn: int) -> list[str]:
    """At most `MOST` of its combinations: evenly spaced, each fault from another place on, then mixed."""
    count, n = min(MOST, len(given.bases)), len(given.bases)
    drawn = [given.bases[(turn + i * n // count) % n] for i in range(count)]
    return sorted(drawn, key=lambda name: stream(f"{given.symptom} {given.way}", name, 1) >> 1)


def _twin(base: Base) -> Case:
    return Case(f"twin/{base.name}/{base.seed}", "twin", None, base.name, "", 0, base.seed,
                half(base.stream), lambda: Setup(base.problem(), base.recipe))  # fmt: skip


def _sick(given: Fault, base: Base) -> Iterator[Case]:
    for level, (grade, value) in enumerate(given.grades.items()):

        def build(value: object = value) -> Sick:
            return given.inject(base, value)

        way = f"{given.way} " if given.way else ""
        name = f"{base.name}/{way}{grade}/{base.seed}"
        worst = level == len(given.grades) - 1
        yield Case(f"{given.symptom}/{name}", "sick", given.symptom, base.name, f"{way}{grade}", level,
                   base.seed, half(base.stream), build, given.also, worst=worst)  # fmt: skip
        if given.twinned and worst:
            yield Case(f"twin/{given.symptom}/{name}", "twin", None, base.name, f"{way}{grade}", level,
                       base.seed, half(base.stream), lambda build=build: own_twin(build()))  # fmt: skip


def own_twin(sick: Setup) -> Setup:
    """The twin that a fault brings with it."""
    assert isinstance(sick, Sick)
    assert sick.twin is not None
    return sick.twin


def _nothing() -> Setup:
    raise TypeError("a script is run, not built")


def _scripts(given: Script, seed: int) -> Iterator[Case]:
    number = stream("script", f"{given.symptom} {given.name}", seed)
    for kind, text in (("script", given.text), ("script twin", given.twin)):
        symptom = given.symptom if kind == "script" else None
        yield Case(f"{kind}/{given.symptom}/{given.name}/{seed}", kind, symptom, f"script/{given.name}/-", "",
                   0, seed, half(number), _nothing, (), lambda text=text: text(number),
                   given.constant)  # fmt: skip
