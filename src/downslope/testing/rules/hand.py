"""Steps calculated by hand: the one proof that needs no other code at all."""

from __future__ import annotations

import torch
from torch import nn

from downslope.testing.rules.case import Case, Hand, assert_close, run
from downslope.testing.rules.proofs import Proofs, needs

__all__ = ["HandSteps"]


class HandSteps(Proofs):
    """Two steps of one number, p = 1 with g = 2 and g = -1, or what the case's `Hand` says.

    ``hand=(0.8, 0.72)`` is enough; digits that were written down are held to ``Hand(..., tolerance=)``.
    """

    @needs("hand")
    def test_first_steps_are_those_calculated_by_hand(self, case: Case, backend: str) -> None:
        hand = case.hand if isinstance(case.hand, Hand) else Hand(case.hand or ())
        p = nn.Parameter(torch.tensor(hand.start, dtype=torch.float64))
        optimizer = case.make([p], backend)
        for g, after in zip(hand.gradients, hand.after, strict=True):
            run(optimizer, [[torch.tensor(g, dtype=torch.float64)]])
            assert_close([p], [after], hand.tolerance)
