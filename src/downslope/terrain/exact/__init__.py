"""Exact solutions of convex problems, each with the proof that it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.exact.solution import Certificate, Solution
    from downslope.terrain.exact.solve import solve

__all__ = ["Certificate", "Solution", "solve"]

lazily(
    __name__,
    {
        "solution": "Certificate Solution",
        "solve": "solve",
    },
)
