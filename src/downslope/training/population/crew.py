"""Members of one shape taking their steps together; each ends by itself, and the batch shrinks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.training.population.abreast import Abreast
from downslope.training.population.feed import Fed
from downslope.training.population.members import Member
from downslope.training.population.moves import Moves
from downslope.training.stopping import stoppable


class Crew:
    """Trains members in one forward and one backward pass a step.

    Args:
        members: Of one shape, at step 0, those of one kind of optimizer beside one another.
        abreast: The same, side by side.
        until: `time.monotonic` at which those that are left are given up; None for no limit.
        tell: Called after each step with the share of the whole that is done.

    Attributes:
        members: Those that still train, in the order of the rows.
        given_up: Members for which the time was too short.
    """

    def __init__(
        self,
        members: Sequence[Member],
        abreast: Abreast,
        *,
        until: float | None = None,
        tell: Callable[[float], object] | None = None,
    ) -> None:
        self.members, self.abreast, self.until, self.tell = list(members), abreast, until, tell
        self.stack = abreast.stack
        self.moves = Moves(abreast.stack, self.members)
        self.given_up: list[Member] = []
        self.longest = max((member.total or 1) for member in members)
        self._limits()

    def go(self) -> None:
        """Train until every member has ended, or is told to."""
        seed = self.members[0].state.recipe.seed
        with randomness.seeded(seed, "step", 0), stoppable(self._stop):
            for member in self.members:
                member.begin()
            self._leave([member.over for member in self.members])
            epoch = 0
            while self.members:
                self._epoch(epoch)
                epoch += 1

    def _epoch(self, epoch: int) -> None:
        for member in self.members:
            member.depths.at(epoch)
        for fed in self.abreast.feed.epoch(epoch):
            over = self._step(fed)
            if any(over):
                self._leave(
                    [m.epoch_over() if ends else False for m, ends in zip(self.members, over, strict=True)]
                )
            if self._late() or not self.members:
                return
        self._leave([member.epoch_over() for member in self.members])

    # -- one step -----------------------------------------------------------------------------------------

    def _step(self, fed: Fed) -> list[bool]:
        """One step of every member; which of them have come to the end of something."""
        members = self.members
        step = members[0].state.step + 1
        for member in members:
            member.rates.at(step - 1)
        self.abreast.draws.at(step)
        made = self.abreast.losses(fed)
        slopes = self.abreast.slopes(made)
        sound = [math.isfinite(value) for value in made.values]
        for i, member in enumerate(members):
            if not sound[i]:
                member.broken(step, made.values[i], fed.of(i))
        self.stack.gradient.copy_(slopes)
        self._clip()
        over: list[bool] = []
        self.moves(sound)
        for i, member in enumerate(members):
            if not sound[i]:
                over.append(True)
                continue
            over.append(member.moved(made.values[i], {name: each[i] for name, each in made.terms.items()}))
        if self.tell is not None:
            self.tell(step / self.longest)
        return over

    def _limits(self) -> None:
        """Bounds of the gradients, a column of them where any member has one."""
        like = self.stack.flat.detach()

        def column(name: str) -> Tensor | None:
            each = [getattr(member.state.recipe, name) for member in self.members]
            if all(one is None for one in each):
                return None
            return like.new_tensor([math.inf if one is None else float(one) for one in each]).unsqueeze(1)

        self._norms, self._values = column("clip_norm"), column("clip_value")

    def _clip(self) -> None:
        """As `torch.nn.utils.clip_grad_norm_` and ``clip_grad_value_``, a row each."""
        slope = self.stack.gradient
        if self._norms is not None:
            norm = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
            slope.mul_((self._norms / (norm + 1e-6)).clamp(max=1.0))
        if self._values is not None:
            slope.clamp_(-self._values, self._values)

    # -- ends ---------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for member in self.members:
            member.stop()

    def _late(self) -> bool:
        if self.until is None or time.monotonic() < self.until:
            return False
        self.given_up += self.members
        self._keep([])
        return True

    def _leave(self, over: Sequence[bool]) -> None:
        """Close the members that have come to their end, and go on without them."""
        if not any(over):
            return
        for member, ends in zip(self.members, over, strict=True):
            if ends:
                member.close()
        self._keep([i for i, ends in enumerate(over) if not ends])

    def _keep(self, rows: list[int]) -> None:
        self.members = [self.members[i] for i in rows]
        self.abreast.keep(rows)
        self.moves.keep(rows)
        if rows:
            self._limits()
