"""Methods that step by curvature, or that have to look again: Newton and its heirs, conjugate gradients."""

from __future__ import annotations

from downslope.terrain.methods.method import Method, Step

__all__ = ["Method", "Step"]
