"""Healthy runs with odd choices that work."""

from __future__ import annotations

from collections.abc import Callable

from bench.diagnosis.fault import Setup

ODD: dict[str, Callable[[int], Setup]] = {}
"""Name to what makes the run; the number draws data split and run."""
