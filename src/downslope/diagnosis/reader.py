"""Reads the losses that a script writes out by hand, each as the call of a loss function it stands for."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, cast

from torch import Tensor

from downslope.diagnosis.ear import Call
from downslope.diagnosis.eye import Eye
from downslope.diagnosis.losses import crossed, objective_of
from downslope.diagnosis.nodes import form, unscaled
from downslope.diagnosis.role import Role
from downslope.diagnosis.whole import of_outputs
from downslope.diagnosis.written import Written, read
from downslope.objectives.meaning import Meaning
from downslope.training.facts.output import described

MISSES = 3
"""Losses that were none of these after which no more are looked into."""

READ = 256
"""Losses that are read, each some 0.5 ms; of those that come later the form of the graph has to do."""

ZERO = 1e-6
"""Loss of a batch that is learnt by heart, whatever the form."""


class Reader:
    """Of one script; what it cannot read a few times it looks into no more.

    Attributes:
        crossed: Shape of an output that the latest loss which `discovered` read compares with every target.
    """

    def __init__(self) -> None:
        self.crossed: tuple[int, ...] | None = None
        self._misses = 0
        self._form: tuple[str, ...] = ()
        self._scaled = False
        self._read_so_far = 0

    @staticmethod
    def passing(loss: Tensor, call: Call | None, roles: Collection[Role]) -> Call | None:
        """Before a backward pass: `call` of its loss, if any, as the networks of the script have it."""
        for role in roles:
            call = role.passing(loss, call)
        return call

    def call(self, loss: Tensor, roles: Collection[Role], early: bool) -> Call | None:
        """The call that a logarithmic loss stands for, whose backward pass has not run; None for any other.

        Args:
            loss: A scalar with its graph.
            roles: The optimizers that are followed.
            early: Whether any of them has not stepped yet.
        """
        done = self._read_so_far >= READ or not any(role.gathered.wanting for role in roles)
        if not early and done:
            return self._again(loss)
        found = self._read(loss, [node for role in roles for node in role.gathered.made])
        if found is None:  # what is 0 agrees with any form
            return self._again(loss) if abs(float(loss.detach())) < ZERO else None
        for role in roles:
            found = of_outputs(found, role.gathered.made, role.gathered.shown.outputs)
            made, target = role.raw.turned(found.made, found.target)
            if made is not found.made and cast("Any", found.function).reduction == "sum":
                return None  # a sum over units and a mean over examples, or the other way round
            found = found._replace(made=made, target=target)
        new = [role for role in roles if not role.track.step and role.track.eye.called]
        seen = {id(role): _seen(found, role.track.eye, role.gathered.made) for role in new}
        for role in roles if early else ():
            role.gathered.judged(cast("Tensor", found.head))
        return Call(found.function, (found.made.detach(), found.target), {}, found.value, seen)

    def _again(self, loss: Tensor) -> Call | None:
        """A loss that was made as the one before, of which no targets are wanted."""
        if not self._form or form(loss) != self._form:
            return None
        return Call(None, (), {}, loss.detach() / self._factor(loss))

    def _factor(self, loss: Tensor) -> float:
        return unscaled(loss)[1] if self._scaled else 1.0

    def _read(self, loss: Tensor, outputs: list[Any]) -> Written | None:
        if self._misses >= MISSES:
            return None
        try:
            found = read(loss, outputs)
        except Exception:  # noqa: BLE001 (a graph of any kind; then the objective stays unknown)
            found = None
        if found is None:
            self._misses += not self._form
        else:
            self._misses, self._form = 0, form(loss)
            self._read_so_far += 1
            self._scaled = float(found.value) != float(loss.detach())
        return found

    def discovered(self, loss: Tensor, roles: Collection[Role]) -> Meaning | None:
        """The objective of any other loss that was written out by hand, by the shape of its graph alone.

        Args:
            loss: A scalar with its graph.
            roles: The optimizers that are followed.
        """
        # Of several models the one that was called last has made what the loss is of.
        last = max((each for each in roles if each.met < math.inf), key=lambda each: each.met, default=None)
        output = None if last is None else last.track.eye.output
        found = objective_of(loss, (output or {}).get("activation"))
        self.crossed = None if found is None else crossed(loss)
        return None if found is None else Meaning(found.expects, None, found.name, "mean")  # type: ignore[arg-type]


def _seen(found: Written, eye: Eye, outputs: list[Any]) -> dict[str, Any]:
    """What the output is that a loss is of: the model's, or what the script made of it."""
    node = found.head.grad_fn
    own = eye.output is not None and any(node is each for each in outputs)
    seen = dict(eye.output or {}) if own else described(found.made.detach(), eye.nodes, node) | {"tensors": 1}
    return seen | {"clamped": found.head.clamped, "shared": found.head.shared}
