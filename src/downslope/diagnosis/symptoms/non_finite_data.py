"""Non-finite data. The loss is NaN from the first batch that holds the example, and so are all weights after.

A single NaN or infinity in an input or a target passes through every layer and every gradient. It looks like
a learning rate that is too high, but comes at a step that does not depend on the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
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
    for key, what in _PLACES:
        found: Mapping[str, Any] = data.get(key) or {}
        if not found.get("count"):
            continue
        first: Mapping[str, Any] = found.get("first") or {}
        place = first.get("place") or f"row {first['row']}, column {first['column']} (counted from 0)"
        return Finding(
            symptom="non-finite-data",
            title="NaN or infinity in the data",
            severity="critical",
            evidence=Evidence(
                name=f"non-finite values in the {what}",
                value=float(found["count"]),
                threshold=0.0,
                unit="values",
                provenance="a single one makes every weight NaN",
            ),
            message=f"{place}: {first.get('value', 'NaN')}. The {what} hold {_counted(found['count'])}.",
            remedies=(Advice(f"drop or fill in the non-finite values of the {what}, starting at {place}"),),
            source="IEEE 754: an operation on NaN gives NaN",
        )
    if data.get("sampled") and run.facts.get("nonfinite") is not None:
        return Unknown("only a sample of the batches was looked at, not the one at which the numbers ended")
    return Clear("all values are finite")


def _counted(count: int) -> str:
    return "one value that is not finite" if count == 1 else f"{count} values that are not finite"
