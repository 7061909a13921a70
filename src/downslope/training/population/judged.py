"""Members side by side on a part of the data: one forward pass for all, a tally for each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # torch's own

from downslope.core import batches
from downslope.core.class_targets import IGNORED
from downslope.core.errors import InputError
from downslope.core.loss import Loss, Objective, raw_output
from downslope.core.sources import Memory, Source
from downslope.objectives.metrics.accuracy import accuracy
from downslope.objectives.objective import is_index
from downslope.training.evaluate import BATCH, Evaluation, Scored, Tally, evaluating
from downslope.training.facts import one_line
from downslope.training.population.abreast import Abreast
from downslope.training.population.mapped import side_by_side
from downslope.training.population.members import Member
from downslope.training.population.stack import Stack
from downslope.training.spread import share_stderr

LARGEST = 2 * 10**9
"""Multiply-adds of one forward pass of evaluation at most; of larger models fewer go side by side."""


Found = dict[tuple[int, bool], dict[int, Evaluation]]
"""Evaluations by row, of a part of the data, with errors or without."""


class Judge:
    """Measures members on demand: the first that asks within a sitting has all of it measured.

    Args:
        abreast: The members side by side.
        members: In the order of the rows; each asks here before it looks at data alone.
        products: Multiply-adds of one member for one example.
    """

    def __init__(self, abreast: Abreast, members: Sequence[Member], products: float) -> None:
        self.abreast, self.members, self.products = abreast, list(members), max(products, 1.0)
        self._sitting: list[int] = []
        self._found: Found = {}
        self._able, self._closed = True, False
        for member in members:
            member.together = self._asked

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members in `rows` only."""
        self.members = [self.members[i] for i in rows]

    @contextlib.contextmanager
    def sitting(self, rows: Sequence[int], known: Found | None = None) -> Generator[None]:
        """A block in which the weights in these rows stay what they are when they are asked for.

        Args:
            rows: Of members that may ask.
            known: What `look` found beforehand; then nothing else is measured here.
        """
        self._sitting, self._found = self._able_rows(rows), known or {}
        self._closed = known is not None
        try:
            yield
        finally:
            self._sitting, self._found = [], {}

    def look(self, rows: Sequence[int]) -> Found:
        """What the summaries of the members in `rows` will ask for, at the weights that are there."""
        found: Found = {}
        able = self._able_rows(rows)
        for part in ("train", "valid"):
            asking = [i for i in able if _asks(self.members[i], part)]
            source = getattr(self.members[asking[0]], part) if len(asking) > 1 else None
            if isinstance(source, Memory):
                found[id(source), True] = self._all(asking, source, errors=True)
        return found

    def _able_rows(self, rows: Sequence[int]) -> list[int]:
        return [i for i in rows if self.members[i].judged is self.members[i].state.model]

    def _asked(self, member: Member, source: Source, errors: bool) -> Evaluation | None:
        place = next((i for i in self._sitting if self.members[i] is member), None)
        if place is None or not isinstance(source, Memory):
            return None
        asked = id(source), errors
        if asked not in self._found and not self._closed and len(self._sitting) > 1:
            self._found[asked] = self._all(self._sitting, source, errors)
        return self._found.get(asked, {}).get(place)

    def _all(self, asking: Sequence[int], source: Memory, errors: bool) -> dict[int, Evaluation]:
        """These members in parts that fit; nothing from then on where vmap cannot take the model."""
        most = int(LARGEST // (self.products * min(BATCH, source.size)))
        if most < 2 or not self._able:
            return {}
        found: dict[int, Evaluation] = {}
        try:
            for start in range(0, len(asking), most):
                rows = asking[start : start + most]
                found |= evaluate_together(
                    self.abreast, [self.members[i] for i in rows], rows, source, errors
                )
        except Exception as error:  # noqa: BLE001 (any model, any objective: each is then looked at alone)
            self._able = False
            for member in self.members:
                member.state.run.choices["evaluation"] = f"one by one: {one_line(error)}"
            return {}
        return found


def _asks(member: Member, part: str) -> bool:
    """Whether the summary of a member will ask for this part of the data as a whole."""
    if part == "train":
        return member.deadline.judged(member.seen) is None
    return member.valid is not None and (member.measured is None or member.measured[0] != member.handed_step)


def evaluate_together(
    abreast: Abreast, members: Sequence[Member], rows: Sequence[int], source: Memory, errors: bool
) -> dict[int, Evaluation]:
    """What `evaluate` gives for the models in `rows`, by row; one whose metric fails is left out.

    Args:
        abreast: All members side by side.
        members: Those in `rows`.
        rows: Which.
        source: A part of the data.
        errors: Whether standard errors are wanted too.
    """
    tallies = [Tally(each.state.problem, each.state.objective, errors=errors) for each in members]
    shares: list[Tensor] | None = [] if all(e.state.problem.metric is accuracy for e in members) else None
    with evaluating(abreast.stack.template):
        for batch in source.stored(BATCH):
            size = batches.length(batch)
            quick = abreast.losses.measured(rows, batch)
            if quick is None:
                shares = None
                for tally, loss in zip(tallies, _looked(abreast.stack, members, rows, batch), strict=True):
                    tally.see(loss, size)
                continue
            output, entries, values = quick
            shares = None if shares is None else _right(shares, output, batch[1])
            for tally, made, each, value in zip(tallies, output, entries, values, strict=True):
                tally.see(Loss(value, made, batch[1], {}, made=made), size, each)
        scores = _scores(shares, errors) if shares else [None] * len(tallies)
        found: dict[int, Evaluation] = {}
        for row, tally, scored in zip(rows, tallies, scores, strict=True):
            with contextlib.suppress(InputError):
                found[row] = tally.result(scored)
    return found


def _right(former: list[Tensor], output: Tensor, target: Tensor) -> list[Tensor] | None:
    """Which answers are right, (M, n), after those of `former` batches; None of other forms than (n, C)."""
    if output.dim() != 3 or output.shape[2] < 2 or target.dim() != 1 or not is_index(target):
        return None
    if bool((target == IGNORED).any()):
        return None
    return [*former, (output.argmax(2) == target) & ~output.isnan().any(2)]


def _scores(shares: Sequence[Tensor], errors: bool) -> list[Scored]:
    """The accuracy of each member, as the metric gives it."""
    right = torch.cat(list(shares), 1)
    values = cast("list[float]", right.double().mean(1).tolist())
    if not errors:
        return [Scored(value) for value in values]
    spread = cast("list[float]", share_stderr(right).tolist())
    return [Scored(value, error) for value, error in zip(values, spread, strict=True)]


def _looked(stack: Stack, members: Sequence[Member], rows: Sequence[int], batch: Any) -> list[Loss]:
    """Outputs by vmap, and the objective of each member."""
    leaves, spec = pytree.tree_flatten(batch)
    first = members[0].state.objective
    one = functools.partial(_one, stack, first, spec)
    try:
        made = side_by_side(one, (0, 0, *[None] * len(leaves)), *stack.taken(rows), *leaves)
    finally:
        stack.restore()
    args, kwargs, target = first.split(batch)
    found: list[Loss] = []
    for i, member in enumerate(members):
        output = pytree.tree_map_only(Tensor, lambda leaf, i=i: leaf[i], made)
        objective, model = member.state.objective, member.state.model
        found.append(objective.reported(model, output, target, args or (kwargs,)))
    return found


def _one(stack: Stack, objective: Objective, spec: Any, parts: Any, others: Any, *leaves: Any) -> Any:
    """The output of one member, as vmap sees it."""
    stack.put(parts, others)
    args, kwargs, _ = objective.split(pytree.tree_unflatten(list(leaves), spec))
    return raw_output(stack.template, *args, **kwargs)
