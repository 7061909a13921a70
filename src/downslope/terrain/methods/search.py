"""The line search that a method's settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.line_search import Line, Trial, backtracking, strong_wolfe
from downslope.terrain.methods.more_thuente import XTOL, more_thuente
from downslope.terrain.methods.step import Here


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


class Sought(NamedTuple):
    """What a search found."""

    line: Line
    """Searched last."""
    trial: Trial | None
    """None where no point below was found."""
    looks: int
    anew: bool = False
    """Whether the line is that of the gradient, as the direction that was asked for has failed."""


def seek(
    ground: Ground,
    here: Here,
    direction: Tensor,
    settings: Mapping[str, Any],
    t: float,
    *,
    anew: bool = False,
    xtol: float = XTOL,
) -> Sought:
    """Search from `here` along `direction`, as `search` does.

    Args:
        ground: To look at.
        here: Where the line begins.
        direction: Of the line, falling.
        settings: Of a method, with its `lr`.
        t: First trial.
        anew: Whether to follow the gradient, from ``lr / |g|``, where nothing was found.
        xtol: As of `search`.
    """
    line = Line(ground, here.x, direction, here.value, here.gradient)
    found = Sought(line, search(line, settings, t, xtol), line.evaluations)
    if found.trial is not None or not anew:
        return found
    again = seek(ground, here, -here.gradient, settings, settings["lr"] / length(here.gradient), xtol=xtol)
    return again._replace(looks=found.looks + again.looks, anew=True)
