"""Matrices that stand at zero from the first step to the last: factors of one another, both begun there.

The gradient of each factor of a product is a multiple of the other. Where both are zero, so are both
gradients, exactly and for good, whatever lies between them and whether or not it can be read off the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core.run import Run

FEWEST = 2
"""Such matrices from which it is told: a single one that is zero moves with the first step."""

LOOKS = 3
"""Sampled steps in each of which the gradient of every one of them has to be exactly zero. Convention."""


class Zeroed:
    """The matrices of a script that are zero before the first step.

    Args:
        tensors: Name to parameter, each in a module of its own: ``v_in.weight``.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self._held = {
                name.rpartition(".")[0]: each
                for name, each in tensors.items()
                if each.dim() > 1 and not bool(each.any())
            }

    def measured(self, run: Run) -> list[dict[str, Any]]:
        """Those that are zero still and never had a gradient, as `measure.matrices` lists them; or none."""
        norms = run.probes.get("grad_norm")
        if norms is None:
            return []
        found: list[dict[str, Any]] = []
        with torch.no_grad():
            for name, each in self._held.items():
                seen = np.asarray(norms.of(name)) if name in norms.modules else np.empty(0)
                if bool(each.any()) or np.isfinite(seen).sum() < LOOKS or bool(np.nan_to_num(seen).any()):
                    continue
                found.append(_row(name, each.numel()))
        return found if len(found) >= FEWEST else []


def _row(name: str, count: int) -> dict[str, Any]:
    scale: dict[str, Any] = {"gain": 0.0, "most": 0.0, "lean": 0.0, "count": count}
    return scale | {
        "name": name, "module": "model", "recurrent": False, "bare": True, "alike": True, "trainable": True,
        "stuck": True,
    }  # fmt: skip
