"""What an output can reach: limits that two symptoms share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLIPPED = 0.02
"""Share of the targets' variance out of the output's reach beyond which it matters: it is surely lost."""

HOPELESS = 1.0
"""The same where no training helps: the best constant loses the variance itself, and need not be in reach."""

LARGE = 5.0
"""Root mean square of the targets beyond which they count as unscaled: an untrained output is far below."""

_NARROW = ("sigmoid", "hardsigmoid", "softmax", "tanh", "hardtanh")


def squashed(output: Mapping[str, Any]) -> str:
    """The activation that holds scores in a narrow range, so that no model of any size brings the loss near
    its floor; "" where none does.

    Args:
        output: What is known of the output (``facts["output"]``).
    """
    held = output.get("activation") in _NARROW and output.get("expects") in ("logits", "logit", "sign")
    return str(output["activation"]) if held else ""
