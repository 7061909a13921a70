"""How often successive halving loses the best member, at most: what the theory says of known curves.

The loss of member i after u units of training is ``limit_i + b_i(u) + noise``: ``|b_i(u)| <= envelope(u)`` is
how far a curve may still be from its limit (curves cross where envelopes overlap), and the noise is
sub-Gaussian of scale ``noise(u)`` and drawn anew at each rung.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from downslope.core.errors import InputError


def _nothing(units: float) -> float:
    del units
    return 0.0


def beaten(gap: float, envelope: float, noise: float) -> float:
    """The probability that a member with a limit larger by `gap` has a loss that is not larger, at most.

    ``exp(-(gap - 2 envelope)**2 / (4 noise**2))`` where the gap is wider than both envelopes, else 1: the
    noise of the difference of two losses has the variance ``2 noise**2`` (Hoeffding).
    """
    clear = gap - 2 * envelope
    if clear <= 0:
        return 1.0
    return math.exp(-(clear**2) / (4 * noise**2)) if noise > 0 else 0.0


def dropped_at_most(
    limits: Sequence[float],
    plan: Sequence[tuple[int, int]],
    *,
    envelope: Callable[[float], float] = _nothing,
    noise: Callable[[float], float] = _nothing,
) -> float:
    """The probability that halving does not end with the member of the smallest limit, at most.

    At a rung with n members of which m go on, the best is lost only if m others have a loss that is not
    larger. Grant that to the j nearest of them (0 <= j < m); then m - j of the rest must have one too, and by
    Markov's inequality and a sum over rungs

        P(lost) <= sum over rungs of min over j of  sum_{i = j+2..n} beaten(limit_i - limit_1) / (m - j)

    with limits in order, as the members that are still there are at worst the n nearest. Without noise this
    is 0 or 1: 0 exactly if at each rung the (m+1)-th best limit is farther away than two envelopes, as in
    Jamieson and Talwalkar; with m = n / 2 and j = n / 4 it is the sum in the proof of Karnin et al.

    Args:
        limits: Loss that each member tends to, at least two; the smallest once.
        plan: ``(members, units)`` of each rung (`Halving.plan`); the last keeps one.
        envelope: Units to the farthest that any curve is from its limit.
        noise: Units to the scale of the noise in a loss, in [0, inf).

    Returns:
        At most 1.

    Raises:
        InputError: fewer than two members, or two that are the best.

    Source: the union bound in the proof of theorem 4.1 of Karnin, Koren and Somekh 2013, for any share that
    goes on, and the condition of theorem 1 of Jamieson and Talwalkar 2016.
    """
    gaps = sorted(limit - min(limits) for limit in limits)
    if len(gaps) < 2 or gaps[1] <= 0:
        raise InputError(
            f"{len(gaps)} limits with {gaps.count(0.0)} of the smallest: there must be one best of several"
        )
    total = 0.0
    for place, (n, units) in enumerate(plan):
        keep = plan[place + 1][0] if place + 1 < len(plan) else 1
        others = [beaten(gap, envelope(units), noise(units)) for gap in gaps[1:n]]
        if keep <= len(others):
            total += min(sum(others[j:]) / (keep - j) for j in range(keep))
    return min(total, 1.0)


def karnin(limits: Sequence[float], budget: int) -> float:
    """Karnin et al.'s bound for sequential halving: ``3 log2(n) exp(-T / (8 H2 log2(n)))``, at most 1.

    ``H2 = max_{i >= 2} i / gap_i**2``, for losses that are means of draws from [0, 1], T draws in all, and
    half of the members kept at each rung.

    Args:
        limits: Mean of each member, in [0, 1]; the smallest once.
        budget: T, draws in all.

    Source: Karnin, Koren and Somekh 2013, theorem 4.1.
    """
    gaps = sorted(limit - min(limits) for limit in limits)[1:]
    hardness = max((i + 2) / gap**2 for i, gap in enumerate(gaps))
    rounds = math.log2(len(limits))
    return min(1.0, 3 * rounds * math.exp(-budget / (8 * hardness * rounds)))


def budget_needed(limits: Sequence[float], inverse: Callable[[float], float]) -> float:
    """Jamieson and Talwalkar's budget above which halving (eta 2) without noise returns the best for certain.

    ``z = 2 ceil(log2 n) max_{i >= 2} i (1 + inverse((limit_i - limit_1) / 2))``.

    Args:
        limits: Loss that each member tends to; the smallest once.
        inverse: Inverse of the envelope: loss to the units after which every curve is that near to its limit.

    Returns:
        Units of training in all.

    Source: Jamieson and Talwalkar 2016, theorem 1.
    """
    gaps = sorted(limit - min(limits) for limit in limits)[1:]
    rounds = math.ceil(math.log2(len(limits)))
    return 2 * rounds * max((i + 2) * (1 + inverse(gap / 2)) for i, gap in enumerate(gaps))
