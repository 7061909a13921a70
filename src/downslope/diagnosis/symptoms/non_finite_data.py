"""Non-finite data. The loss is NaN from the first batch that holds the example, and so are all weights after.

A single NaN or infinity in an input or a target passes through every layer and every gradient. It looks like
a learning rate that is too high, but comes at a step that does not depend on the rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Advice, Combined, Edit, FillInputs, LeaveOut
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.data.inspect import MOST_TOLD
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_PLACES = (
    ("non_finite", "training inputs"),
    ("target_non_finite", "training targets"),
    ("valid_non_finite", "validation inputs"),
    ("valid_target_non_finite", "validation targets"),
)


@symptom(
    "non-finite-data",
    title="NaN or infinity in the data",
    order=("data", 0),
    needs=("data",),
    explains=("unscaled-inputs", "unscaled-targets", "output", "model", "step", "terrain", "generalisation"),
    source="IEEE 754: an operation on NaN gives NaN",
)  # fmt: skip
def non_finite_data(run: Run) -> Verdict:
    """Any value that is not finite, in inputs or targets."""
    data: Mapping[str, Any] = run.facts["data"]
    asked: list[tuple[str, Mapping[str, Any]]] = [(what, data.get(key) or {}) for key, what in _PLACES]
    parts = [(what, found) for what, found in asked if found.get("count")]
    if not parts:
        if data.get("sampled") and run.facts.get("nonfinite") is not None:
            return Unknown(
                "only a sample of the batches was looked at, not the one at which the numbers ended"
            )
        return Clear("all values are finite")
    total = sum(found["count"] for _, found in parts)
    places = _places([found for _, found in parts])
    named = " and the ".join(what for what, _ in parts)
    told = "; ".join(f"{said}: {value}" for said, value in places)
    more = f"; and {total - len(places)} more" if 1 < len(places) < total else ""
    return Finding(
        symptom="non-finite-data",
        title="NaN or infinity in the data",
        severity="critical",
        evidence=Evidence(
            name=f"non-finite values in the {named}",
            value=float(total),
            threshold=0.0,
            unit="values",
            provenance="a single one makes every weight NaN",
        ),
        message=f"{told}{more}. {_held(parts)}.",
        remedies=_remedies(
            run,
            [what for what, _ in parts],
            Advice(f"drop or fill in the non-finite values of the {named}, starting at {places[0][0]}"),
        ),
        source="IEEE 754: an operation on NaN gives NaN",
    )


def _remedies(run: Run, places: Sequence[str], advice: Edit) -> tuple[Edit, ...]:
    """Inputs filled in, examples without a target left out, where the data is at hand; else advice."""
    if run.problem is None or not isinstance(run.problem.train_source, Memory):
        return (advice,)
    edits: list[Edit] = []
    if any("inputs" in each for each in places):
        edits.append(FillInputs())
    if any("targets" in each for each in places):
        edits.append(LeaveOut())
    return (edits[0] if len(edits) == 1 else Combined(tuple(edits)), advice)


def _places(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Place and value of the first ones, in the order of the file where all were read from one."""
    listed: list[Mapping[str, Any]] = [place for part in found for place in part.get("places") or ()]
    if not listed:
        first: Mapping[str, Any] = found[0].get("first") or {}
        return [(_of(first), str(first.get("value", "NaN")))]
    if len({place["file"] for place in listed}) == 1 and listed[0]["file"] is not None:
        listed.sort(key=lambda place: place["at"])
    return [(place["said"], place["value"]) for place in listed[:MOST_TOLD]]


def _of(first: Mapping[str, Any]) -> str:
    return first.get("place") or f"row {first['row']}, column {first['column']} (counted from 0)"


def _held(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    first, *rest = parts
    said = f"The {first[0]} hold {_counted(first[1]['count'])}"
    return ", ".join([said, *(f"the {what} {found['count']}" for what, found in rest)])


def _counted(count: int) -> str:
    return "one value that is not finite" if count == 1 else f"{count} values that are not finite"
