"""How far above a constant guess chance alone may take the best epoch's score on held-out data."""

from __future__ import annotations

import math

from downslope.core.run import Run
from downslope.diagnosis.progress import LEAST, SHARES, bottom, table

SURE = 3.0
"""Standard errors beyond a guess from which a score is no chance, though it is the best of many epochs:
of twenty scores of guesses one in forty is. Convention."""


def chance(run: Run, key: str) -> float:
    """What has to be exceeded, in units of the score; 0 where its error is not known.

    Args:
        run: Finished, with the facts ``constant`` and ``ending``.
        key: "metric" or "loss".
    """
    ending, base = table(run, "ending"), table(run, "constant").get(f"valid_{key}")
    count = ending.get("valid_n")
    if base is None or not math.isfinite(base):
        return 0.0
    if key == "loss":  # of a run far above a guess the error says nothing of the guess
        floor, error = bottom(run), ending.get("valid_stderr")
        known = [SURE * float(error)] if error is not None else []
        return 0.0 if floor is None else min([LEAST * abs(base - floor), *known])
    if not count or run.metric_name not in SHARES:
        return 0.0
    p = min(max(float(base), 0.5 / count), 1 - 0.5 / count)
    return SURE * math.sqrt(p * (1 - p) / count)
