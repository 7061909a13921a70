"""The look at the output of `downslope.training.facts.output`, under the name by which `watch` calls it."""

from __future__ import annotations

from downslope.training.facts.output import clipped, described, last_node, measure, node_hook

__all__ = ["clipped", "described", "last_node", "measure", "node_hook"]
