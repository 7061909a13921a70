"""The page itself: styles and scripts inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Sequence
from functools import cache
from importlib import resources

from downslope import __version__
from downslope.core.run import Run
from downslope.reporting.markup import Section, text

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The browser itself refuses to load anything for this page."""

_MARK = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" '
    'stroke-linejoin="round" aria-hidden="true"><path d="M2 5c7 0 6 13 13 13h7"/>'
    '<circle cx="15.5" cy="14" r="2.2" fill="currentColor" stroke="none"/></svg>'
)
_HALF = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="9" fill="none" '
    'stroke="currentColor" stroke-width="2"/><path d="M12 3a9 9 0 0 1 0 18Z" fill="currentColor"/></svg>'
)


def page(title: str, head: str, sections: Sequence[Section], run: Run) -> str:
    """The whole page.

    Args:
        title: Of the window, plain text.
        head: HTML above the sections.
        sections: In the order of the page.
        run: Whose versions stand at the bottom.
    """
    links = "".join(f'<a href="#{each.id}">{text(each.short)}</a>' for each in _linked(sections))
    body = "".join(each.html() for each in sections)
    version = run.environment.get("torch")
    day = time.strftime("%Y-%m-%d %H:%M")
    made = f"Downslope {__version__}" + (f", torch {version}" if version else "")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{text(title)} · Downslope</title>
<script>{asset("theme.js")}</script>
<style>{asset("style.css")}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<div class="bar"><div><span class="brand">{_MARK}Downslope</span>
<nav aria-label="Sections">{links}</nav>
<button type="button" class="round" id="theme" aria-label="Switch the theme">{_HALF}</button></div></div>
<main id="content">{head}
<noscript><p class="empty">Pictures need JavaScript; their content stands in words below each.</p></noscript>
{body}
</main>
<footer>Made by {text(made)} on {day}. This file holds all it needs; nothing is loaded.</footer>
<script type="application/octet-stream" id="plotly">{plotly()}</script>
<script>{asset("page.js")}</script>
</body>
</html>
"""


def _linked(sections: Sequence[Section]) -> list[Section]:
    seen: dict[str, Section] = {}
    for each in sections:
        if each.short:
            seen.setdefault(each.short, each)
    return list(seen.values())


@cache
def asset(name: str) -> str:
    """A style or script of ours."""
    return (resources.files("downslope.reporting") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """The drawing library, once a page: gzip in base64, a third of its size; the page unpacks it."""
    whole = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(whole, 9, mtime=0)).decode("ascii")
