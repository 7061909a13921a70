"""How far the plain network of the references came beyond a run, on data that neither was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.progress import table

PLAIN = "a plain network"
SAME = "the same model"


def row_of(run: Run, what: str) -> Mapping[str, Any] | None:
    """The first reference whose name begins with `what`."""
    rows: Sequence[Mapping[str, Any]] = run.facts.get("references") or ()
    return next((each for each in rows if str(each.get("what", "")).startswith(what)), None)


def lead(run: Run, what: str = PLAIN) -> float | None:
    """What a reference reaches beyond the run on held-out data, in the way that it went there itself.

    Returns:
        At 1 the run knows nothing that a constant does not; None where no held-out data tells.
    """
    constant, ending, row = table(run, "constant"), table(run, "ending"), row_of(run, what)
    if row is None:
        return None
    key = "valid_metric" if row.get("valid_metric") is not None else "valid_loss"
    base, own, other = constant.get(key), ending.get(f"best_{key}"), row.get(key)
    if base is None or own is None or other is None or base == other:
        return None
    return float((other - own) / (other - base))
