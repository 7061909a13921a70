from __future__ import annotations

import io
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from downslope.cli.main import main
from downslope.core.errors import UnknownNameError
from downslope.diagnosis.symptom import registry
from downslope.reporting import concepts


def shown(what: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=sys.stderr)
    console.print(what)
    return console.export_text()


def test_a_concept_is_found_by_name_by_number_and_by_other_words() -> None:
    by_name = concepts.find("adaptive-rates")
    assert by_name.id == 19
    for spelling in ("19", 19, "adam", "Adam", "AdaGrad", "bias correction", "bias_correction"):
        assert concepts.find(spelling) is by_name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nesterof", "did you mean 'nesterov'"),
        ("zzzz", "`downslope concepts` lists them"),
        ("nosuch", "`downslope concepts` lists them"),
        ("39", "numbered from 1 to 38"),
        ("0", "numbered from 1 to 38"),
        ("", "lists them"),
    ],
)
def test_an_unknown_concept_is_one_line_that_helps(given: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said) as raised:
        concepts.find(given)
    assert "\n" not in str(raised.value)


def test_a_list_shows_each_concept_once() -> None:
    lines = shown(concepts.render_list()).splitlines()
    for concept in concepts.load():
        assert sum(re.search(rf"[●◐○] +{concept.name} ", line) is not None for line in lines) == 1


@pytest.mark.parametrize("name", [concept.name for concept in concepts.load()])
def test_a_concept_is_shown_with_formula_and_symbols(name: str) -> None:
    concept = concepts.find(name)
    text = " ".join(shown(concepts.render(concept), width=400).split())
    assert concept.title in text
    assert concept.text in text
    for symbol, meaning in concept.symbols.items():
        assert f"{symbol} {meaning}" in text
    assert ("not built yet" in text) == (not concept.built)


def test_square_brackets_are_not_taken_for_markup() -> None:
    assert 'run.summary["train_loss"]' in shown(concepts.render(concepts.find("empirical-risk")))


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_symptom_is_found_by_its_id_and_leads_to_its_page(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["concepts", name]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"docs/symptoms/{name}.md" in text
    assert (Path(__file__).resolve().parents[2] / "docs" / "symptoms" / f"{name}.md").is_file()
    assert registry()[name].title in text


def test_a_symptom_that_is_diagnosed_is_not_called_unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert concepts.find("saddle-point") is concepts.find("saddle-points")
    unbuilt = replace(concepts.find("saddle-points"), status="not built yet", command="")
    assert "its lesson is not built yet; its symptom is below" in shown(concepts.render(unbuilt))
    monkeypatch.setattr(concepts, "_rows", lambda: (unbuilt,))
    assert re.search(r"◐ +saddle-points ", shown(concepts.render_list()))


def test_concepts_load_no_torch() -> None:
    code = (
        "import sys; from downslope.reporting import concepts; concepts.page(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_is_written_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert concepts._write([str(tmp_path / "page.md")]) == 0
    assert concepts._write([]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == capsys.readouterr().out == concepts.page()


def test_an_installed_wheel_holds_the_rows() -> None:
    project = tomllib.loads(
        (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    )
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"docs/concepts.toml": "downslope/concepts.toml"}
    beside = Path(concepts.__file__).resolve().parents[1] / "concepts.toml"
    assert not beside.exists(), "a second copy would hide docs/concepts.toml"


def test_a_command_is_not_broken_however_narrow_the_terminal_is() -> None:
    concept = concepts.find("gradient-descent")
    console = Console(width=40, file=io.StringIO())
    console.print(concepts.render(concept), crop=False)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, concept.command.splitlines())) > 40
    assert all(line in told for line in concept.command.splitlines())


def test_every_place_that_a_concept_points_to_is_there_from_the_root() -> None:
    root = Path(__file__).resolve().parents[2]
    text = shown(concepts.render(concepts.find("mini-batch")), width=300)
    places = dict(re.findall(r"^(picture|test|guide) +(\S+)", text, flags=re.MULTILINE))
    assert set(places) == {"picture", "test", "guide"}
    for place in places.values():
        assert (root / re.split(r"#|::", place)[0]).is_file(), place
