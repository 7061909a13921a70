"""What follows from what: root causes in causal order, each with its consequences. Pure.

What is given (data, code, the start) follows from no step and no terrain; with its own remedy in hand it is a
cause of its own, and where the root's remedy alone repairs the run it is only worth knowing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from downslope.core.finding import SEVERITIES, Finding
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import CERTAIN, MATERIAL, gain, trial_of
from downslope.diagnosis.rates import unguessed
from downslope.diagnosis.structure import severed, structural
from downslope.diagnosis.symptom import GIVEN, GROUPS, Symptom, rank_of

NEARLY = 0.8
"""An earlier cause stays the root while its remedy recovers this share of what the best one recovers."""

SHORTER = 0.5
"""The same where its trial was the shorter one: what comes further in more steps is no better for that; and
where, beside a run that stands, its trial was the longer one and came further by what it reached."""

_BEFORE_SCALES = (GROUPS.index("data"), 0.5)
"""Place of a fault that is certain by the code, in the causal order: behind data that is not finite only."""

_BEFORE_START = (GROUPS.index("model"), 1.5)
"""Place of parameters that no gradient reaches: before the scale at which they start."""


def arrange(findings: list[Finding], run: Run, known: Mapping[str, Symptom]) -> list[Finding]:
    """Root causes in causal order, each with its consequences; what is only worth knowing comes last."""
    serious = [each for each in findings if each.severity != "info"]
    roots: list[Finding] = []
    minor: list[Finding] = []
    for each in _causes_first(serious, run, known):
        cause = next((i for i, root in enumerate(roots) if _explains(root, each, run, known)), None)
        if cause is None:
            roots.append(each)
        elif _follows(roots[cause], each, known):
            roots[cause] = _under(roots[cause], each)
        elif _repairs(roots[cause], each, run, known):
            minor.append(replace(each, severity="info"))
        else:
            roots.append(each)
    for each in findings:
        if each.severity != "info":
            continue
        cause = next((i for i, root in enumerate(roots) if _declared(root, each, known)), None)
        if cause is None:
            minor.append(each)
        else:
            roots[cause] = _under(roots[cause], each)
    return [*roots, *minor]


def _under(root: Finding, effect: Finding) -> Finding:
    told = replace(effect, remedies=(), message=unguessed(effect.message))
    return replace(root, consequences=(*root.consequences, told))


def _causes_first(findings: list[Finding], run: Run, known: Mapping[str, Symptom]) -> list[Finding]:
    """Causal order, except that a cause whose remedy hardly helps does not stand before one that does."""
    trials = {f.symptom: t for f in findings if (t := trial_of(run, f.symptom)) is not None}
    certain, standing, cut = structural(run), progress(run).standing, severed(run)

    def weak(finding: Finding) -> bool:
        # A destroyed signal is no matter of training: what a remedy wins back, it wins back in spite of it.
        untrainable = known[finding.symptom].order[0] == "data" and not any(
            e.provable for e in finding.remedies[:1]
        )
        destroyed = untrainable and finding.severity == "critical"
        if finding.symptom not in trials:
            # What could not be tried stands back where a trial has found the answer.
            beyond_doubt = destroyed or finding.symptom in ("non-finite-data", "output-activation")
            passed = "init-scale" if cut and finding.symptom == "frozen-parameters" else None
            others = [gain(each) for name, each in trials.items() if name != passed]
            return max(others, default=0.0) >= CERTAIN and not beyond_doubt
        own = trials[finding.symptom]
        return any(
            gain(own) < (SHORTER if _shorter(own, other) or ahead(own, other) else NEARLY) * gain(other)
            for name, other in trials.items()
            if not (finding.symptom == "symmetric-init" and _later(known[name]))
        )

    def ahead(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        # Shares of trials of unlike length are taken beside unlike controls; what was reached is what it is.
        return standing and _shorter(other, own) and _beyond(own, other, run)

    def key(finding: Finding) -> tuple[bool, int, tuple[int, float]]:
        behind = weak(finding)
        place = _BEFORE_SCALES if finding.symptom in certain else rank_of(finding)
        if cut and finding.symptom == "frozen-parameters":
            place = min(place, _BEFORE_START)
        return behind, -SEVERITIES.index(finding.severity) if behind else 0, place

    return sorted(findings, key=key)


def _shorter(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = own.get("steps"), other.get("steps")
    return isinstance(mine, int) and isinstance(theirs, int) and mine < theirs


def _beyond(own: Mapping[str, Any], other: Mapping[str, Any], run: Run) -> bool:
    """Whether `own` came further than `other` by the loss, and on held-out data where both have any."""
    key = "valid_metric" if own.get("valid_metric") is not None else "valid_loss"
    pairs = [("loss", run.maximize), (key, run.metric_up if key == "valid_metric" else run.maximize)]
    known = [(own[k], other[k], up) for k, up in pairs if None not in (own.get(k), other.get(k))]
    return bool(known) and all(a > b if up else a < b for a, b, up in known)


def _later(other: Symptom) -> bool:
    """Whether `other` comes after all that is given at the start.

    Units that are alike are a single one, under any rate and on any terrain: what wins back more beside it
    does so with that one.
    """
    return GROUPS.index(other.order[0]) >= GROUPS.index("step")


def _explains(cause: Finding, effect: Finding, run: Run, known: Mapping[str, Symptom]) -> bool:
    """Whether `cause` accounts for `effect`: a declared relation, and the order of time or of proof.

    With a trial of each, the cause's remedy must recover as much as the effect's own.
    """
    if known[cause.symptom].can_explain(known[effect.symptom]):
        begins, shows = cause.where.steps, effect.where.steps
        return begins is None or shows is None or begins[0] <= shows[0]
    first, second = trial_of(run, cause.symptom), trial_of(run, effect.symptom)
    return first is not None and second is not None and gain(first) >= NEARLY * gain(second)


def _declared(cause: Finding, effect: Finding, known: Mapping[str, Symptom]) -> bool:
    return known[cause.symptom].can_explain(known[effect.symptom]) and _follows(cause, effect, known)


def _follows(cause: Finding, effect: Finding, known: Mapping[str, Symptom]) -> bool:
    """Whether `effect` may stand as a consequence under `cause`, which accounts for it."""
    first, second = known[cause.symptom], known[effect.symptom]
    given = second.id in GIVEN or second.order[0] in ("data", "output")
    if given and second.rank < first.rank:
        return False
    if second.id in first.explains:
        return True
    if second.id in GIVEN:
        return False
    if first.can_explain(second):
        return True
    return not given and rank_of(cause) <= rank_of(effect)


def _repairs(cause: Finding, effect: Finding, run: Run, known: Mapping[str, Symptom]) -> bool:
    """Whether the remedy of `cause` leaves nothing to win for that of `effect`, as far as is known."""
    first, second = trial_of(run, cause.symptom), trial_of(run, effect.symptom)
    if first is not None and gain(first) >= CERTAIN:
        return True
    if known[cause.symptom].can_explain(known[effect.symptom]):
        return second is None or gain(second) < MATERIAL
    return False
