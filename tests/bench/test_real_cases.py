"""Real faults: every file has a thread, a cause and a twin, and is built without being run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench.diagnosis.real_cases import FOLDER, UNLISTED, real, roots, text
from downslope.diagnosis.symptom import registry

FILES = sorted(FOLDER.glob("*/*.py"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_names_thread_and_symptoms_and_differs_from_its_twin_by_a_line(path: Path):
    assert "http" in (ast.get_docstring(ast.parse(text(path, faulty=True))) or "")
    assert set(roots(path)) <= set(registry()) | {UNLISTED}
    ill, well = (text(path, faulty=faulty).splitlines() for faulty in (True, False))
    assert [(a, b) for a, b in zip(ill, well, strict=True) if a != b] == [("FAULTY = True", "FAULTY = False")]


def test_every_case_stands_beside_its_twin():
    cases = list(real())
    assert len(cases) == 2 * len(FILES)
    assert sum(each.kind in ("twin", "script twin") for each in cases) == len(FILES)


def test_a_file_without_the_line_is_refused(tmp_path: Path):
    path = tmp_path / "x.py"
    path.write_text('"""Root: plateau"""\n', encoding="utf-8")
    with pytest.raises(ValueError, match="FAULTY = True"):
        text(path, faulty=True)


def test_a_file_without_a_root_is_refused(tmp_path: Path):
    path = tmp_path / "x.py"
    path.write_text('"""A thread."""\nFAULTY = True\n', encoding="utf-8")
    with pytest.raises(ValueError, match="Root:"):
        roots(path)
