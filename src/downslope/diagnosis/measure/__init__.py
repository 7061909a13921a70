"""Measurements that a diagnosis makes around a run, beside the facts that `downslope.training` records."""

from __future__ import annotations

from downslope.training.facts import constant, data, one_line, output, record

__all__ = ["constant", "data", "one_line", "output", "record"]
