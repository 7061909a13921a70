"""Why the layers of a model say nothing, where no layer was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run


def no_layer(run: Run) -> str:
    """The reason in words: a model without weights, or one that holds them itself.

    Args:
        run: Its fact ``modules`` names what holds parameters.
    """
    modules: Mapping[str, Mapping[str, Any]] = run.facts.get("modules") or {}
    bare = [str(row["type"]) for row in modules.values() if row.get("parameters") and not row.get("norm")]
    if not bare:
        return "the model has no layer with a matrix of weights"
    whose = " and ".join(dict.fromkeys(bare[:2]))
    return (
        f"the weights belong to {whose} itself, to no layer of torch.nn: what goes through each was not seen"
    )
