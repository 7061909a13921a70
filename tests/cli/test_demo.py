from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main
from tests.docs.commands import ROOT
from tests.docs.shown import difference


def test_the_demo_fails_is_repaired_and_its_twin_is_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    assert main(["demo", "--quiet"]) == guard.DONE
    out, err = capsys.readouterr()
    assert err == ""
    drawn = (ROOT / "docs" / "pictures" / "demo.svg").read_text(encoding="utf-8")
    shown = html.unescape(" ".join(re.findall(r"<text [^>]*>([^<]*)</text>", drawn))).replace("\xa0", " ")
    twins = (each.partition("The healthy twin:")[2] for each in (shown, out))  # no two processors fail alike
    assert difference(*twins, near=1.0) == "", "python -m scripts.pictures demo"
    rows = out.splitlines()
    assert any(row.startswith("cause   unscaled-inputs [critical]") for row in rows)
    assert any(row.endswith("KEPT") for row in rows)
    result = next(row for row in rows if row.startswith("result  valid accuracy")).split()
    assert float(result[3]) < 0.6
    assert float(result[5]) > 0.95
    assert result[-1] == "runs/demo/report.html"
    assert rows[-1] == "healthy, nothing to fix"
    assert sorted(each.name for each in Path("runs/demo").iterdir() if each.is_file()) == [
        "digits_mlp.py",
        "fixed.toml",
        "fixed_changes.py",
        "report.html",
    ]
    follow = next(row for row in rows if row.startswith("next")).split()
    assert main([*follow[2:], "--quiet", "--folder", "again"]) == guard.DONE
    assert f"valid accuracy {result[5]}" in capsys.readouterr().out
