"""Every symptom has a page: its limits are the code's; what it runs brings the finding, its twin does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from downslope.core.finding import Evidence, Finding
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.symptom import registry
from downslope.reporting.cards import card
from scripts.symptoms import (
    CODE,
    END,
    FOLDER,
    LIMITS,
    TOLD,
    Limit,
    between,
    executed,
    front,
    limits,
    rendered,
)
from tests.docs.commands import DOCS, ROOT, anchors
from tests.docs.shown import difference

SYMPTOMS = list(registry())
PARTS = ("**What you see.", "**Why it happens.", "**How we know.", "**What to do,", "**What looks like it")
UNDER = {"cliff": "learning-rate-too-high"}
"""Pages whose fault another finding explains: the page says so."""
ROUGHLY = 0.25
"""Relative difference between a number on a page and here: a training that fails makes much of rounding."""


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def shown(name: str) -> str:
    """What a page says its code prints."""
    return TOLD.findall(page(name))[0][1]


def test_every_symptom_has_a_page_and_every_page_a_symptom() -> None:
    assert {each.stem for each in FOLDER.glob("*.md")} - {"README"} == set(SYMPTOMS)


@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_page_has_all_its_parts_a_picture_and_fits_on_two_screens(name: str) -> None:
    text = page(name)
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert text.count("\n") <= 72
    picture = DOCS / "pictures" / "symptoms" / f"{name}.svg"
    assert f"../pictures/symptoms/{name}.svg" in text
    assert 0 < picture.stat().st_size < 60_000


@pytest.mark.parametrize("name", SYMPTOMS)
def test_source_and_limits_of_a_page_are_those_of_the_code(name: str) -> None:
    assert page(name) == rendered(name, page(name)), "run `make docs`"


def test_the_front_page_names_all_symptoms_in_the_order_of_causes() -> None:
    text = page("README")
    assert text == front(text), "run `make docs`"
    assert re.findall(r"\(([a-z-]+)\.md\)", text.split("<!-- index")[1]) == SYMPTOMS


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_constants_that_a_page_speaks_of_are_constants_that_decide(name: str) -> None:
    known = {each for limit in limits(registry()[name]) for each in limit.name.split(", ")}
    prose = page(name).split("**How we know.**")[1].split(LIMITS)[0]
    assert set(re.findall(r"`([A-Z]{3,})`", prose)) <= known


@pytest.mark.parametrize("name", ["README", *SYMPTOMS])
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page(name)):
        path, _, anchor = link.partition("#")
        target: Path = (FOLDER / path).resolve()
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_code_of_a_page_brings_its_finding_about_and_the_twin_is_healthy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, told = executed(name)
    sick, well = made["sick"], made["well"]
    assert isinstance(sick, Diagnosis)
    assert sick.root is not None
    assert sick.root.symptom == UNDER.get(name, name)
    assert difference(shown(name), told, ROUGHLY) == "", f"run `python -m scripts.symptoms {name}`"
    assert not sick.healthy
    assert well.healthy
    assert name not in well.symptoms


def test_what_a_page_says_its_code_prints_begins_with_the_finding() -> None:
    for name in SYMPTOMS:
        lines = shown(name).splitlines()
        assert lines[0] == name
        assert lines[-1] == "twin healthy: True"


def test_limits_are_read_with_their_values_and_the_meaning_that_stands_under_them() -> None:
    found = limits(registry()["dead-units"])
    assert [each.name for each in found] == ["DEAD", "CERTAIN"]
    assert found[0] == Limit("DEAD", "0.6", found[0].meaning)
    assert "zero for a whole probed batch" in found[0].meaning


def test_limits_that_are_shared_are_read_where_they_are_written() -> None:
    names = {each.name: each.value for each in limits(registry()["summed-objective"])}
    assert names == {"SUM": "1.9"}  # written two modules away


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        between("text", LIMITS, "body")
    assert between(f"a\n{LIMITS}\nold\n{END}\nb", LIMITS, "new") == f"a\n{LIMITS}\nnew\n{END}\nb"
    assert CODE.findall("```python\nx = 1\n```\n") == ["x = 1\n"]


def test_the_report_names_the_page_of_a_finding() -> None:
    for name in SYMPTOMS:
        number = Evidence(name="n", value=1.0, threshold=2.0)
        shown = card(Finding(symptom=name, title="t", severity="warning", evidence=number), {})
        named = re.findall(r"<code>(docs/symptoms/[a-z-]+\.md)</code>", shown)
        assert named == [f"docs/symptoms/{name}.md"]
        assert (ROOT / named[0]).is_file()
