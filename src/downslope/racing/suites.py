"""Sets of problems that are raced on together: ``downslope race --suite small``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from downslope.core import names
from downslope.core.errors import DataError, InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import Memory

_TESTED = "downslope.testing.problems"
_DATA = "downslope.data"


@dataclass(frozen=True)
class Member:
    """One problem of a suite.

    Attributes:
        make: Gives the problem, and what all contestants share: batch size and length.
        target: Level to reach; fixed, so that boards of different people have one.
        data: What has to be in ``DOWNSLOPE_DATA``; "" where it comes along.
        why: What it stands for.
    """

    make: Callable[[], tuple[Problem, Recipe]]
    target: float
    data: str = ""
    why: str = ""


@dataclass(frozen=True)
class Suite:
    """The problems of a suite that are there, and why the others are not.

    Attributes:
        name: Of the suite.
        tasks: Name to problem and common recipe.
        targets: Name to level.
        skipped: Name to the reason.
    """

    name: str
    tasks: Mapping[str, tuple[Problem, Recipe]]
    targets: Mapping[str, float]
    skipped: Mapping[str, str]


def _quadratic() -> tuple[Problem, Recipe]:
    """The published one, shuffled anew in every epoch: with its fixed order all seeds would be one run."""
    place = f"{_TESTED}.quadratic_deep"
    train, valid = names.load(f"{place}:data")(42), names.load(f"{place}:data")(43)
    made: Problem = names.load(f"{place}:problem")()
    return made.edit(train=(train,), valid=(valid,)), Recipe(batch_size=125, epochs=40)


def _a9a() -> tuple[Problem, Recipe]:
    table = names.load(f"{_DATA}:a9a")()
    train, valid = ((x, y.float()) for x, y in (table.train, table.valid))
    problem = Problem(model="logistic", objective="logistic", train=train, valid=valid, name="logistic_a9a")
    return problem, Recipe(batch_size=128, epochs=3)


def _digits_mlp() -> tuple[Problem, Recipe]:
    table = names.load(f"{_DATA}:digits")(scale=16)
    problem = Problem(
        model="mlp", arguments={"width": 64}, objective="cross_entropy", train=table.train, valid=table.valid,
        metric="accuracy", name="digits_mlp",
    )  # fmt: skip
    return problem, Recipe(batch_size=64, epochs=20)


def _digits_cnn() -> tuple[Problem, Recipe]:
    table = names.load(f"{_DATA}:digits")(scale=16, images=True)
    problem = Problem(
        model="cnn", objective="cross_entropy", train=table.train, valid=table.valid, metric="accuracy",
        name="digits_cnn",
    )  # fmt: skip
    return problem, Recipe(batch_size=64, epochs=12)


def _fmnist() -> tuple[Problem, Recipe]:
    """The first 3,200 images and 1,000 of those held out: 25 steps an epoch, judged after each."""
    whole: Problem = names.load(f"{_TESTED}.fmnist_2c2d:problem")()
    parts: dict[str, Any] = {}
    for part, source, n in (("train", whole.train_source, 3_200), ("valid", whole.valid_source, 1_000)):
        parts[part] = tuple(each[:n] for each in cast("Memory", source).batch)
    return whole.edit(**parts), Recipe(batch_size=128, epochs=4)


def _gpt() -> tuple[Problem, Recipe]:
    """The first 360 windows of the text and 150 of those held out: 30 steps an epoch, judged after each."""
    whole: Problem = names.load(f"{_TESTED}.char_gpt:problem")()
    parts: dict[str, Any] = {}
    for part, source, n in (("train", whole.train_source, 360), ("valid", whole.valid_source, 150)):
        text: Any = source
        tokens = text.tokens[: (n + 1) * text.block]
        parts[part] = type(text)(tokens, text.block, text.vocabulary, text.reading)
    return whole.edit(**parts), Recipe(batch_size=12, epochs=4)


def _cancer() -> tuple[Problem, Recipe]:
    table = names.load(f"{_DATA}:breast_cancer")(standardise=True)
    train, valid = ((x, y.float()) for x, y in (table.train, table.valid))
    problem = Problem(model="logistic", objective="logistic", train=train, valid=valid, name="breast_cancer")
    return problem, Recipe(batch_size=32, epochs=5)


def _wine() -> tuple[Problem, Recipe]:
    table = names.load(f"{_DATA}:wine")(standardise=True)
    problem = Problem(
        model="softmax", objective="cross_entropy", train=table.train, valid=table.valid, name="wine"
    )
    return problem, Recipe(batch_size=32, epochs=10)


SUITES: dict[str, dict[str, Member]] = {
    "small": {
        "quadratic_deep": Member(
            _quadratic, 90.0, "", "a noisy quadratic with the spectrum of a deep network"
        ),
        "logistic_a9a": Member(_a9a, 0.335, "libsvm/a9a", "convex, sparse, ill-scaled"),
        "digits_mlp": Member(_digits_mlp, 0.96, "", "a small dense network"),
        "digits_cnn": Member(_digits_cnn, 0.97, "", "a small convolutional network"),
        "fmnist_2c2d": Member(_fmnist, 0.78, "fashion_mnist", "a larger one, cut short"),
        "char_gpt": Member(_gpt, 2.75, "tinyshakespeare.txt", "a transformer, cut short"),
    },
    "tiny": {
        "breast_cancer": Member(_cancer, 0.1, "", "convex, seconds"),
        "wine": Member(_wine, 0.2, "", "convex, seconds"),
    },
}
"""Suite to its problems. Another one: one entry, its makers, its line in docs/guide/21-racing.md."""


def suite(name: str) -> Suite:
    """The problems of the suite called `name` that are there; data that is not is told, never fetched.

    Raises:
        InputError: no such suite (the nearest is told), or nothing of it is there.
    """
    if name not in SUITES:
        raise InputError(f"suite {name!r} is not known{names.did_you_mean(name, SUITES)}")
    tasks: dict[str, tuple[Problem, Recipe]] = {}
    skipped: dict[str, str] = {}
    for each, member in SUITES[name].items():
        if (lacking := _lacking(member.data)) is not None:
            skipped[each] = lacking
            continue
        try:
            tasks[each] = member.make()
        except DataError as error:
            skipped[each] = str(error)
    if not tasks:
        raise InputError(f"nothing of the suite {name!r} is there: {next(iter(skipped.values()))}")
    return Suite(name, tasks, {each: SUITES[name][each].target for each in tasks}, skipped)


def _lacking(data: str) -> str | None:
    """Why data is not at hand; None where it is, or none is needed."""
    if not data:
        return None
    root = os.environ.get("DOWNSLOPE_DATA", "")
    if not root:
        return f"needs {data}, and DOWNSLOPE_DATA is not set: give the folder that holds it"
    there = [*Path(root).joinpath(data).parent.glob(f"{Path(data).name}*")]
    return None if there else f"needs {data}, which is not in DOWNSLOPE_DATA={root}"
