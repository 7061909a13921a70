"""A problem made of a file: what had to be guessed about the file is a warning, said once."""

from __future__ import annotations

from pathlib import Path

import pytest

import downslope as ds


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


def made(path: Path, target: str | None) -> ds.Problem:
    return ds.Problem(model="mlp", objective="cross_entropy", train=path, target=target,
                      arguments={"outputs": 2})  # fmt: skip


def test_a_file_without_a_header_row_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("".join(f"{i % 7},{i / 3},{i % 2}\n" for i in range(60)), encoding="utf-8")
    problem = made(path, "column3")
    problem.edit(goal=0.9)
    assert warned(caplog) == ["bare.csv: no header found: columns are named column1 to column3"]


def test_a_row_of_numbers_taken_for_the_header_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("5,0.25,1\n" + "".join(f"{i % 7},{i / 3},{i % 2}\n" for i in range(60)), encoding="utf-8")
    made(path, "1")
    assert len(warned(caplog)) == 1
    assert "taken as the header" in warned(caplog)[0]


def test_a_target_that_nobody_named_is_warned_of_and_a_plain_file_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("a,b,y\n" + "".join(f"{i % 7},{i / 3},{i % 2}\n" for i in range(60)), encoding="utf-8")
    made(path, "y")
    assert warned(caplog) == []
    made(path, None)
    assert warned(caplog) == ["plain.csv: no target named: the last column, 'y', is taken"]
