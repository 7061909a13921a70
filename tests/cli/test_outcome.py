"""What can be written is found out before the work, and leaves no trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from downslope.cli.outcome import check_writable
from downslope.core.errors import InputError


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    there, link = tmp_path / "there.html", tmp_path / "link.html"
    there.write_text("old")
    os.utime(there, (1, 1))
    link.symlink_to(tmp_path / "nowhere.html")
    check_writable(there, link, tmp_path / "deep" / "new.html", Path(os.devnull), None)
    assert (there.read_text(), there.stat().st_mtime) == ("old", 1)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["deep", "link.html", "there.html"]


@pytest.mark.parametrize(
    ("path", "said"),
    [(".", "is a folder"), ("file/x.html", "cannot be written"), ("x" * 300, "cannot be written: File name")],
)
def test_what_cannot_be_written_is_refused(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(InputError, match=said):
        check_writable(Path(path))
