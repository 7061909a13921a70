"""One trial of a search: a configuration, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

State = Literal["running", "waiting", "done", "pruned", "failed", "lost", "given back"]
"""How a trial stands. "lost": its worker died; "given back": its worker was interrupted. Of both, the
configuration has a trial of its own that follows (``retry_of``), so that they count for nothing."""

RESULT = "result"
"""The attribute in Optuna's record that holds all that we know of the end of a trial."""

LEFT = ("lost", "given back")
"""States of a trial whose configuration is trained again under another number."""

TWICE = "queued twice"

STATES: dict[str, State] = {
    "RUNNING": "running", "WAITING": "waiting", "COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed",
}  # fmt: skip
"""By Optuna's name of a state."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration, and what became of it.

    Attributes:
        number: Its place in the storage, from 0.
        values: The configuration, by the keys of the space.
        state: See `State`.
        value: What the search compares; of a pruned one the last that was seen; None if there is none.
        rungs: Values on the way, by step.
        attrs: What the search keeps of it: ``seconds``, ``steps``, and what it was given.
        cause: Why it failed, was lost, pruned or given back.
        worker: Who trains or trained it.
        retry_of: The trial that this one follows.
        losses: How many workers have died over this configuration so far.
    """

    number: int
    values: Mapping[str, Any]
    state: State = "running"
    value: float | None = None
    rungs: Mapping[int, float] = field(default_factory=dict[int, float])
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cause: str | None = None
    worker: str | None = None
    retry_of: int | None = None
    losses: int = 0
    key: int = field(default=-1, repr=False, compare=False)
    """Optuna's own number of it, over all studies of a storage."""

    @property
    def ended(self) -> bool:
        """Whether it is over, in one way or another."""
        return self.state not in ("running", "waiting")

    @property
    def counts(self) -> bool:
        """Whether it counts for the budget: not what is trained again."""
        return self.state not in ("lost", "given back")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a search has used of its budget so far, over all its workers.

    Attributes:
        trials: Configurations that were begun or wait, each once however often it was lost.
        seconds: Sum of what was told; what dead workers had used is not known and not in it.
        steps: Likewise.
    """

    trials: int
    seconds: float
    steps: int


def trial_of(values: Callable[[Mapping[str, Any]], dict[str, Any]], frozen: FrozenTrial) -> Trial:
    """What Optuna keeps as `frozen`; `values` reads its parameters."""
    attrs = dict(frozen.user_attrs)
    result: dict[str, Any] = dict(attrs.pop(RESULT, {}))
    state: State = result.pop("left", "") or STATES[frozen.state.name]
    return Trial(
        number=frozen.number,
        values=values(frozen.params) | attrs.pop("values", {}),
        state=state,
        value=frozen.value if state in ("done", "pruned") else None,
        rungs=frozen.intermediate_values,
        cause=result.pop("cause", None),
        worker=attrs.pop("worker", None),
        retry_of=attrs.pop("retry_of", None),
        losses=max(int(attrs.pop("losses", 0)), int(result.pop("losses", 0))),
        attrs=attrs | result,
        key=frozen._trial_id,  # pyright: ignore[reportPrivateUsage] (storages take nothing else)
    )
