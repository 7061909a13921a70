"""A race read from its folder is the race that was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core.errors import RunFolderError


class Plain(torch.optim.SGD):
    """Somebody's own optimizer."""


def _problem() -> ds.Problem:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (x[:, 0] > 0).long()
    return ds.Problem(
        model=lambda: torch.nn.Linear(3, 2).double(), objective="cross_entropy", train=(x[:24], y[:24]),
        valid=(x[24:], y[24:]), metric="accuracy", name="line",
    )  # fmt: skip


def test_a_race_is_read_again_as_it_was(tmp_path: Path) -> None:
    common = ds.Recipe(batch_size=8, epochs=2)
    who: dict[str, Any] = {"sgd": "sgd", "own": ds.Recipe(optimizer=Plain, lr=0.1, batch_size=8, epochs=2)}
    space = {"lr": ds.log(1e-3, 1)}
    found = ds.race(
        _problem(), who, recipe=common, seeds=3, trials=3, space=space, folder=tmp_path, progress=False
    )
    again = ds.load_race(tmp_path)
    assert json.dumps(again.to_dict(), default=str) == json.dumps(found.to_dict(), default=str)
    same = [line for line in found.table().splitlines() if not line.startswith("  it took")]
    assert [line for line in again.table().splitlines() if not line.startswith("  it took")] == same
    assert [one.values for one in again.entry("sgd").tuning] == [
        one.values for one in found.entry("sgd").tuning
    ]


def test_what_is_no_race_or_was_killed_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no race there"):
        ds.load_race(tmp_path)
    options: dict[str, Any] = {"seeds": 2, "trials": 0, "folder": tmp_path, "progress": False}
    ds.race(_problem(), ["sgd", "adam"], recipe=ds.Recipe(batch_size=8, epochs=1), **options)
    file = tmp_path / "race.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"end"' not in line))
    with pytest.raises(RunFolderError, match=r"no end yet; downslope resume"):
        ds.load_race(tmp_path)
