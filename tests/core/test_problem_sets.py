"""A standard set by its name, as the data of a problem."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.data import wine


def problem(**fields: object) -> Problem:
    return Problem(model="mlp", objective="cross_entropy", **fields)  # type: ignore[arg-type]


def test_a_name_stands_for_the_set_and_its_held_out_part() -> None:
    made, table = problem(train="wine"), wine()
    assert table.valid is not None
    assert torch.equal(made.train_source.batch[0], table.train[0])  # type: ignore[attr-defined]
    assert torch.equal(made.valid_source.batch[1], table.valid[1])  # type: ignore[union-attr]
    assert made.reading is not None
    assert made.reading["classes"] == ["class_0", "class_1", "class_2"]


def test_beside_other_validation_data_it_is_used_whole() -> None:
    table = wine()
    assert problem(train="wine", valid=table.valid).train_source.size == 178


def test_a_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wine").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="files ending in ''"):
        problem(train="wine")


def test_a_target_or_a_file_beside_it_is_refused() -> None:
    with pytest.raises(DataError, match="the set wine has its own"):
        problem(train="wine", target="x")
    with pytest.raises(DataError, match="no file is read as a standard set"):
        problem(train="wine", valid="held.csv")
