"""A kept edit that no file can hold: told without addresses, left out of the file, and said how to write."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import downslope as ds
from downslope.core import edits
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.repair import Repair
from downslope.objectives.adapters import Aligned, Averaged


def kept(edit: edits.Edit) -> Repair:
    x = torch.randn(20, 3)
    problem = ds.Problem(model="mlp", objective="squared_error", train=(x, x[:, 0]))
    run = ds.fit(problem, ds.Recipe(epochs=1), folder=False, progress=False)
    return Repair(problem=problem, recipe=ds.Recipe(lr=0.02), diagnosis=Diagnosis(run=run), kept=edit)


@pytest.mark.parametrize("adapter", [Aligned, Averaged])
def test_what_a_file_cannot_hold_is_told_and_the_rest_is_saved(
    adapter: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = adapter(lambda output, target: (output - target).square().mean())
    fixed = kept(edits.Combined((edits.SetObjective(own), edits.StandardiseInputs())))
    for text in (fixed.diff, str(fixed.kept), fixed.to_json()):
        assert "0x" not in text
    with caplog.at_level(logging.WARNING, "downslope"):
        path = fixed.save(tmp_path / "fixed.toml")
    recipe, read = edits.load(path)
    assert recipe == fixed.recipe
    assert read == (edits.StandardiseInputs(),)
    (said,) = caplog.messages
    assert f"write Problem(objective={own.in_code}) instead" in said
    assert "\n" not in said
    assert f"# {said}\n" in path.read_text(encoding="utf-8")


def test_an_aligned_objective_is_named_by_what_it_does() -> None:
    edit = edits.SetObjective(Aligned(lambda output, target: (output - target).mean()))
    assert str(edit) == "objective -> the objective, target reshaped to the output"
