"""A second proof for a small gain: other halves of the same data.

Seeds tell the luck of a start and of the order of the batches. They do not tell the luck of the validation
examples, on which the best of many candidates was chosen: on labels that mean nothing one of a dozen is ahead
by two standard errors, from every seed. So a gain within what a few validation examples give and take has to
show again where training and validation examples are drawn anew from all of them. Source: Hastie, Tibshirani
and Friedman 2009, The elements of statistical learning, section 7.10.2; Cawley and Talbot 2010, On
over-fitting in model selection, JMLR 11.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

import torch

from downslope.core import batches, randomness
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.diagnosis.contest import Arm, Contest
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.paired import Difference, difference

SPLITS = 5
"""Other splits at most; with five the interval is 2.8 standard errors wide to each side."""

ERRORS = 3.0
"""Standard errors of a share under which a gain is put to other splits: the quantile .975 of the best of
twenty (Bonferroni)."""


REFUTED = "no gain for certain on other splits of the data: the best of many on a few examples"


SCANTY = ("uninformative-inputs", "label-noise")
"""Causes under which validation examples say little."""


def foretold(diagnosis: Diagnosis) -> bool:
    """Whether a cause is beyond doubt: its remedies were said before any trial, not chosen among many."""
    root = diagnosis.root
    return root is not None and root.severity == "critical" and root.symptom not in SCANTY


def small(contest: Contest, arm: Arm) -> bool:
    """Whether the gain of `arm` is one that the choice among many gives on so few validation examples.

    The standard error is that of the difference of two shares that disagree on half of the examples,
    ``sqrt(1 / (2 n))``; a gain counts as a share of the way from the constant guess to a perfect score, or to
    the best that was reached.
    """
    held = contest.yard.held.valid
    if held is None:
        return False
    whole = contest.yard.span([fmean(arm.scores.values())])
    return whole > 0 and contest.gain(arm).mean / whole < ERRORS * math.sqrt(0.5 / held.size)


def elsewhere(contest: Contest, arm: Arm, diagnosis: Diagnosis, seed: int) -> Difference | None:
    """The gain of `arm` over the control on other splits, one seed each.

    Args:
        contest: Where it won.
        arm: The winner.
        diagnosis: What the control is judged by.
        seed: Of the first split; the next take the next ones.

    Returns:
        The paired difference; early where two splits show no gain. None where the data cannot be split anew,
        or no time is left.
    """
    gains: list[float] = []
    for index, problem in enumerate(other_splits(contest.control.problem)):
        other = contest.on(problem, diagnosis)
        rival = other.arm(arm.edit)
        if not other.train([other.control, rival], seed + index):
            break
        gains += other.gains(rival, seeds=rival.scores)
        if len(gains) == 2 and sum(gains) <= 0:
            break
    return difference(gains, [0.0] * len(gains)) if len(gains) > 1 else None


def other_splits(problem: Problem) -> Iterator[Problem]:
    """The problem with training and validation examples drawn anew, in their numbers; nothing where they are
    not held in memory.
    """
    train, valid = problem.train_source, problem.valid_source
    if not isinstance(train, Memory) or not isinstance(valid, Memory):
        return
    try:
        whole = batches.join([train.batch, batches.to(valid.batch, train.device)])
    except (RuntimeError, TypeError, ValueError):  # parts of different shapes
        return
    for index in range(SPLITS):
        order = randomness.permutation(train.size + valid.size, index, 0).to(train.device)
        held, rest = order[: valid.size], order[valid.size :]
        parts = [Memory(batches.take(whole, torch.sort(rows).values)) for rows in (rest, held)]
        yield problem.edit(train=parts[0], valid=parts[1])
