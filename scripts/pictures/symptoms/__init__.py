"""Pictures of docs/symptoms: each from the two runs that the code of its page makes, the fault and its twin.

Left what a user sees, the curves of both; right what the criterion reads, with its limit.
"""

from __future__ import annotations

from scripts.pictures.symptoms.drawn import draw, names

__all__ = ["draw", "names"]
