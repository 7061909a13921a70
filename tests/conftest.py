"""What every test shares: hypothesis repeats the same examples everywhere; a slow machine fails none."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("downslope", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("downslope")
