"""Which losses of a watched script are heard: those of the first steps, then some, told by counting alone."""

from __future__ import annotations

from downslope.diagnosis.role import Role

ALL = 200
"""Steps of an optimizer of which every loss is heard."""

ALL_SORTED = 2000
"""The same where the targets come sorted; some 50 ms in all."""

ROUND, APART = 25, 6
"""After that one loss in `APART` is heard, from a new place in every `ROUND`: of optimizers that take turns
and of an epoch that is as long as any number each part is heard. Which these are the count of the steps says
alone, and no clock: the verdict is that of the script, however busy the machine is."""

SLOW = 2.0
"""Milliseconds of a step, by the rule of `Pace`, from which all losses are heard: one costs some 10 us."""


def due(role: Role, steps: int) -> bool:
    """Whether the loss of the next step is to be heard.

    Args:
        role: The optimizer that has taken the latest step.
        steps: Steps of all optimizers.
    """
    track = role.track
    if track.step < ALL or track.armed or track.pace.milliseconds >= SLOW:
        return True
    place = steps % ROUND % APART
    # In sorted data what counts is a batch after the one before it: more are heard, then two of them.
    return not place or (role.served.sorted and (place == 1 or track.step < ALL_SORTED))
