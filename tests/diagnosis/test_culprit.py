from __future__ import annotations

import numpy as np
import pytest

from downslope.core.history import Probe
from downslope.diagnosis.culprit import Moves, culprit


def moves(ratios: list[float], sizes: list[float], left: float | None = None) -> Moves:
    steps = np.arange(1, len(ratios) + 1)
    updates = Probe(steps, ("a",), np.asarray(ratios)[:, None])
    return Moves(updates, Probe(steps, ("a",), np.asarray(sizes)[:, None]), {"a": 100}, left)


CALM = moves([0.01, 0.01, 0.01], [5.0, 5.0, 5.0])


def test_the_first_leap_counts_and_what_follows_upon_it_does_not() -> None:
    first, thrown = moves([1e9, 1.0, 1.0], [5.0, 5e9, 5e9]), moves([0.01, 1e6, 1.0], [5.0, 5.0, 5e6])
    assert culprit([first, thrown]) == 0
    assert culprit([thrown, CALM, first]) == 2


def test_of_two_leaps_at_once_none_is_blamed_but_for_the_first_step_of_very_unequal_ones() -> None:
    one, other = moves([50.0, 1.0], [5.0, 250.0]), moves([2.0, 1.0], [5.0, 10.0])
    assert culprit([one, other]) is None
    assert culprit([moves([1e9, 1.0], [5.0, 5e9]), other]) == 0
    late = [moves([0.01, 1e9], [5.0, 5.0]), moves([0.01, 2.0], [5.0, 5.0])]
    assert culprit(late) is None


def test_a_part_that_had_grown_unseen_before_the_other_leapt_leaves_it_open() -> None:
    assert culprit([moves([0.01, 5.0], [5.0, 5.0]), moves([0.01, 0.01], [5.0, 5e3])]) is None


def test_weights_that_begin_at_zero_do_not_leap_by_beginning() -> None:
    zero = moves([0.3 / 1e-12, 1.2], [0.0, 0.3])
    assert culprit([zero, CALM]) is None
    assert culprit([zero, moves([0.01, 1e5], [5.0, 5.0])]) == 1
    assert culprit([moves([1e6 / 1e-12, 1.0], [0.0, 1e6]), CALM]) == 0


@pytest.mark.parametrize(("left", "blamed"), [((5e9, 6.0), 0), ((6.0, np.inf), 1), ((5e9, 5e9), None)])
def test_without_a_sampled_leap_the_weights_that_had_grown_alone_tell(
    left: tuple[float, float], blamed: int | None
) -> None:
    known = [moves([0.01, 0.01], [5.0, 5.0], each) for each in left]
    assert culprit(known) == blamed
    assert culprit([CALM, CALM]) is None
