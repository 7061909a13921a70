"""The optimizers of members side by side: by rows where their rules are element-wise, else each its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from downslope.core.errors import RecipeError
from downslope.optim.driver import Optimizer
from downslope.optim.members import MemberStep, columns_of
from downslope.training.population.members import Member
from downslope.training.population.stack import Stack
from downslope.training.state import StepState


class Team(NamedTuple):
    """Members in neighbouring rows that one object steps."""

    start: int
    stop: int
    step: MemberStep | None
    """None where each has its own optimizer's step."""


def kind(state: StepState) -> Hashable:
    """What optimizers have in common that one object steps: the class, and the sizes of the groups."""
    groups = state.optimizer.param_groups
    sizes = tuple(tuple(p.numel() for p in group["params"]) for group in groups)
    return type(state.optimizer).__qualname__, sizes


class Moves:
    """``moves(on)``: one step of every member that is on, its gradient in the rows of `stack`.

    Args:
        stack: Rows of the members.
        members: In the order of the rows, those of one `kind` beside one another.
    """

    def __init__(self, stack: Stack, members: Sequence[Member]) -> None:
        self.stack, self.members = stack, list(members)
        self.teams: list[Team] = []
        start = 0
        for place in range(1, len(members) + 1):
            if place == len(members) or kind(members[place].state) != kind(members[start].state):
                self.teams.append(Team(start, place, self._rows(start, place)))
                start = place
        for member in members:
            member.settle = self._settle

    def _rows(self, start: int, stop: int) -> MemberStep | None:
        """What steps these members by rows; None where their columns or rules are not of that kind."""
        optimizers = [member.state.optimizer for member in self.members[start:stop]]
        if self.stack.unused or any(m.rates.scheduler is not None for m in self.members[start:stop]):
            return None  # a scheduler may change any number of the optimizer that it was made of
        for row, optimizer in enumerate(optimizers, start):
            if [id(p) for p in columns_of(optimizer)] != [id(p) for p in self.stack.own(row)]:
                return None
        ours = [each for each in optimizers if isinstance(each, Optimizer)]
        if len(ours) < len(optimizers):
            return None
        try:
            return MemberStep.of(ours, self.stack.flat[start:stop])
        except RecipeError:
            return None

    def __call__(self, on: Sequence[bool]) -> None:
        """Move the members that are on, and bring them back into their sets."""
        for team in self.teams:
            members, goes = self.members[team.start : team.stop], list(on[team.start : team.stop])
            if team.step is None:
                for member, moves in zip(members, goes, strict=True):
                    if moves:
                        member.take.move(None)
                continue
            slopes = self.stack.gradient[team.start : team.stop]
            changing = any(member.rates.changes for member in members)
            team.step.step(slopes, [_rates(each) for each in members] if changing else None, goes)
            for member, moves in zip(members, goes, strict=True):
                if moves:
                    member.take.hold()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members in `rows` only, whose rows `stack` has by now."""
        teams: list[Team] = []
        start = 0
        for team in self.teams:
            left = [i for i in rows if team.start <= i < team.stop]
            if not left:
                continue
            stop = start + len(left)
            if team.step is not None:
                team.step.keep([i - team.start for i in left], self.stack.flat[start:stop])
            teams.append(Team(start, stop, team.step))
            start = stop
        self.members, self.teams = [self.members[i] for i in rows], teams

    def adopt(self, member: Member) -> None:
        """Go on with a member from the state and the settings of its own optimizer."""
        place = next(i for i, each in enumerate(self.members) if each is member)
        for team in self.teams:
            optimizer = member.state.optimizer
            if team.start <= place < team.stop and team.step is not None and isinstance(optimizer, Optimizer):
                team.step.take(place - team.start, optimizer, member.state.step)
                team.step.regroup(place - team.start, optimizer)

    def _settle(self, member: Member) -> None:
        """Give a member's own optimizer the state that it would have by now."""
        place = next((i for i, each in enumerate(self.members) if each is member), None)
        for team in self.teams:
            optimizer = member.state.optimizer
            if place is None or team.step is None or not isinstance(optimizer, Optimizer):
                continue
            if team.start <= place < team.stop:
                team.step.give(place - team.start, optimizer)


def _rates(member: Member) -> float | list[float]:
    """The rates of a member's groups at this step."""
    rates = [float(group["lr"]) for group in member.state.optimizer.param_groups]
    return rates[0] if len(set(rates)) == 1 else rates
