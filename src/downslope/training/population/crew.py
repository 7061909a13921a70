"""Members of one shape taking their steps together; each ends by itself, and the batch shrinks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.training.population.abreast import Abreast
from downslope.training.population.feed import Fed
from downslope.training.population.judged import Judge
from downslope.training.population.losses import Made
from downslope.training.population.members import Member, Moved
from downslope.training.population.moves import Moves
from downslope.training.stopping import stoppable

TIMED = 5
"""Steps after which the time of the whole is estimated, where there is a limit."""


WRITTEN = 0.5
"""Seconds after which steps are written, and resume states where it is time to, in the middle of an epoch."""


class Crew:
    """Trains members in one forward and one backward pass a step.

    Args:
        members: Of one shape, at step 0, those of one kind of optimizer beside one another.
        abreast: The same, side by side.
        products: Multiply-adds of one member for one example.
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
        products: float,
        until: float | None = None,
        tell: Callable[[float], object] | None = None,
    ) -> None:
        self.members, self.abreast, self.until, self.tell = list(members), abreast, until, tell
        self.stack = abreast.stack
        self.moves = Moves(abreast.stack, self.members)
        self.judge = Judge(abreast, self.members, products)
        self.given_up: list[Member] = []
        self.step, self._written = 0, time.monotonic()
        self._noted: list[Moved] = []
        self.longest = max((member.total or 1) for member in members)
        self.epoch, self.begun = 0, cast("float | None", None)
        self._limits()

    def go(self, epochs: float = math.inf) -> None:
        """Train until every member has ended, or is told to, or has had `epochs`; call again to go on."""
        if not self.members:
            return
        seed = self.members[0].state.recipe.seed
        with randomness.seeded(seed, "step", 0), stoppable(self._stop):
            if self.begun is None:
                self._begin()
            while self.members and self.epoch < epochs:
                self._epoch(self.epoch)
                self.epoch += 1

    def _begin(self) -> None:
        """The look at the start."""
        with self.judge.sitting(self._all):
            for member in self.members:
                member.begin()
        self._leave([i for i, member in enumerate(self.members) if member.over])
        self.begun = time.monotonic()

    @property
    def _all(self) -> list[int]:
        return list(range(len(self.members)))

    def _epoch(self, epoch: int) -> None:
        for member in self.members:
            member.depths.at(epoch)
        for fed in self.abreast.feed.epoch(epoch):
            over = self._step(fed)
            self._epoch_over(over)
            if self._late() or not self.members:
                return
        self._epoch_over(self._all)

    def _epoch_over(self, rows: list[int]) -> None:
        """What follows the epoch of these members; those for which it was the last one leave."""
        if rows:
            self._hand_over()
            with self.judge.sitting(rows):
                ended = [i for i in rows if self.members[i].epoch_over()]
            self._leave(ended)

    # -- one step -----------------------------------------------------------------------------------------

    def _step(self, fed: Fed) -> list[int]:
        """One step of every member; which of them have come to the end of their epoch by it."""
        members = self.members
        self.step = step = self.step + 1
        if self._changing:
            for member in members:
                member.rates.at(step - 1)
        self.abreast.draws.at(step)
        made = self.abreast.losses(fed)
        sound = [math.isfinite(value) for value in made.values]
        broken = [i for i, each in enumerate(sound) if not each]
        former = self.stack.gradient[broken].clone() if broken else None
        self.abreast.losses.slopes(made)
        if former is not None:
            self.stack.gradient[broken] = former  # the last gradient tells why a loss is not finite
            self._hand_over()
            for i in broken:
                members[i].broken(step, made.values[i], fed.of(i))
        self._clip()
        self.moves(sound)
        self._note(sound, made)
        over = [
            i
            for i, member in enumerate(members)
            if not sound[i] or member.stopped or step == member.state.recipe.steps
        ]
        self._catch_up()
        if self.tell is not None:
            self.tell(step / self.longest)
        return over

    def _note(self, sound: Sequence[bool], made: Made) -> None:
        """Take note of a step, for all members at once as long as none broke in it."""
        members = self.members
        moved = [member for member, went in zip(members, sound, strict=True) if went]
        for member in moved:
            if member.average is not None:
                member.average.follow(member.state.model, self.step)
        rates = [member.rates.leading for member in members] if self._changing else None
        if self._noted and self._noted[-1].terms.keys() != made.terms.keys():
            self._catch_up(now=True)
        self._noted.append(Moved(made.values, made.terms, rates))
        if len(moved) < len(members):
            self._hand_over(sound)

    def _hand_over(self, on: Sequence[bool] | None = None) -> None:
        """Give the members that are on the steps that were noted."""
        noted, self._noted = self._noted, []
        if noted:
            for place, member in enumerate(self.members):
                if on is None or on[place]:
                    member.moved(noted, place)

    def _catch_up(self, *, now: bool = False) -> None:
        """Have the members write their steps, `now` and then."""
        if now or time.monotonic() - self._written > WRITTEN:
            self._written = time.monotonic()
            self._hand_over()
            for member in self.members:
                member.catch_up()

    def _limits(self) -> None:
        """Bounds of the gradients, a column of them where any member has one; whether any rate changes."""
        self._changing = any(member.rates.changes for member in self.members)
        like = self.stack.flat.detach()

        def column(name: str) -> Tensor | None:
            each = [getattr(member.state.recipe, name) for member in self.members]
            if all(one is None for one in each):
                return None
            return like.new_tensor([math.inf if one is None else float(one) for one in each]).unsqueeze(1)

        self._norms, self._values = column("clip_norm"), column("clip_value")

    def _clip(self) -> None:
        """As `torch.nn.utils.clip_grad_norm_` and ``clip_grad_value_``, a row each, bit for bit."""
        slope = self.stack.gradient
        if self._norms is not None:
            share = (self.stack.norms().unsqueeze(1) + 1e-6).reciprocal() * self._norms
            slope.mul_(torch.where(self._norms.isinf(), 1.0, share.clamp(max=1.0)))
        if self._values is not None:
            slope.clamp_(-self._values, self._values)

    # -- ends ---------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for member in self.members:
            member.stop()

    def _late(self) -> bool:
        """Whether the time is up; those for which it will not be enough are given up early on."""
        if self.until is None:
            return False
        now, step = time.monotonic(), self.step
        if now >= self.until:
            self._give_up([])
            return True
        if step == TIMED and self.members:
            needed = (now - (self.begun or now)) / step * (self.longest - step)
            fits = int(len(self.members) * (self.until - now) / max(needed, 1e-9))
            if fits < len(self.members):
                order = sorted(self._all, key=lambda i: self.members[i].index)
                self._give_up(sorted(order[:fits]))
        return not self.members

    def _give_up(self, rows: list[int]) -> None:
        """Go on with the members in `rows` only."""
        self.given_up += [self.members[i] for i in self._all if i not in set(rows)]
        self._keep(rows)

    def _leave(self, rows: list[int]) -> None:
        """Close the members that have come to their end, and go on without them."""
        if not rows:
            return
        leaving = [self.members[i] for i in rows]
        for member in leaving:
            member.close()
        with self.stack.kept():
            for member in leaving:
                member.hand_out()
            known = self.judge.look(rows)
        with self.judge.sitting(rows, known):
            for member in leaving:
                member.conclude()
        self._keep([i for i in self._all if i not in set(rows)])

    def end(self, members: Sequence[Member]) -> None:
        """Close these where they stand, with status "stopped", and go on without them."""
        rows = [i for i, member in enumerate(self.members) if member in members]
        for i in rows:
            run = self.members[i].state.run
            run.status = "stopped" if run.status == "running" else run.status
        with randomness.seeded(0, "step", 0):
            self._leave(rows)

    def release(self, members: Sequence[Member]) -> None:
        """Go on without these, which stand as they are and can go on by themselves."""
        for member in members:
            if member.settle is not None:
                member.settle(member)
        self._keep([i for i, member in enumerate(self.members) if member not in members])

    def adopt(self, member: Member) -> None:
        """Take the state and the settings that a member's own optimizer and recipe have by now."""
        self.moves.adopt(member)
        self._limits()

    def _keep(self, rows: list[int]) -> None:
        self._hand_over()
        self.members = [self.members[i] for i in rows]
        self.abreast.keep(rows)
        self.moves.keep(rows)
        self.judge.keep(rows)
        if rows:
            self._limits()
