"""What an output can reach: a limit that two symptoms share."""

from __future__ import annotations

CLIPPED = 0.02
"""Share of the targets' variance out of the output's reach beyond which it matters: it is surely lost."""
