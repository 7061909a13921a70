"""What a diagnosis cleared and could not judge, counted: each symptom with its number is in `cleared`,
`not_checked` and the report.
"""

from __future__ import annotations

from collections.abc import Sequence

from downslope.diagnosis.symptom import GROUPS, registry

MANY = 4
"""Symptoms not judged for one reason that are named; more are counted."""

SHORT = 80
"""Letters up to which the reasons are told in full: with what stands before them, a line of 100 columns."""

LATE = ("no time was left", "the time ended")
"""In every reason that a longer budget would do away with."""

_SPOKEN: dict[str, str] = {
    "data": "data", "output": "output and objective", "model": "model and start", "step": "step",
    "terrain": "terrain", "generalisation": "generalisation",
}  # fmt: skip

Pairs = Sequence[tuple[str, str]]
"""Symptom and number, or symptom and reason."""


def clear(cleared: Pairs, not_checked: Pairs, found: Sequence[str]) -> str:
    """How many symptoms of each group are clear, of those that were looked for; empty for none.

    Args:
        cleared: Symptoms that do not hold, and the number that says so.
        not_checked: Symptoms that could not be asked, and why.
        found: Symptoms that hold.
    """
    known, names = registry(), dict(cleared)
    groups: dict[str, list[bool]] = {}
    for name in (*names, *dict(not_checked), *found):
        group = known[name].order[0] if name in known else name
        groups.setdefault(group, []).append(name in names)
    order = [*GROUPS, *(each for each in groups if each not in GROUPS)]
    return ", ".join(
        f"{_SPOKEN.get(each, each)} {sum(groups[each])}/{len(groups[each])}"
        for each in order
        if any(groups.get(each, []))
    )


def unjudged(not_checked: Pairs) -> str:
    """The symptoms that could not be asked, by reason: counted where they are many, or need no answer."""
    reasons: dict[str, list[str]] = {}
    for name, why in not_checked:
        reasons.setdefault(why, []).append(name)
    return "; ".join(_said(names, why) for why, names in reasons.items())


def by_group(names: Sequence[str]) -> str:
    """Symptoms as "step 8, terrain 3"; by name where they are few."""
    if len(names) <= MANY:
        return ", ".join(names)
    known = registry()
    groups = [known[each].order[0] for each in names if each in known]
    return ", ".join(f"{_SPOKEN[each]} {groups.count(each)}" for each in GROUPS if each in groups)


def briefly(not_checked: Pairs, judged: int, more: str, *, watched: bool = False) -> str:
    """What could not be asked, in one line: in full where that is short, counted where it is not.

    Args:
        not_checked: Symptoms that could not be asked, and why.
        judged: How many could.
        more: Where the reasons stand, such as "--report and --json say why".
        watched: Whether the run is healthy, and was seen from outside: then it is said what that is about.
    """
    reasons = dict(not_checked)
    whole, spare = unjudged(not_checked), sum(why.startswith("not needed") for why in reasons.values())
    if watched and reasons:
        return f"{len(reasons)} could not be judged from outside, healthy is of the other {judged}; {more}"
    if len(whole) <= SHORT:
        return whole
    late = sum(any(each in why for each in LATE) for why in reasons.values())
    parts = [f"{len(reasons) - spare - late} not judged"] if len(reasons) > spare + late else []
    parts += [f"{late} not judged ({LATE[0]})"] if late else []
    parts += [f"{spare} not needed"] if spare else []
    return f"{', '.join(parts)}; {more}"


def _said(names: list[str], why: str) -> str:
    if why.startswith("not needed"):
        return f"{len(names)} {why}"
    return f"{', '.join(names) if len(names) <= MANY else len(names)} not judged ({why})"
