"""The sequential test: exact by counting all signs, never wrong too often wherever it stops, not blind."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from downslope.core.errors import InputError
from downslope.racing.sequential import Sequential, evidence, signed_rank


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4, 5, 6), (3, 3, 1, 2, 2, 5), (1, 1, 1, 1, 1, 1)])
def test_the_e_value_is_a_martingale_over_all_signs(sizes: tuple[float, ...]) -> None:
    """Of fair signs its mean is 1 at every look; here over all 2^n of them, without a random number."""
    from downslope.racing import sequential

    n = len(sizes)
    finals: list[float] = []
    for signs in itertools.product((1, -1), repeat=n):
        d = np.asarray(sizes, dtype=float) * signs
        weights = np.asarray([sequential._rank(np.abs(d)[: i + 1]) / (i + 1) for i in range(n)])
        tilted = np.multiply.outer(2 * np.asarray(sequential.TILTS), np.sign(d) * weights)
        finals.append(float(sequential._running(tilted)[-1]))
    assert np.mean(finals) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("sizes", ["equal", "ranks", "one huge"])
def test_between_a_method_and_itself_every_path_of_signs_is_counted(early: bool, sizes: str) -> None:
    """The exact chance of any decision at any look, over all 2^10 paths: at most alpha."""
    n = 10
    own = {"equal": np.ones(n), "ranks": np.arange(1.0, n + 1), "one huge": np.r_[1e9, np.ones(n - 1)]}[sizes]
    test = Sequential(alpha=0.05, planned=n, early=early)
    wrong = 0
    for path in itertools.product((1, -1), repeat=n):
        wrong += test.verdict((own * path).tolist()) != "undecided"  # the e-values remember every look
    assert 0 < wrong / 2**n <= 0.05


@pytest.mark.parametrize("drawn", ["normal", "cauchy", "two points", "diverging"])
def test_stopped_at_the_first_decision_a_race_with_itself_is_undecided_in_95_percent(drawn: str) -> None:
    """Thousands of races of 16 seeds; a verdict remembers every look, so the last tells of all."""
    random = np.random.default_rng(3)
    a, b = (_levels(drawn, random, (2000, 16)) for _ in range(2))
    with np.errstate(invalid="ignore"):
        gaps = np.where(np.isinf(a) & np.isinf(b), 0.0, b - a)
    test = Sequential(alpha=0.05, planned=16)
    decided = sum(test.verdict(row.tolist()) != "undecided" for row in gaps)
    assert decided / len(gaps) <= 0.05
    for row in gaps[:60].tolist():
        looks = [test.verdict(row[:n]) for n in range(test.first_look(), 17)]
        assert any(each != "undecided" for each in looks) == (looks[-1] != "undecided")


def _levels(drawn: str, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if drawn == "cauchy":
        return random.standard_cauchy(shape)
    if drawn == "two points":
        return random.integers(0, 2, shape) / 360
    plain = random.normal(size=shape)
    return plain if drawn == "normal" else np.where(random.random(shape) < 0.2, np.inf, plain)


def test_the_looks_of_thousands_of_races_stay_below_the_bound_of_ville() -> None:
    """Without the planned end: the chance that a side ever reaches 1/a is at most a."""
    random = np.random.default_rng(0)
    found = [evidence(row.tolist()).first for row in random.normal(size=(1500, 24))]
    for a in (0.2, 0.1, 0.05):
        assert np.mean(np.asarray(found) >= 1 / a) <= a


@pytest.mark.parametrize(("effect", "least"), [(1.0, 0.35), (1.5, 0.75), (3.0, 0.99)])
def test_a_difference_of_so_many_deviations_is_found_on_eight_seeds(effect: float, least: float) -> None:
    random = np.random.default_rng(1)
    gaps = random.normal(size=(500, 8)) + effect
    test = Sequential(planned=8)
    verdicts = [test.verdict(row.tolist()) for row in gaps]
    assert verdicts.count("first") / len(gaps) >= least
    assert verdicts.count("second") / len(gaps) <= 0.0125


def test_a_large_difference_stops_a_long_race_early() -> None:
    random = np.random.default_rng(2)
    test = Sequential(planned=40)
    needed = [
        next(n for n in range(2, 41) if test.verdict(row[:n].tolist()) != "undecided")
        for row in random.normal(size=(60, 40)) + 2.0
    ]
    assert np.median(needed) <= 10


@pytest.mark.parametrize("n", [3, 6, 9])
def test_the_exact_p_value_is_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(size=n) + 0.3
    first, second = signed_rank(d)
    assert first == pytest.approx(wilcoxon(d, alternative="greater", method="exact").pvalue, rel=1e-12)
    assert second == pytest.approx(wilcoxon(d, alternative="less", method="exact").pvalue, rel=1e-12)


def test_the_exact_p_value_counts_ties_as_all_signs_do() -> None:
    d = np.asarray([2.0, -1.0, 1.0, 3.0, 3.0, -2.0])
    sizes = np.abs(d)
    ranks = np.asarray([1.5, 1.5, 3.5, 3.5, 5.5, 5.5])[np.argsort(np.argsort(sizes, kind="stable"))]
    total = ranks[d > 0].sum()
    every = [ranks[np.asarray(s) > 0].sum() for s in itertools.product((1, -1), repeat=len(d))]
    assert signed_rank(d)[0] == pytest.approx(np.mean(np.asarray(every) >= total), rel=1e-12)


def test_zeros_say_nothing_and_infinities_are_the_largest() -> None:
    assert evidence([0.0, math.nan, 0.0]) == (1.0, 1.0, 1.0, 1.0, 0)
    plain, lost = evidence([1.0, 2.0, 3.0]), evidence([1.0, 2.0, math.inf])
    assert plain == lost


def test_the_fewest_pairs_that_can_decide_do() -> None:
    for planned in (4, 6, 7, 8, 12):
        test = Sequential(planned=planned)
        decides = test.verdict([1.0] * planned) == "first"
        assert decides == (planned >= test.fewest)
        assert test.verdict([-1.0] * planned) == ("second" if decides else "undecided")


@pytest.mark.parametrize(("given", "said"), [({"alpha": 0.0}, "alpha=0.0"), ({"planned": 1}, "planned=1")])
def test_a_test_outside_its_domain_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Sequential(**({"planned": 8} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize("planned", [8, 11])
def test_without_looks_the_interval_is_between_two_means_of_pairs(planned: int) -> None:
    """Those that the k-th smallest and largest of all Walsh averages are, with k by counting all signs."""
    d = np.random.default_rng(planned).normal(0.3, 1.0, planned)
    test = Sequential(planned=planned, early=False)
    sums = [
        sum(rank for rank, kept in enumerate(path, 1) if kept)
        for path in itertools.product((0, 1), repeat=planned)
    ]
    k = max(w for w in range(1, max(sums)) if np.mean([s <= w for s in sums]) <= test.level)
    walsh = sorted((a + b) / 2 for i, a in enumerate(d) for b in d[i:])
    assert test.within(d.tolist()) == pytest.approx((walsh[k], walsh[-k - 1]))


@pytest.mark.parametrize("early", [True, False])
def test_zero_is_outside_of_the_interval_just_where_a_pair_is_decided(early: bool) -> None:
    random = np.random.default_rng(7)
    test = Sequential(planned=9, early=early)
    said: set[str] = set()
    for shift in (0.0, 0.8, 1.5, -2.0):
        for _ in range(10):
            d = random.normal(shift, 1.0, 9).tolist()
            low, high = test.within(d)
            said.add(test.verdict(d))
            assert test.verdict(d) == ("first" if low > 0 else "second" if high < 0 else "undecided")
    assert said == {"first", "second", "undecided"}


def test_the_interval_covers_the_true_difference_wherever_the_race_stopped() -> None:
    random = np.random.default_rng(11)
    test = Sequential(planned=12)
    missed = 0
    for _ in range(200):
        d = random.standard_t(2, 12) + 1.0
        seen = next(n for n in range(7, 13) if n == 12 or test.verdict(d[:n].tolist()) != "undecided")
        low, high = test.within(d[:seen].tolist())
        missed += not low <= 1.0 <= high
    assert missed <= 10


def test_too_few_seeds_leave_the_interval_open_and_lost_seeds_an_end_of_it() -> None:
    test = Sequential(planned=8)
    assert test.within([0.1, 0.2, 0.3]) == (-math.inf, math.inf)
    assert test.within([math.nan] * 8) == (-math.inf, math.inf)
    low, high = test.within([0.1, 0.2, 0.3, 0.4, 0.5, math.inf, math.inf, 0.6])
    assert low == pytest.approx(0.2)
    assert high == math.inf
