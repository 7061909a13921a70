"""What went wrong in a search: failures by their common cause, and where it diverged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from downslope.tuning.trial import Trial

FEW = 8
"""Trials that must have failed, with none that did not, before a search gives up."""

ALIKE = 0.95
"""Probability that a diverged trial has the larger value than one that did not, from which a key is named."""


@dataclass(frozen=True)
class Failure:
    """One cause and the trials that it ended."""

    cause: str
    """As the first of them said it."""
    trials: tuple[int, ...]

    def __str__(self) -> str:
        some = ", ".join(map(str, self.trials[:5])) + (", ..." if len(self.trials) > 5 else "")
        return f"{self.cause} (trial{'s' * (len(self.trials) > 1)} {some})"


def failures(trials: Sequence[Trial]) -> tuple[Failure, ...]:
    """The failed trials by cause, the commonest first; numbers do not make two causes of one."""
    found: dict[str, list[Trial]] = {}
    for each in trials:
        if each.state == "failed":
            found.setdefault(re.sub(r"[0-9][0-9.e+-]*", "#", each.cause or ""), []).append(each)
    groups = sorted(found.values(), key=len, reverse=True)
    return tuple(Failure(each[0].cause or "no cause", tuple(t.number for t in each)) for each in groups)


def hopeless(trials: Sequence[Trial]) -> str | None:
    """Why a search should end here: everything so far has failed; None while something has not."""
    ended = [each for each in trials if each.state in ("done", "pruned", "failed")]
    if len(ended) < FEW or any(each.state != "failed" for each in ended):
        return None
    first = failures(trials)[0]
    same = "all" if len(first.trials) == len(ended) else f"{len(first.trials)}"
    return f"all {len(ended)} trials failed, {same} of them: {first.cause}"


def diverged(trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose training left the finite numbers."""
    return [each for each in trials if each.attrs.get("diverged")]


def where_diverged(trials: Sequence[Trial]) -> str | None:
    """The key that tells the diverged trials from the others, and from where on: ``"lr from 0.03 up"``.

    That of the highest probability that a diverged trial has the larger value (or the smaller) than one that
    did not diverge, if that is `ALIKE` or more; None where there is none.
    """
    bad = diverged(trials)
    good = [each for each in trials if each.state in ("done", "pruned") and not each.attrs.get("diverged")]
    best: tuple[float, str] | None = None
    for key in dict.fromkeys(key for each in bad for key in each.values):
        a, b = _numbers(bad, key), _numbers(good, key)
        if len(a) < len(bad) or len(a) < 2 or len(b) < 2:
            continue
        above = sum((x > y) + 0.5 * (x == y) for x in a for y in b) / (len(a) * len(b))
        told = f"{key} from {min(a):.3g} up" if above >= 0.5 else f"{key} from {max(a):.3g} down"
        if max(above, 1 - above) >= ALIKE and (best is None or max(above, 1 - above) > best[0]):
            best = max(above, 1 - above), told
    return None if best is None else best[1]


def _numbers(trials: Sequence[Trial], key: str) -> list[float]:
    values = [each.values.get(key) for each in trials]
    return [float(each) for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]
