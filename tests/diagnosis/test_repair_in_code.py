"""A kept edit that no file can hold: told without addresses, left out of the file, and said how to write."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.cli.outcome import repair_document, save_changes, save_fixed
from downslope.cli.voice import Voice
from downslope.core import edits
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.repair import Repair
from downslope.objectives.adapters import Aligned, Averaged, Weighted
from downslope.reporting import console, proof


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
    assert said in proof.fixed_toml(fixed)
    assert caplog.messages == [said]  # a report shows the file, and says nothing again


def test_an_aligned_objective_is_named_by_what_it_does() -> None:
    edit = edits.SetObjective(Aligned(lambda output, target: (output - target).mean()))
    assert str(edit) == "objective -> the objective, target reshaped to the output"


def applied(text: str, problem: ds.Problem, recipe: ds.Recipe) -> tuple[ds.Problem, ds.Recipe]:
    """What the code that a repair wrote makes of a problem and a recipe."""
    names: dict[str, Any] = {}
    exec(compile(text, "fixed_changes.py", "exec"), names)
    return names["changed"](problem, recipe)


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.squeeze(-1) - target).square().sum()


def test_the_code_of_a_repair_makes_the_problem_that_was_kept() -> None:
    x = torch.randn(20, 3)
    edit = edits.Combined((
        edits.SetObjective(Averaged(squares)), edits.StandardiseInputs(),
        edits.ReplaceModule("1", "torch.nn:LeakyReLU", {"negative_slope": 0.1}),
    ))  # fmt: skip
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    problem = ds.Problem(model=model, objective=squares, train=(x, x[:, 0]))
    recipe = ds.Recipe(optimizer="sgd", lr=0.01, epochs=3)
    fixed = kept(edit)
    after, _ = applied(fixed.in_code, problem, recipe)
    wanted, _ = edit.apply(problem, recipe)
    assert isinstance(after.build().get_submodule("inner.1"), nn.LeakyReLU)
    assert "# in the model's own code: model.get_submodule('1') becomes torch.nn.LeakyReLU" in fixed.in_code
    runs = [ds.fit(each, recipe, folder=False, progress=False) for each in (after, wanted)]
    assert runs[0].summary["train_loss"] == runs[1].summary["train_loss"]
    assert [each.kind for each in fixed.by_hand] == ["set-objective"]


def test_the_code_of_weighted_classes_trains_to_the_same_loss() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    target = (x[:, 0] > 1).long()
    edit = edits.SetObjective(Weighted("classes", (0.25, 3.0)))
    problem = ds.Problem(model=lambda: nn.Linear(3, 2), objective="cross_entropy", train=(x, target))
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=3)
    after, _ = applied(kept(edit).in_code, problem, recipe)
    wanted, _ = edit.apply(problem, recipe)
    runs = [ds.fit(each, recipe, folder=False, progress=False) for each in (after, wanted)]
    assert runs[0].summary["train_loss"] == pytest.approx(runs[1].summary["train_loss"], rel=1e-6)


def test_code_without_a_name_raises_where_it_has_to_be_put() -> None:
    fixed = kept(edits.SetObjective(lambda output, target: (output - target).abs().mean()))
    with pytest.raises(NotImplementedError, match="put your own code here"):
        applied(fixed.in_code, fixed.problem, fixed.recipe)


def test_a_repair_of_the_recipe_alone_has_no_code() -> None:
    assert kept(edits.SetRecipe({"lr": 0.02})).in_code == ""


def test_the_command_line_writes_recipe_and_code_and_says_where(tmp_path: Path) -> None:
    fixed = kept(edits.Combined((edits.SetObjective(Averaged(squares)), edits.SetRecipe({"lr": 0.02}))))
    path = save_fixed(fixed, tmp_path / "fixed.toml", Voice(quiet=True), [edits.StandardiseInputs()])
    beside = save_changes(fixed, tmp_path / "fixed.toml")
    assert path is not None
    assert beside == tmp_path / "fixed_changes.py"
    assert edits.load(path) == (fixed.recipe, (edits.StandardiseInputs(),))
    rows = console.next_of_repair(fixed, "task.py", path, None, beside)
    said = [row.text for row in rows]
    assert any("fixed_changes.py" in each and "1 of them is code" in each for each in said)
    assert any("--recipe" in each and "once the code is changed" in each for each in said)
    assert repair_document(fixed, path, None, beside)["changes"] == beside
