"""Random draws with addresses."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from downslope.core.space import choice, log, uniform
from downslope.tuning.samplers.random import Random, unit

SPACE = {"lr": log(1e-5, 0.1), "momentum": uniform(0, 1), "optimizer": choice("a", "b")}


@dataclass
class Seen:
    number: int
    values: dict
    state: str = "done"
    value: float | None = 1.0
    retry_of: int | None = None


def seen(count: int, again: int = 0) -> list[Seen]:
    retried = [Seen(count + i, {}, retry_of=i) for i in range(again)]
    return [*(Seen(i, {}) for i in range(count)), *retried]


def test_a_search_in_parts_draws_what_the_whole_one_draws():
    whole = Random(SPACE, seed=3).ask([], 10)
    assert Random(SPACE, seed=3).ask([], 4) + Random(SPACE, seed=3).ask(seen(4), 6) == whole


def test_trials_that_were_repeated_are_counted_once():
    assert Random(SPACE, seed=3).ask(seen(4, again=3), 2) == Random(SPACE, seed=3).ask(seen(4), 2)


def test_a_key_more_changes_no_other_draw():
    more = {"eps": log(1e-9, 1e-3), **SPACE}
    for small, large in zip(Random(SPACE).ask([], 5), Random(more).ask([], 5), strict=True):
        assert small == {key: large[key] for key in SPACE}


def test_seeds_and_keys_draw_independently():
    a, b, c = ([unit(s, i, k) for i in range(2000)] for s, k in ((0, "lr"), (1, "lr"), (0, "wd")))
    for draws in (a, b, c):
        assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(a, b).statistic) < 0.1
    assert abs(stats.pearsonr(a, c).statistic) < 0.1
    assert abs(stats.pearsonr(a[1:], a[:-1]).statistic) < 0.1
