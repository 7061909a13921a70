"""One measure for all trials: where the objective itself is searched, its values cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable

from downslope.core.errors import InputError
from downslope.core.loss import Objective
from downslope.core.problem import Problem

PENALTIES = tuple(f"objective.{kind}" for kind in ("l1", "l2", "elastic"))
"""What is reported is the risk, without them: trials that differ by their strength are judged alike."""


def judged_alike(problem: Problem, keys: Iterable[str]) -> Problem:
    """`problem` with a measure that no searched key changes.

    Without a metric a trial is judged by its loss on validation data. Of a search over label smoothing each
    trial would have a loss of its own, the least of which belongs to the least smoothing. So the objective as
    the problem has it, before the search changes it, becomes the metric.

    Args:
        problem: What is searched for.
        keys: What is searched.

    Raises:
        InputError: such an objective needs more than output and target, or gives no single number.
    """
    changing = [key for key in keys if key.partition(".")[0] == "objective" and key not in PENALTIES]
    if problem.metric is not None or not changing:
        return problem
    plain, own = problem.objective, Objective(problem)
    if plain is None or own.wants_inputs or own.wants_model or hasattr(plain, "tasks"):
        raise InputError(
            f"{changing[0]!r} is searched and the problem has no metric: each trial would be judged by an "
            "objective of its own; give it one, such as metric='accuracy'"
        )
    return problem.edit(metric=plain, metric_goal=problem.direction)
