"""What a symptom is: a pure function of a recorded Run, with its place in the order of causes.

One symptom, one file in `diagnosis.symptoms`; importing that package fills the registry.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from downslope.core.finding import Finding
from downslope.core.run import Run

Group = Literal["data", "output", "model", "step", "terrain", "generalisation"]

GROUPS: tuple[Group, ...] = ("data", "output", "model", "step", "terrain", "generalisation")
"""The causal order: what is wrong in an earlier group can bring about what shows in a later one."""


STEPS = ("learning-rate-too-high", "learning-rate-too-low", "oscillation", "cliff", "noisy-gradient")
"""What shows in the step where something before it is wrong."""

GIVEN = ("missing-nonlinearity", "symmetric-init", "init-scale", "frozen-parameters", "mixed-examples")
"""Facts of code and start among the symptoms of the model: a cause that explains the whole group brings about
what shows in it, and none of these."""


class Clear(NamedTuple):
    """A symptom that was looked for and does not hold."""

    evidence: str
    """The number that cleared it, in words."""


class Unknown(NamedTuple):
    """A symptom that this run cannot answer for."""

    reason: str
    """Why not."""


Verdict = Finding | Clear | Unknown
Check = Callable[[Run], Verdict]


@dataclass(frozen=True)
class Symptom:
    """One registered symptom.

    Attributes:
        id: Public and stable, such as "dead-units".
        title: The same in plain words.
        order: Group and rank in it; earlier ones are causes of later ones.
        needs: What must be recorded: a fact ("data"), a probe ("probe:zero_fraction") or a column
            ("history:train_loss").
        explains: Ids of the symptoms that this one can bring about, or groups of them.
        source: The paper or measurement behind the criterion.
        check: The criterion.
    """

    id: str
    title: str
    order: tuple[Group, int]
    needs: tuple[str, ...]
    explains: tuple[str, ...]
    source: str
    check: Check

    def can_explain(self, other: Symptom) -> bool:
        """Whether this one can bring about `other`."""
        return other.id != self.id and (other.id in self.explains or other.order[0] in self.explains)

    @property
    def rank(self) -> tuple[int, int]:
        """A sort key: causes before consequences."""
        return GROUPS.index(self.order[0]), self.order[1]


_REGISTRY: dict[str, Symptom] = {}


def symptom(
    name: str,
    *,
    title: str,
    order: tuple[Group, int],
    needs: tuple[str, ...] = (),
    explains: tuple[str, ...] = (),
    source: str = "",
) -> Callable[[Check], Check]:
    """Register a criterion as symptom `name`; the function itself stays as it is.

    Args:
        name: Public id.
        title: The same in plain words.
        order: Group and rank in the causal order.
        needs: What must be recorded before the criterion is asked.
        explains: Ids of symptoms that it can bring about.
        source: Paper or measurement.

    Returns:
        A decorator.
    """

    def register(check: Check) -> Check:
        _REGISTRY[name] = Symptom(name, title, order, needs, explains, source, check)
        return check

    return register


def registry() -> Mapping[str, Symptom]:
    """Every symptom by id, causes before consequences."""
    importlib.import_module("downslope.diagnosis.symptoms")
    return dict(sorted(_REGISTRY.items(), key=lambda item: item[1].rank))


def rank_of(finding: Finding) -> tuple[int, int]:
    """The place of a finding in the causal order.

    What shows in the model only after some steps (units that die on the way) comes after the step, its cause.
    """
    rank = registry()[finding.symptom].rank
    step = GROUPS.index("step")
    late = finding.where.steps is not None and finding.where.steps[0] > 1
    return (step, 50 + rank[1]) if late and rank[0] < step else rank


_UNRECORDED = (
    "this run did not record what it needs; ds.diagnose(problem, recipe) does, or downslope diagnose task.py"
)


def missing(run: Run, need: str) -> str | None:
    """Why `need` cannot be had from `run`; None if it is there."""
    kind, _, name = need.rpartition(":")
    if kind == "probe":
        there = name in run.probes
    elif kind == "history":
        there = bool(len(run.history.series(name).steps))
    else:
        there = run.facts.get(name) is not None
    if there:
        return None
    reasons: Mapping[str, str] = run.facts.get("not_measured", {})
    return reasons.get(name) or reasons.get("") or _UNRECORDED
