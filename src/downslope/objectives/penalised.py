"""An objective with penalties beside it: the risk apart from what holds the weights down."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.core.spelling import Spelt, spell
from downslope.objectives.configured import MARKS, short
from downslope.objectives.penalties import Penalty, elastic, l1, l2

KINDS: dict[str, Callable[..., Penalty]] = {"l1": l1, "l2": l2, "elastic": elastic}
"""Penalties by the keyword that gives their strength."""


class Penalised:
    """``J(w) = risk(output, target) + sum_k penalty_k(w)``.

    Called with output and target it is the risk alone. `fit` asks for `penalties` besides, goes down on the
    sum, and keeps all apart: ``train_loss`` and ``valid_loss`` are risks, so that they can be held against
    each other and against runs with other penalties; each penalty is a column ``train_<name>``, the sum is
    ``train_objective``. Where the objective is maximised the penalties are still brought down.

    Differs from Keras, whose losses, that on validation data among them, have the penalties in them.

    Args:
        objective: the risk.
        penalties: with names of their own.
    """

    def __init__(self, objective: Callable[..., Any], penalties: Sequence[Penalty]) -> None:
        self.objective = objective
        self.terms = tuple(penalties)
        seen: set[str] = set()
        for each in self.terms:
            if each.name in seen:
                raise ObjectiveError(f"two penalties are called {each.name!r}: give one of them a name=")
            seen.add(each.name)
        for mark in MARKS:
            setattr(self, mark, getattr(objective, mark, None))
        for part in ("combine", "weight", "ignore_index"):
            if hasattr(objective, part):
                setattr(self, part, getattr(objective, part))

    def __call__(self, output: Any, target: Any, **given: Any) -> Any:
        """The risk, without the penalties."""
        return self.objective(output, target, **given)

    def penalties(self, model: nn.Module) -> dict[str, Tensor]:
        """Every penalty of `model` by its name, scalars with gradients."""
        return {each.name: each(model) for each in self.terms}

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the risk, which says what it asks for."""
        risk: Any = self.objective
        return inspect.signature(risk.forward if isinstance(risk, nn.Module) else risk)

    @property
    def __name__(self) -> str:
        return str(getattr(self.objective, "__name__", type(self.objective).__name__))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Penalised) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def spelling(self) -> str:
        """The text that makes it again."""
        plain = {each.kind: each.strength for each in self.terms if _is_plain(each)}
        others = [Spelt(repr(each)) for each in self.terms if not _is_plain(each)]
        inner = short(self.objective)
        named = Spelt(inner) if isinstance(inner, str) and inner.isidentifier() else inner
        return spell("penalised", (named, *others), plain)

    def __repr__(self) -> str:
        return self.spelling


def penalised(objective: str | Callable[..., Any], *penalties: Penalty, **strengths: float) -> Penalised:
    """An objective with penalties: ``penalised("cross_entropy", l2=1e-3)``.

    Args:
        objective: a name, with settings or without, or ``(output, target) -> scalar``; one that has penalties
            already gets these besides, and other strengths of the same kind.
        *penalties: such as ``l2(1e-2, only="head.*", name="l2_head")``.
        **strengths: ``l1``, ``l2`` and ``elastic``, each in [0, inf), of all weights; 0 takes one out.

    Returns:
        The objective; `Penalised` says what becomes of it in a run.

    Raises:
        ObjectiveError: no such penalty, a strength outside its domain, two of one name.

    Example:
        >>> from downslope.objectives import penalised
        >>> penalised("cross_entropy", l2=1e-3)
        penalised(cross_entropy, l2=0.001)
    """
    risk: Any = names.resolve("objective", objective) if isinstance(objective, str) else objective
    kept: dict[str, Penalty] = {}
    if isinstance(risk, Penalised):
        kept, risk = {each.name: each for each in risk.terms}, risk.objective
    for key, value in strengths.items():
        if key not in KINDS:
            raise ObjectiveError(f"penalised: no penalty {key!r}{names.did_you_mean(key, KINDS)}")
        made = KINDS[key](value)
        kept.pop(key, None)
        if made.strength:
            kept[key] = made
    return Penalised(risk, (*kept.values(), *penalties))


def _is_plain(penalty: Penalty) -> bool:
    return repr(penalty) == repr(KINDS[penalty.kind](penalty.strength)) if penalty.kind in KINDS else False


def is_strength(key: str) -> bool:
    """Whether `key` is the strength of a penalty of all weights."""
    return key in KINDS
