"""Where a race between equals could be decided after all: measured seconds, problems without noise, many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.racing.entry import Entry
from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome
from downslope.racing.pace import pace
from downslope.racing.protocol import Protocol
from downslope.racing.race import race
from downslope.racing.ranking import ranked
from downslope.racing.result import Race
from downslope.racing.times import Target, step_ratio

LOSS = Measure("valid_loss", "loss", up=False)


def raced(levels: Sequence[float], steps: Sequence[float] = (), *, still: bool = False) -> list[Outcome]:
    """Runs of these levels that reach the target 0.5 at `steps`."""
    times = steps or [10.0] * len(levels)
    return [
        Outcome(
            problem="", contestant="", phase="race", number=i, seed=i, status="done", level=level,
            steps=(0, int(time)), levels=(1.0, 0.5 if still else 0.5 - 1e-6 * i),
        )
        for i, (level, time) in enumerate(zip(levels, times, strict=True))
    ]  # fmt: skip


def entry(who: str, runs: list[Outcome], where: str = "p", rounds: Sequence[float] = (1.0,)) -> Entry:
    return Entry(
        problem=where, contestant=who, measure=LOSS, target=Target(0.5, "given", "given"), recipe=ds.Recipe(),
        raced=runs, step_seconds=float(np.median(rounds)), rounds=rounds,
    )  # fmt: skip


def by_seconds(a: Entry, b: Entry) -> Race:
    return Race(protocol=Protocol(seeds=len(a.raced), by="seconds"), trials=0, entries=[a, b])


def test_by_seconds_too_a_race_between_a_recipe_and_itself_is_undecided() -> None:
    """All seeds have the one pace that was measured: its error has one sign on all of them."""
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (x[:, 0] > 0).long()
    own = ds.Problem(
        model=lambda: torch.nn.Linear(3, 2).double(), objective="cross_entropy", train=(x[:16], y[:16]),
        valid=(x[16:], y[16:]),
    )  # fmt: skip
    same = ds.Recipe(optimizer="sgd", lr=0.3, batch_size=8, epochs=3)
    options: dict[str, Any] = {"seeds": 8, "trials": 0, "target": 0.69, "by": "seconds", "progress": False}
    found = race(own, {"one": same, "other": same}, **options)
    assert found.winner is None
    assert len(found.entry("one").rounds) == 9


def test_seconds_decide_only_where_they_do_at_both_ends_of_what_was_measured() -> None:
    runs = raced([0.1] * 8, [20, 22, 24, 26, 28, 30, 32, 34])
    close = by_seconds(entry("a", runs, rounds=(1.0, 1.1, 0.9)), entry("b", runs, rounds=(1.05, 1.05, 1.0)))
    assert close.paired("a", "b").mean != 0
    assert close.winner is None
    apart = by_seconds(entry("a", runs, rounds=(1.0, 1.1, 0.9)), entry("b", runs, rounds=(2.1, 2.0, 1.9)))
    assert apart.winner == "a"
    assert apart.paired("b", "a").verdict == "second"
    fewer = raced([0.1] * 8, [18, 20, 22, 23, 25, 27, 29, 31])  # a tenth fewer, perhaps 1.4 times as long
    unsure = by_seconds(entry("a", fewer, rounds=(0.99, 1.4, 1.2)), entry("b", runs, rounds=(1.0, 1.0, 1.0)))
    assert unsure.winner is None


def test_the_ratio_of_two_paces_is_known_within_its_rounds() -> None:
    assert step_ratio([1.0, 3.0], [2.0, 2.0]) == (0.5, 1.5)
    assert all(map(math.isnan, step_ratio([], [])))


@pytest.mark.parametrize("early", [True, False])
def test_a_problem_that_no_seed_changes_says_what_it_says_once(early: bool) -> None:
    """Equals whose toss on the first problem is repeated by every seed, on the second new for every seed:
    over all paths of both, decided in at most 5 %."""
    n = 8
    decided = 0
    protocol = Protocol(seeds=n, early=early)
    for toss in (0.2, 0.4):
        for path in itertools.product((0.2, 0.4), repeat=n):
            entries = [
                entry("a", raced([toss] * n, still=True), "still"),
                entry("b", raced([0.3] * n, still=True), "still"),
                entry("a", raced(path), "noisy"),
                entry("b", raced([0.3] * n), "noisy"),
            ]
            found = Race(protocol=protocol, trials=0, entries=entries)
            decided += found.paired("a", "b").verdict != "undecided"
    assert 0 < decided / 2 ** (n + 1) <= 0.05


@pytest.mark.parametrize("count", [3, 5])
def test_among_several_equals_a_winner_comes_in_at_most_five_percent(count: int) -> None:
    random = np.random.default_rng(count)
    names = [f"c{i}" for i in range(count)]
    won = 0
    for _ in range(60):
        levels = random.normal(size=(count, 8))
        entries = [entry(who, raced(own)) for who, own in zip(names, levels.tolist(), strict=True)]
        won += Race(protocol=Protocol(seeds=8), trials=0, entries=entries).winner is not None
    assert won <= 3


def test_two_that_are_both_lost_share_the_places_behind_the_others() -> None:
    found = ranked(["a", "b", "c"], [[1.0, 2.0], [math.inf, math.inf], [math.inf, math.inf]])
    assert (found.order[0], found.first["a"]) == ("a", 1.0)
    assert found.same == 0.5


def test_to_time_a_step_nothing_is_scored() -> None:
    """The training data was judged after every few steps, which took longer than the steps."""
    rows: list[int] = []

    class Counting(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows.append(len(x))
            return super().forward(x)

    x = torch.randn(4000, 3).double()
    own = ds.Problem(model=lambda: Counting(3, 1).double(), objective="mse", train=(x, x[:, :1]))
    found = pace(own, {"sgd": ds.Recipe(optimizer="sgd", lr=1e-3, batch_size=4, steps=5)}, rounds=2)
    assert len(found["sgd"]) == 2
    assert all(each > 0 for each in found["sgd"])
    assert sum(rows) < 400
