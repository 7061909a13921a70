"""Trials by hand, and what a verdict has to be."""

from __future__ import annotations

from typing import Any

from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.symptom import Verdict

FAR: list[dict[str, Any]] = [{"what": "a plain network", "loss": 0.1}]
"""What is reachable, far below a guess of 2.3."""


def trial(share: float, **changes: Any) -> dict[str, Any]:
    """A paired trial of full length that recovered `share` of the way."""
    said = {
        "edit": "the remedy",
        "steps": 200,
        "full": True,
        "longer": False,
        "loss": None,
        "valid_loss": None,
    }
    return said | {"share": share} | changes


def tried(run: Run, symptom: str, share: float | None, **changes: Any) -> Run:
    """`run` with a trial of that symptom's remedy; with None a run whose suspicions can still be tried."""
    run.facts["trials"] = {} if share is None else {symptom: trial(share, **changes)}
    return run


def finding(verdict: Verdict) -> Finding:
    """The verdict, which has to be a finding."""
    assert isinstance(verdict, Finding), verdict
    return verdict
