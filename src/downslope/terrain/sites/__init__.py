"""Sites to escape from: functions as finite sums, and models on data."""

from __future__ import annotations

from downslope.terrain.sites.given import Where, site_of
from downslope.terrain.sites.learnt import learnt
from downslope.terrain.sites.site import Site
from downslope.terrain.sites.tilted import tilted

__all__ = ["Site", "Where", "learnt", "site_of", "tilted"]
