"""What a fault is: a symptom's id, the combinations it makes sense in, its grades, and how it is injected."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import downslope as ds
from bench.diagnosis.base import Base

Judged = Literal["metric", "last metric", "last loss"]


@dataclass(frozen=True)
class Setup:
    """Something to train."""

    problem: ds.Problem
    recipe: ds.Recipe


@dataclass(frozen=True)
class Sick(Setup):
    """A problem with a fault in it."""

    twin: Setup | None = None
    """The same without the fault; None: the combination as it stands."""
    judged: Judged = "metric"
    """What its outcome is read off: the best validation metric, the last one, or the last validation loss."""
    judge: ds.Problem | None = None
    """On whose validation data and metric the kept model is scored; None: on the run's own."""


@dataclass(frozen=True)
class Fault:
    symptom: str
    way: str
    """What is done, where one symptom is brought about in several ways."""
    bases: tuple[str, ...]
    grades: Mapping[str, Any]
    """From harmless to fatal; the value is handed to `inject`."""
    inject: Callable[[Base, Any], Sick]
    also: tuple[str, ...] = ()
    """Symptoms that name the same cause as well: a root among them is right too."""
    twinned: bool = False
    """Whether the fault brings a twin of its own, that is another than the combination as it stands."""


@dataclass(frozen=True)
class Script:
    """A fault that only a loop of one's own can have: a script for ``downslope watch``."""

    symptom: str
    name: str
    text: Callable[[int], str]
    """Seed to the script; it prints ``score=`` and a number, higher is better, at its end."""
    twin: Callable[[int], str]
    constant: float
    """The score of the best constant prediction."""


FAULTS: list[Fault] = []
SCRIPTS: list[Script] = []


def fault(
    symptom: str, *, bases: Sequence[str], grades: Mapping[str, Any], way: str = "",
    also: Sequence[str] = (), twinned: bool = False,
) -> Callable[[Callable[[Base, Any], Sick]], Callable[[Base, Any], Sick]]:  # fmt: skip
    """Register a way to bring a symptom about."""

    def register(inject: Callable[[Base, Any], Sick]) -> Callable[[Base, Any], Sick]:
        FAULTS.append(Fault(symptom, way, tuple(bases), grades, inject, tuple(also), twinned))
        return inject

    return register


def load() -> None:
    """Import every file of `faults`, in the order of their names."""
    package = importlib.import_module("bench.diagnosis.faults")
    for each in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        importlib.import_module(f"bench.diagnosis.faults.{each.name}")
