"""Follows a running script: which optimizer trains which model by which loss, and what is validation.

Losses belong to the next step of an optimizer; scores computed without gradients are validation, apart by the
place in the script that asked for them. Of several optimizers each has a run of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from downslope.core.run import Run, Status
from downslope.diagnosis import held_out
from downslope.diagnosis.accumulated import Part, Passed, begun, share
from downslope.diagnosis.by_hand import ByHand
from downslope.diagnosis.concluded import candidate, conclude
from downslope.diagnosis.ear import Call, bound, source
from downslope.diagnosis.hand import Hand
from downslope.diagnosis.hearing import due
from downslope.diagnosis.holding import never_stepped
from downslope.diagnosis.inquest import autopsy
from downslope.diagnosis.leaves import leaves
from downslope.diagnosis.reader import Reader
from downslope.diagnosis.renewed import renewed
from downslope.diagnosis.role import Role
from downslope.diagnosis.served import Targets, targets_of
from downslope.diagnosis.settings import climbing, parameters_of
from downslope.diagnosis.several import Candidate, suspect
from downslope.diagnosis.signs import entering
from downslope.diagnosis.track import Track
from downslope.diagnosis.trainings import ranked
from downslope.diagnosis.weighed import weighed
from downslope.optim.inside import looks_twice

MOST = 16
"""Optimizers that are followed at once."""

KEPT = 32
"""Trainings, of those that looked bad as they made room for later ones, that are judged at the end."""

WALKS = 64
"""Losses behind which the parameters are sought: those of the first steps."""


class Audience:
    """What is known of a running script; a `Listener` of `Taps`."""

    def __init__(self) -> None:
        self.roles: dict[int, Role] = {}
        self.listening = True
        self.dropped: list[Candidate] = []
        self._given_up: set[int] = set()
        self.compiled_modules: list[Any] = []
        self.functions_compiled = False
        self.held_out = held_out.HeldOut()
        self._calls: list[Call] = []
        self._pending: list[Passed] = []
        self._shared: list[Passed] = []
        self._behind: list[set[int]] = []
        self._owner: Role | None = None
        self._walked = 0
        self._scaled: dict[int, tuple[Tensor, Tensor]] = {}
        self._sign: tuple[str, int] | None = None
        self._graph: Any = None
        self._autopsy: dict[str, Any] | None = None
        self._targets: list[tuple[Tensor | float, Targets]] = []
        self._dataset: Any = None
        self._training: set[int] = set()
        self._target: Tensor | None = None
        self._reader = Reader()
        self._steps = 0
        self._new = 0
        """Optimizers that have not stepped yet."""
        self.by_hand: ByHand | None = ByHand(self._follow_hand, self._stepped_by_hand)

    # -- optimizers ---------------------------------------------------------------------------------------

    def made(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer was made: its steps are followed, and no longer those that are written by hand."""
        if self.by_hand is not None:
            self._forget_hand(self.by_hand)
        self._follow(optimizer)

    def _follow(self, optimizer: torch.optim.Optimizer) -> None:
        if id(optimizer) not in self.roles:
            if renewed(self.roles, optimizer, where := held_out.place()):
                return
            best = self.ranked()[:1]
            if best and len(self.team(best[0])) >= MOST:  # more optimizers of one loss than are followed
                return
            self._make_room()
            self._new += 1
            self.roles[id(optimizer)] = role = Role(optimizer, self.compiled_modules)
            role.place = where
            role.track.holding.held = self._held
            if self.functions_compiled:
                role.track.eye.blind = _BLIND

    def _follow_hand(self, hand: Hand) -> Track:
        self._follow(hand)
        return self.roles[id(hand)].track

    def _stepped_by_hand(self, hand: Hand) -> None:
        calls = self._calls[:]  # a step is seen where the next one has begun: they are its
        self.stepped(hand, False)
        self._calls = calls

    def _forget_hand(self, by_hand: ByHand) -> None:
        """What stands in the optimizer's place is dropped: all is as if nobody had looked before."""
        self.by_hand = None
        by_hand.close()
        self.held_out.shown.close()
        for role in self.roles.values():
            role.close()
        self.roles.clear()
        self.dropped.clear()
        self.held_out = held_out.HeldOut()
        self.listening, self._steps, self._new = True, 0, 0
        self._pending = [(value, None if call is None else True, of) for value, call, of in self._pending]
        self._shared, self._calls = [], [call._replace(seen={}) for call in self._calls]

    def passing(self, loss: Tensor) -> None:
        """Before a backward pass, while there is no optimizer."""
        if self.by_hand is not None:
            self.by_hand.passing(loss)

    def passed(self) -> None:
        """After a backward pass, while there is no optimizer."""
        if self.by_hand is not None:
            self.by_hand.passed()

    def _held(self) -> set[int]:
        """Ids of the parameters that any optimizer holds which stepped, or held before it was dropped."""
        known = (role.track.optimizers[0] for role in self.roles.values() if role.track.step)
        return self._given_up | {id(p) for p in parameters_of(*known)}

    def _make_room(self) -> None:
        """A script that makes one optimizer after another must not keep all of its models in memory."""
        if len(self.roles) < MOST:
            return
        best = [each for role in self.ranked()[:1] for each in self.team(role)]
        idle = [role for role in self.roles.values() if role not in best and not self._follows(role)]
        oldest = min(idle, key=lambda role: role.span[1])
        if oldest.track.step:
            self.dropped.append(Candidate.of(oldest, self._kept_run(oldest)))
        for role in self.team(oldest):
            role.close()
            self._new -= not role.track.step
            if role.track.step:
                self._given_up.update(id(p) for p in parameters_of(*role.track.optimizers))
            del self.roles[id(role.track.optimizers[0])]

    def _kept_run(self, role: Role) -> Callable[[], Run] | None:
        """The run of a training that makes room, where it has to be judged."""
        if sum(each.run is not None for each in self.dropped) >= KEPT or not suspect(role):
            return None
        run = self.conclude(role, "done")
        return lambda: run

    def stepping(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """Before a step."""
        role = self.roles.get(id(optimizer))
        if role is None:  # made before the script began, or dropped since
            self.made(optimizer)
            role = self.roles.get(id(optimizer))
        if role is not None:
            role.track.before(optimizer, closure)

    def stepped(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """After a step: the losses since the last one were its."""
        role = self.roles.get(id(optimizer))
        if role is None:
            return
        track = role.track
        track.after(optimizer, closure)
        first = track.step == 1
        if first:
            self._new -= 1
            self._join(role)
        self._steps += role.lead is None  # what steps on the loss of another one takes that one's step
        role.span = (role.span[0] or self._steps, self._steps)
        if self.listening:
            self._attribute(role, closure)
        if first:
            self._autopsy = None  # a training after one that lost the numbers has its own
        self.listening = self._new > 0 or due(role, self._steps)
        role.take_in(self.listening)

    def _join(self, role: Role) -> None:
        """At its first step: an optimizer of the losses that another one has just stepped on goes with it."""
        owner = self._owner
        if self._pending or not self._shared or not self._behind or owner is None:
            return
        ids = [{id(p) for p in parameters_of(*each.track.optimizers)} for each in (owner, role)]
        if all(each & known for each in ids for known in self._behind):
            role.lead = owner.lead or owner

    def _attribute(self, role: Role, closure: bool) -> None:
        """What was heard since the last step belongs to this one."""
        losses = self._pending or self._shared
        if self._pending:
            self._owner = role
            role.signs.note(self._sign)
        role.own += bool(self._pending)
        for value, call, of in begun(losses, closure, looks_twice(role.track.optimizers[0])):
            lost = isinstance(value, Tensor) or not math.isfinite(value)
            role.track.loss(value, role.track.step, (self._autopsy or None) if lost else None, of)
            role.latest = value
            self._assign(role, call)
        if "nonfinite" not in role.track.run.facts:  # it came back: what is lost later has another cause
            self._autopsy = None
        # Of an accumulated step no batch stands alone; a closure sees its own at every call.
        if self._targets and (closure or len(self._targets) == len(self._pending) == 1):
            role.served.add(role.track.step, *self._targets[0])
        self._targets.clear()
        self._shared, self._pending = losses, []
        self._calls.clear()
        self._scaled.clear()

    def _assign(self, role: Role, call: Call | Literal[True] | None) -> None:
        if call is None:
            if self._graph is not None and role.meaning is None and role.gathered.meaning is None:
                role.meaning = self._graph
                role.gathered.crossed = self._reader.crossed
            role.mixed = role.mixed or self._graph is None
            return
        if call is True:
            return
        if role.seen is None and call.seen is not None:
            role.seen = call.seen.get(id(role))
        role.trained = role.trained or call
        if role.gathered.open:
            found = role.gathered.function or bound(call)  # one objective: the first that was heard
            if found is not None:
                role.gathered.scored(found, call.args[0], call.args[1], role.track.step, call.weights)

    # -- losses -------------------------------------------------------------------------------------------

    def scored(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> None:
        """A loss function was called: in training with a gradient, else as a score."""
        if self.by_hand is not None:
            self.by_hand.check()
        call = Call.of(function, args, kwargs, value)
        if call is None:
            return
        if value.requires_grad:
            if self._new:
                for role in self.roles.values():
                    role.gathered.judged(call.args[0])
                call = call._replace(seen=self._look(call.args[0]))
            self._calls.append(call)
            self._target = self.held_out.trained_on(call.args[1])
            if len(self._calls) > 8:
                del self._calls[0]
        elif not torch.is_grad_enabled() and self._steps:
            served = id(self._dataset) in self._training and not self.held_out.beyond(call.args[1])
            if not (served or self._target is call.args[1]):
                self.held_out.scored(held_out.place(), self._steps, call)

    def _look(self, output: Tensor) -> dict[int, dict[str, Any]]:
        """What the output is, for every optimizer that has not stepped yet."""
        early = [role for role in self.roles.values() if not role.track.step and role.track.eye.called]
        return {id(role): role.track.eye.look(output) for role in early}

    def scaled(self, loss: Tensor, scaled: Tensor) -> None:
        """A GradScaler multiplied `loss`."""
        self._scaled[id(scaled)] = (scaled, loss)

    def backward(self, loss: Tensor) -> None:
        """Before a backward pass: its loss belongs to the next step."""
        if loss.numel() != 1:
            return
        kept = self._scaled.pop(id(loss), None) if self._scaled else None
        if kept is not None:
            loss = kept[1]
        calls, self._calls = self._calls, []
        call = calls[0] if len(calls) == 1 and calls[0].value is loss else source(loss, calls)
        if call is not None and call.value is not loss:
            call = weighed(loss, call)
        call = self._reader.passing(loss, call, self.roles.values())
        if call is None and not calls:
            call = self._reader.call(loss, self.roles.values(), bool(self._new))
        self._graph = None if call is not None else self._reader.discovered(loss, self.roles.values())
        self._walk(loss)
        climbs = any(climbing(*role.track.optimizers) for role in self.roles.values())
        self._sign = entering(loss, call, calls, climbs)
        value = loss if call is None or call.value.numel() != 1 else call.value
        read: Tensor | float = value.item() if value.is_cpu else value.detach().clone()
        if value is not loss and loss.is_cpu and not math.isfinite(whole := loss.item()):
            read = whole  # a factor or a term of the script's own left the numbers
        if self._autopsy is None and type(read) is float and not math.isfinite(read):
            self._autopsy = autopsy(loss)
            for role in self.roles.values():
                role.fell()
        if call is not None and call.args and (given := targets_of(call.args[0], call.args[1])) is not None:
            self._targets.append((read, given))
        # The graph of the loss is the script's: nothing of it is kept beyond this.
        of = Part(read, share(loss, None if call is None else call.value), bare=value is not loss)
        self._pending.append((read, None if call is None else self._kept(call), of))
        if self._dataset is not None:
            self._training.add(id(self._dataset))

    def _walk(self, loss: Tensor) -> None:
        """Which parameters it depends on, where there are optimizers of which that is not known yet."""
        if not self._pending:
            self._behind = []
        if self._new and len(self.roles) > 1 and self._walked < WALKS:
            self._walked += 1
            self._behind.append({id(p) for p in leaves(loss)})
        else:
            self._behind.append(set())

    def _kept(self, call: Call) -> Call | Literal[True]:
        """The call without its graph while its targets are of use; else only that there was one."""
        wanted = self._new or any(role.gathered.open for role in self.roles.values())
        if not wanted or not call.args:
            return True
        given = (call.args[0].detach(), *call.args[1:])
        return call._replace(args=given, value=call.value.detach())

    # -- the rest -----------------------------------------------------------------------------------------

    def read(self, dataset: Any) -> None:
        """A data loader gave a batch."""
        self._dataset = dataset

    def compiled(self, given: Any, made: Any) -> None:
        """Something was compiled: a model can be run beside itself, of a function nothing is seen."""
        if self.by_hand is not None:
            self.by_hand.deaf()
        if isinstance(made, nn.Module):
            self.compiled_modules.append(made)
        else:
            self.functions_compiled = True
        inside: Any = getattr(given, "__self__", None)  # module.compile() compiles a method of the module
        for role in self.roles.values():
            eye = role.track.eye
            if self.functions_compiled:
                eye.blind = _BLIND
            if isinstance(inside, nn.Module):
                eye.adopt(inside)
            eye.reopen()

    def close(self) -> None:
        """Look no more."""
        if self.by_hand is not None:
            with contextlib.suppress(Exception):  # nothing we look at may end anybody's script
                self.by_hand.check()
            self.by_hand.close()
        self.held_out.shown.close()
        for role in self.roles.values():
            role.close()

    # -- the runs -----------------------------------------------------------------------------------------

    def ranked(self) -> list[Role]:
        """The optimizers that stepped, the one to be judged first; without those of another one's loss."""
        return ranked([role for role in self.roles.values() if role.track.step and not self._follows(role)])

    def candidates(self, status: Status) -> list[Candidate]:
        """The trainings of the script, the one to be judged first; those that made room stand last."""

        def of(role: Role) -> Candidate:
            return candidate(role, self.team(role), lambda: self.conclude(role, status), self.held_out)

        return [*(of(role) for role in self.ranked()), *self.dropped]

    def _follows(self, role: Role) -> bool:
        """Whether it steps on the losses of another optimizer that is known."""
        lead = role.lead
        return lead is not None and lead in self.roles.values() and not lead.rivals(role)

    def team(self, lead: Role) -> list[Role]:
        """An optimizer and those that step on its losses."""
        return [lead, *(r for r in self.roles.values() if r.lead is lead and self._follows(r))]

    def unstepped(self) -> Run | None:
        """The run of optimizers that never stepped, though backward was called; None without."""
        made = [rule for each in self.roles.values() for rule in each.track.optimizers]
        real = [rule for rule in made if not isinstance(rule, Hand)]
        held = {id(p): p for p in parameters_of(*real)} if real else {}
        return never_stepped(list(held.values()), len(self._pending))

    def conclude(self, role: Role, status: Status) -> Run:
        """The run of one optimizer, and of those that train by the same loss, with what went through it."""
        first, last = role.span
        apart = [r for r in self.ranked() if r is not role and r.span[0] < last and r.span[1] > first]
        rivals = [r for r in apart if role.rivals(r)]
        return conclude(role, self.team(role), len(rivals), status, self.held_out)


_BLIND = "compiled code was not looked into; model = torch.compile(model) lets it be run beside"
