"""Facts of data, output and objective, measured once; plain values for `run.facts`, one group a file.

`fit` records them at its start; a diagnosis measures them where a run has none. A measurement that fails
leaves its reason in ``facts["not_measured"]`` and never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from downslope.core.errors import DownslopeError
from downslope.core.run import Run


def record(run: Run, name: str, measure: Callable[[], Any]) -> Any:
    """Put what `measure` gives into ``run.facts[name]``, or its failure into ``facts["not_measured"]``.

    Returns:
        What was measured; None after a failure.
    """
    try:
        found = measure()
    except Exception as error:  # noqa: BLE001 (anybody's model and objective run in there)
        run.facts.setdefault("not_measured", {})[name] = one_line(error)
        return None
    if found is not None:
        run.facts[name] = found
    return found


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().splitlines()
    if text and isinstance(error, DownslopeError):  # its message is one line, meant for the user
        return text[0]
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
