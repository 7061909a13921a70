"""Widened spaces: the same rule and the same number of trials for all, found again after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import downslope as ds
from downslope.racing.race import race
from downslope.racing.spaces import stages


def problem() -> ds.Problem:
    """A parabola whose best rate, 0.5, lies far beyond the range that is searched."""
    x = torch.eye(4).double()
    y = torch.arange(4.0).double().reshape(4, 1)
    return ds.Problem(
        model=lambda: torch.nn.Linear(4, 1, bias=False).double(), objective="mse", train=(x, y), valid=(x, y)
    )


OPTIONS: dict[str, Any] = {
    "recipe": ds.Recipe(batch_size=2, epochs=4), "seeds": 2, "trials": 24, "progress": False, "seed": 5,
    "space": {"lr": ds.log(1e-6, 1e-3)},
}  # fmt: skip


def test_trials_are_drawn_in_stages_where_ranges_may_be_widened() -> None:
    assert stages(0, widen=True) == []
    assert stages(4, widen=True) == [range(4)]
    assert stages(12, widen=False) == [range(12)]
    assert stages(20, widen=True) == [range(9), range(9, 17), range(17, 20)]


def test_without_widening_an_optimum_at_the_edge_is_told_beside_the_winner() -> None:
    found = race(problem(), {"a": "sgd", "b": "adam"}, **OPTIONS | {"seeds": 8})
    assert set(found.undertuned) == {"a", "b"}
    assert any("a on problem: lr: the best lie at the upper end" in note for note in found.notes)
    assert found.winner is not None
    assert "may be undertuned, see the notes" in found.table()


def test_with_widening_the_rest_is_drawn_further_out_for_all_by_as_many_trials(tmp_path: Path) -> None:
    plain = race(problem(), {"a": "sgd", "b": "adam"}, **OPTIONS)
    found = race(problem(), {"a": "sgd", "b": "adam"}, **OPTIONS, widen=True, folder=tmp_path / "a")
    for who in ("a", "b"):
        drawn = [one.values["lr"] for one in found.entry(who).tuning if one.number]
        assert len(drawn) == 23
        assert max(drawn[:8]) <= 1e-3 < max(drawn[8:])
        assert found.entry(who).values["lr"] > 1e-3
        assert found.entry(who).level.mean < plain.entry(who).level.mean
    assert any(
        "a on problem: lr widened after 9 trials, from log:1e-06:0.001 to" in each for each in found.notes
    )
    lines = (tmp_path / "a" / "race.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "race.jsonl").write_text("".join(lines[: len(lines) // 2]))
    again = race(problem(), {"a": "sgd", "b": "adam"}, **OPTIONS, widen=True, folder=tmp_path / "b")
    assert [each.levels for each in again.entries] == [each.levels for each in found.entries]
    assert [each.values for each in again.entries] == [each.values for each in found.entries]
