"""Sites to escape from: functions as finite sums, and models on data."""

from __future__ import annotations

from downslope.terrain.escapes.sites.given import Where, site_of
from downslope.terrain.escapes.sites.learnt import learnt
from downslope.terrain.escapes.sites.site import Site
from downslope.terrain.escapes.sites.tilted import tilted

__all__ = ["Site", "Where", "learnt", "site_of", "tilted"]
