"""A case: what to train, what was injected, and where it stands in the bench. Built only when it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.diagnosis import fault as faults
from bench.diagnosis.base import RECIPES, Base, half, stream
from bench.diagnosis.fault import FAULTS, SCRIPTS, Fault, Script, Setup, Sick

SEEDS = (0, 1)

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


def cases() -> Iterator[Case]:
    """All of them: twins first, then odd choices, then faults, symptom by symptom."""
    faults.load()
    from bench.diagnosis.odd import ODD

    for name in RECIPES:
        for seed in SEEDS:
            yield _twin(Base(name, seed))
    for name, made in ODD.items():
        for seed in SEEDS:
            number = stream("odd", name, seed)
            yield Case(f"odd/{name}/{seed}", "odd", None, f"odd/{name}/-", "", 0, seed, half(number),
                       lambda made=made, number=number: made(number))  # fmt: skip
    for given in FAULTS:
        for name in given.bases:
            for seed in SEEDS:
                yield from _sick(given, Base(name, seed))
    for script in SCRIPTS:
        for seed in SEEDS:
            yield from _scripts(script, seed)


def _twin(base: Base) -> Case:
    return Case(f"twin/{base.name}/{base.seed}", "twin", None, base.name, "", 0, base.seed,
                half(base.stream), lambda: Setup(base.problem(), base.recipe))  # fmt: skip


def _sick(given: Fault, base: Base) -> Iterator[Case]:
    for level, (grade, value) in enumerate(given.grades.items()):

        def build(value: object = value) -> Sick:
            return given.inject(base, value)

        way = f"{given.way} " if given.way else ""
        name = f"{base.name}/{way}{grade}/{base.seed}"
        yield Case(f"{given.symptom}/{name}", "sick", given.symptom, base.name, f"{way}{grade}", level,
                   base.seed, half(base.stream), build, given.also)  # fmt: skip
        if given.twinned:
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
