"""What the model itself can say: its training loss when a second-order method has taken it down.

L-BFGS with a line search does not care for the learning rate, and little for the condition of the terrain;
what it leaves is mostly what the model cannot express.
"""

from __future__ import annotations

import copy
import math
import time
from typing import Any

from torch import Tensor

from downslope.core import randomness
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.optim.ops import LBFGS

EXAMPLES = 1024
"""Examples that are fitted."""

WIDEST = 300_000
"""Parameters beyond which the method's memory and time are too much for a diagnosis."""

_ROUNDS, _ITERATIONS, _SECONDS = 8, 25, 3.0


def measure(run: Run, problem: Problem) -> dict[str, Any] | None:
    """The objective on a sample after L-BFGS from the run's last weights, in eval mode.

    Returns:
        ``loss`` (user's units), ``steps`` (evaluations), or None for a model that is too large.
    """
    model = copy.deepcopy(run.model("last")).eval()
    params = [p for p in model.parameters() if p.requires_grad]
    if sum(p.numel() for p in params) > WIDEST:
        return None
    batch = sample(problem.train_source, EXAMPLES, precision(model))
    objective = Objective(problem)
    rule = LBFGS(params, max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")
    best, count, ends = math.inf, 0, time.monotonic() + _SECONDS

    def closure() -> Tensor:
        nonlocal best, count
        rule.zero_grad()
        with randomness.seeded(0, "probe", 0):
            loss = objective(model, batch).value
            loss.backward()
        count += 1
        now = float(loss.detach())
        best = min(best, now) if math.isfinite(now) else best
        return loss.detach()

    for _ in range(_ROUNDS):
        before = best
        rule.step(closure)  # pyright: ignore[reportArgumentType] (torch's own stub asks for a float)
        if not before - best > 1e-4 * abs(best) or time.monotonic() > ends:
            break
    return {"loss": objective.sign * best, "steps": count} if math.isfinite(best) else None
