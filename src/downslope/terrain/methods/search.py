"""The line search that a method's settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.terrain.methods.line_search import Line, Trial, backtracking, strong_wolfe
from downslope.terrain.methods.more_thuente import XTOL, more_thuente


def search(line: Line, settings: Mapping[str, Any], t: float, xtol: float = XTOL) -> Trial | None:
    """Go along `line` by the search of ``settings["line_search"]``, with its c1, c2 and max_eval.

    None takes the first trial as it is, be it above or below, unless it is not finite.

    Args:
        line: Falling at 0.
        settings: Of a method.
        t: First trial; 0 stays where it is.
        xtol: Relative width of the interval at which Moré and Thuente's search ends.

    Returns:
        The point, at which the ground stands; None where none was found, and the ground is back at 0.
    """
    if not t:
        return line.start
    if settings["line_search"] is None:
        trial = line.at(t)
        if not trial.finite:
            line.settle(line.start)
        return trial if trial.finite else None
    own = {key: settings[key] for key in ("c1", "c2", "max_eval") if key in settings}
    if settings["line_search"] == "armijo":
        return backtracking(line, t, **{key: value for key, value in own.items() if key != "c2"})
    if settings["line_search"] == "strong_wolfe":
        return strong_wolfe(line, t, **own)
    return more_thuente(line, t, **own, xtol=xtol)
