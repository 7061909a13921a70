"""What can be computed of how the page looks: contrast, colours told apart, nothing wider than the page."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from downslope.core import edits
from downslope.reporting.layers import _ONE_END, _TWO_ENDS, over
from downslope.reporting.page import asset
from downslope.reporting.report import report
from tests.reporting.test_report import diagnosis_of, finding, repair_of, run_of

Floats = NDArray[np.float64]
CSS = asset("style.css")


def variables(theme: str) -> dict[str, str]:
    """The colours of a theme by their names, read from the style sheet itself."""
    blocks = re.findall(r"^:root(\[data-theme=\"dark\"\])? \{(.*?)^\}", CSS, flags=re.DOTALL | re.MULTILINE)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+)", body)) for _, body in blocks[:2])
    return {**light, **(dark if theme == "dark" else {})}


def linear(code: str) -> Floats:
    full = "".join(2 * c for c in code[1:]) if len(code) == 4 else code[1:]
    srgb = np.array([int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, from 1 to 21."""
    high, low = sorted((float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (a, b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXTS = [
    *itertools.product(("ink", "muted"), ("ground", "card", "sunk")),
    *((f"{kind}", f"{kind}-soft") for kind in ("good", "warn", "bad", "accent")),
    *itertools.product(("ink",), ("good-soft", "warn-soft", "bad-soft")),
    *itertools.product(("muted",), ("good-soft",)),
    *itertools.product(("good", "bad", "accent"), ("card",)),
    *itertools.product(("good", "bad"), ("sunk",)),
]


def test_the_measure_of_contrast_agrees_with_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)  # the known example just below 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_text_is_read_on_what_it_stands_on(theme: str, text: str, ground: str) -> None:
    colours = variables(theme)
    assert contrast(colours[text], colours[ground]) >= 4.5


def test_both_ways_to_the_dark_theme_have_the_same_colours() -> None:
    system = re.search(r":not\(\[data-theme=\"light\"\]\) \{(.*?)\}", CSS, flags=re.DOTALL)
    chosen = re.search(r"^:root\[data-theme=\"dark\"\] \{(.*?)\}", CSS, flags=re.DOTALL | re.MULTILINE)
    assert system
    assert chosen
    assert system[1].split() == chosen[1].split()


@pytest.mark.parametrize("colours", [_ONE_END, _TWO_ENDS])
def test_the_numbers_in_a_heat_map_are_read_on_every_colour(colours: list[list[float | str]]) -> None:
    places = [float(place) for place, _ in colours]
    for share in np.linspace(0, 1, 101):
        channels = [[int(str(code)[i : i + 2], 16) for _, code in colours] for i in (1, 3, 5)]
        cell = "#" + "".join(f"{round(np.interp(share, places, each)):02x}" for each in channels)
        assert contrast(over(colours, float(share)), cell) >= 4.5


CONFUSED = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
"""Machado, Oliveira and Fernandes 2009, table 1, severity 1, on linear RGB."""


def oklab(rgb: Floats) -> Floats:
    """Ottosson 2020."""
    to_cone = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.8086757660]]
    )  # fmt: skip
    return to_lab @ np.cbrt(to_cone @ rgb)


@pytest.mark.parametrize("sight", list(CONFUSED))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_of_layers_are_told_apart_by_every_sight(theme: str, sight: str) -> None:
    colours = variables(theme)
    seen = [oklab(np.clip(CONFUSED[sight] @ linear(colours[f"s{i}"]), 0, 1)) for i in range(1, 9)]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > 0.1  # five just noticeable differences of 0.02
    assert min(contrast(colours[f"s{i}"], colours["card"]) for i in range(1, 9)) >= 3


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<!doctype html><body style="margin:0">
<iframe id="f" style="width:400px;height:900px;border:0"></iframe>
<script>
const f = document.getElementById("f");
f.srcdoc = new TextDecoder().decode(Uint8Array.from(atob("PAGE"), (c) => c.charCodeAt(0)));
f.onload = () => setTimeout(() => {
  const d = f.contentDocument, scrolls = (e) => {
    for (let p = e.parentElement; p; p = p.parentElement)
      if (getComputedStyle(p).overflowX !== "visible") return true;
    return false;
  };
  d.querySelectorAll("details").forEach((e) => { e.open = true; });
  const wide = [...d.querySelectorAll("main *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width && box.right > 401 && !e.closest("svg") && !scrolls(e);
  }).map((e) => e.tagName + "." + e.className);
  const table = d.querySelector("table.stack").getBoundingClientRect();
  document.title = JSON.stringify({ page: d.documentElement.scrollWidth, wide, table: table.right,
    drawn: d.querySelectorAll(".plot svg").length > 0 });
  document.body.dataset.said = document.title;
}, 1500);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here to measure with")
def test_nothing_is_wider_than_a_page_of_400_pixels(tmp_path: Path) -> None:
    import base64
    import json

    repaired = repair_of(diagnosis_of(run_of(), finding("a_word_without_any_end_" * 8)))
    repaired.trials.append(replace(repaired.trials[0], edit=edits.Advice("the_name_of_a_long_argument_" * 3)))
    html = report(repaired).html
    page = tmp_path / "probe.html"
    page.write_text(PROBE.replace("PAGE", base64.b64encode(html.encode()).decode()), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,900", "--virtual-time-budget=10000",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    found = re.search(r'data-said="([^"]*)"', seen)
    if found is None:
        pytest.skip("the browser here does not run")
    said = json.loads(found[1].replace("&quot;", '"'))
    assert said["drawn"]
    assert said["wide"] == []
    assert said["page"] <= 400
    assert said["table"] <= 400
