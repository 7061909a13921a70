"""What an output can reach: limits that two symptoms share."""

from __future__ import annotations

CLIPPED = 0.02
"""Share of the targets' variance out of the output's reach beyond which it matters: it is surely lost."""

HOPELESS = 1.0
"""The same where no training helps: the best constant loses the variance itself, and need not be in reach."""

LARGE = 5.0
"""Root mean square of the targets beyond which they count as unscaled: an untrained output is far below."""
