"""One optimizer in a running script: what it trains, by which loss, and when."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.diagnosis.ear import Call
from downslope.diagnosis.gathered import Gathered
from downslope.diagnosis.hand import Hand
from downslope.diagnosis.held_out import Place
from downslope.diagnosis.intake import Intake
from downslope.diagnosis.raw import Raw
from downslope.diagnosis.served import Served
from downslope.diagnosis.settings import parameters_of, rates_of
from downslope.diagnosis.signs import Signs
from downslope.diagnosis.track import Track
from downslope.objectives.meaning import Meaning

OWN = 0.05
"""Share of the steps of one optimizer from which another that has as many losses of its own is a rival."""

_CALLED = itertools.count(1)


class Role:
    """One optimizer in the script: its track, and what was gathered of its data and objective."""

    def __init__(self, optimizer: torch.optim.Optimizer, compiled: list[Any]) -> None:
        self.gathered = Gathered()
        self.track = Track([optimizer], None, self._forwarded, compiled)
        self.gathered.now = self.track.now
        self._intake = Intake(self.gathered.shown.called)
        self.raw = Raw(self.track, self.gathered)
        self.served, self.signs = Served(), Signs()
        self.seen: dict[str, Any] | None = None
        self.meaning: Meaning | None = None
        self.trained: Call | None = None
        """The call that gave its first loss, without its tensors."""
        self.mixed = False
        """Whether the loss is anything but the value of one known function."""
        self.own = 0
        """Steps after a backward pass that no other optimizer's step had used."""
        self.span: tuple[int, int] = (0, 0)
        """Its first and latest step, counted over all optimizers."""
        self.lead: Role | None = None
        """The optimizer whose loss it stepped on at its first step; None where that was its own."""
        self.met: float = math.inf
        """When its models were called first, among those of all optimizers."""
        self.fed = False
        """Whether what its models are handed was made by something that is trained."""
        self.latest: Tensor | float = 0.0
        """The latest loss that was heard."""
        self.left: float | None = None
        """Its weights, taken together, when a loss was not finite for the first time."""
        self.made_with = rates_of(optimizer)
        self.place: Place = ()
        """Lines of the script where it was made, the innermost first."""
        self.since = 0
        """Steps of the training when this optimizer was made, the same anew."""

    def renew(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` goes on with the training of the one that it was made in the place of."""
        self.track.optimizers = self.track.holding.optimizers = (optimizer,)
        self.since = self.track.step

    def take_in(self, heard: bool) -> None:
        """Before a step whose loss is `heard`: what its model is handed is kept, while there is room."""
        if not heard:  # most steps, for which this has to cost next to nothing
            self._intake.close()
            return
        shown, eye = self.gathered.shown, self.track.eye
        first = None if shown.first is None or shown.full else shown.first[0]()
        if first is not None and not (self.track.armed or eye.compiled or self.gathered.foreign):
            self._intake.open(first)
        else:
            self._intake.close()

    def close(self) -> None:
        """Look no more."""
        self._intake.close()
        self.track.close()

    def _forwarded(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], made: Any) -> None:
        if self.met == math.inf:
            self.met = next(_CALLED)
            first = next(iter(batches.tensors((args, dict(kwargs)))), None)
            self.fed = first is not None and first.requires_grad
        self.gathered.forwarded(module, args, kwargs, made)

    def passing(self, loss: Tensor, call: Call | None) -> Call | None:
        """Before a backward pass: what went through parameters that no module holds.

        Returns:
            The call with its examples first.
        """
        if self.raw.look(loss, call) and self.met == math.inf:
            self.met = next(_CALLED)
        return None if call is None else self.raw.of_call(call)

    @property
    def models(self) -> str:
        """The models it trains, by class."""
        names = [type(each.inner).__name__ for each in self.track.eye.observers.values()]
        return " and ".join(names) or "a model that was not seen"

    @property
    def name(self) -> str:
        """The optimizer and its models, for a message."""
        rule = self.track.optimizers[0]
        return f"{'Updates by hand' if isinstance(rule, Hand) else type(rule).__name__} on {self.models}"

    @property
    def rate(self) -> str:
        """The rate that it was made with, as "lr 0.1"; "" where it has none."""
        known = [each for each in self.made_with if math.isfinite(each)]
        return f"lr {max(known):.3g}" if known else ""

    @property
    def lost(self) -> bool:
        """Whether its latest loss is not finite."""
        return not math.isfinite(float(self.latest))

    def fell(self) -> None:
        """A loss is not finite for the first time, and its backward pass has not run."""
        self.left = self.size()
        self.track.fell()

    def size(self) -> float:
        """Its weights, taken together."""
        held = [p.detach() for p in parameters_of(*self.track.optimizers) if p.is_floating_point()]
        norms: list[Tensor] = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in held]
        return math.hypot(*(float(each) for each in norms))

    def rivals(self, other: Role) -> bool:
        """Whether `other` steps on losses of its own, beside the losses of this one."""
        return other.own > OWN * self.own
