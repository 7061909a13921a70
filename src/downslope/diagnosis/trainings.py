"""The trainings of a script, and in which order they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from downslope.diagnosis.role import Role

AS_MANY = 0.9
"""Steps of a training whose loss left the finite numbers, in those of the longest, from which it is judged
before any other. A search for a rate, which ends in NaN on purpose, is far shorter than the training."""


class Training(NamedTuple):
    """One training in a script."""

    began: int
    """Its first step, counted over all optimizers."""
    ended: int
    """Its latest."""
    name: str
    """Optimizer and models."""
    rate: str
    """The rate that it was made with, as "lr 0.1"."""
    steps: int
    lost: bool
    """Whether its loss left the finite numbers for good."""

    @classmethod
    def of(cls, role: Role) -> Training:
        """What `role` trains."""
        return cls(*role.span, role.name, role.rate, role.track.step, role.lost)

    @property
    def called(self) -> str:
        """Its name, told apart by the rate."""
        return f"{self.name}, {self.rate}" if self.rate else self.name


def ranked(roles: Sequence[Role]) -> list[Role]:
    """Those with most steps first; before them, of about as many steps, those that ended in no number."""
    most = max((role.track.step for role in roles), default=0)
    return sorted(roles, key=lambda r: (not (r.lost and r.track.step >= AS_MANY * most), -r.track.step))
