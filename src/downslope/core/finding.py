"""What a diagnosis says: one symptom, where it stands, the evidence, what follows from it, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from downslope.core.plain import plain

if TYPE_CHECKING:
    from downslope.core.edits import Edit

Severity = Literal["info", "warning", "critical"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number beside the number it was held against.

    Attributes:
        name: What was measured, such as "lambda_max * lr / 2".
        value: The measurement, in `unit`.
        threshold: The limit it crossed, in `unit`.
        unit: The unit of both ("ratio", "steps", "units of the target").
        provenance: Where the threshold comes from: a paper, a convention, a measurement of ours.
    """

    name: str
    value: float
    threshold: float
    unit: str = "ratio"
    provenance: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} (limit {self.threshold:.4g}, {self.unit})"


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a symptom shows.

    Attributes:
        modules: Qualified names; none means the whole model.
        steps: First and last, 1-based; None where steps do not matter.
        called: The same modules as people are told of them ("3 (Linear 64x10)"); the judge fills it in.
    """

    modules: tuple[str, ...] = ()
    steps: tuple[int, int] | None = None
    called: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        told = self.called or self.modules
        if not told:
            named = "whole model"
        elif len(told) <= 3:
            named = ", ".join(told)
        else:
            named = f"{told[0]} ... {told[-1]} ({len(told)} modules)"
        if self.steps is None:
            return named
        first, last = self.steps
        return f"{named}, step {first}" if first == last else f"{named}, steps {first} to {last}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A symptom that holds, with what one needs to judge and to act.

    Attributes:
        symptom: The public, stable id, such as "learning-rate-too-high".
        title: The same in plain words.
        severity: "critical" (without a remedy the run is lost), "warning" (the first remedy wins a material
            share at the same budget) or "info" (worth knowing).
        where: Modules and steps.
        evidence: The number that decided, with its limit.
        also: Further evidence.
        message: One sentence a person can act on.
        consequences: Findings that follow from this one; they carry no remedies of their own.
        remedies: Edits, the best first.
        source: The paper or measurement that the criterion comes from.
    """

    symptom: str
    title: str
    severity: Severity
    evidence: Evidence
    where: Where = field(default_factory=Where)
    also: tuple[Evidence, ...] = ()
    message: str = ""
    consequences: tuple[Finding, ...] = ()
    remedies: tuple[Edit, ...] = ()
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, non-finite numbers as None: ready for JSON."""
        return plain(
            {
                "symptom": self.symptom,
                "title": self.title,
                "severity": self.severity,
                "where": {"modules": list(self.where.modules), "steps": self.where.steps},
                "evidence": vars(self.evidence),
                "also": [vars(each) for each in self.also],
                "message": self.message,
                "consequences": [each.to_dict() for each in self.consequences],
                "remedies": [each.to_dict() | {"text": str(each)} for each in self.remedies],
                "source": self.source,
            }
        )

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Finding:
        """The finding that `to_dict` saved; edits that held code come back as advice."""
        from downslope.core.edits import Advice, code_of
        from downslope.core.edits import from_dict as edit_from_dict

        where = saved["where"]
        steps = where["steps"]

        def number(entry: Mapping[str, Any]) -> Evidence:
            nan = float("nan")
            values = {key: nan if entry[key] is None else entry[key] for key in ("value", "threshold")}
            return Evidence(**cast("dict[str, Any]", {**entry, **values}))

        return cls(
            symptom=saved["symptom"],
            title=saved["title"],
            severity=saved["severity"],
            where=Where(modules=tuple(where["modules"]), steps=(steps[0], steps[1]) if steps else None),
            evidence=number(saved["evidence"]),
            also=tuple(number(each) for each in saved["also"]),
            message=saved["message"],
            consequences=tuple(cls.from_dict(each) for each in saved["consequences"]),
            remedies=tuple(
                edit_from_dict(each) if code_of(each) is None else Advice(each["text"])
                for each in saved["remedies"]
            ),
            source=saved["source"],
        )
