"""One scheme for paths in every picture: maps, players, GIFs and stills."""

from __future__ import annotations

COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#0072b2", "#e69f00", "#56b4e9", "#8f4fa8", "#b3123f")
"""Of ways, which stand out from the dark scale, from a pale ground and from one another (Okabe and Ito 2008,
and two more)."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
"""Of their lines, in plotly's words."""

STROKES = ("-", "--", ":", "-.", (0, (8, 3)), "-", "--", ":")
"""The same in matplotlib's."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "hexagon")
"""A sign of its own for each way, for those who cannot tell the colours apart; in plotly's words."""

SIGNS = ("o", "s", "D", "^", "P", "v", "*", "h")
"""The same in matplotlib's."""

POINTS = {"minimum": "star", "saddle": "x", "maximum": "triangle-up", "here": "circle", "end": "diamond"}
"""Of points on the ground, in plotly's words."""

POINT_SIGNS = {"minimum": "*", "saddle": "X", "maximum": "^", "here": "o", "end": "D"}
"""The same in matplotlib's."""

EDGE = "#15181d"
"""Around the points on the ground, which are white."""
