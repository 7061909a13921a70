"""Successive elimination: who is given another seed."""

from __future__ import annotations

from downslope.diagnosis.elimination import alive, leader


def test_after_one_seed_those_with_less_than_half_the_win_go() -> None:
    assert alive({"far ahead": [0.8], "near": [0.5], "behind": [0.3], "worse": [-0.1]}) == [
        "far ahead",
        "near",
    ]


def test_where_nobody_wins_nobody_stays() -> None:
    assert leader({"a": [0.0], "b": [-1.0]}) is None
    assert alive({"a": [0.0], "b": [-1.0]}) == []
    assert alive({}) == []


def test_what_all_seeds_share_cancels_and_who_is_surely_behind_goes() -> None:
    hard, easy = 0.1, 0.9  # a seed on which all win little, and two on which all win much
    ahead = [hard + 0.05, easy + 0.05, easy + 0.06]
    assert alive({"ahead": ahead, "behind": [hard - 0.04, easy - 0.05, easy - 0.04]}) == ["ahead"]


def test_who_may_still_be_as_good_stays() -> None:
    gains = {"steady": [0.50, 0.51, 0.52], "wild": [0.30, 0.70, 0.45]}
    assert alive(gains) == ["steady", "wild"]


def test_who_is_a_hair_behind_is_as_good() -> None:
    gains = {"first": [0.500, 0.600, 0.550], "second": [0.499, 0.599, 0.549]}
    assert alive(gains) == ["first", "second"]
