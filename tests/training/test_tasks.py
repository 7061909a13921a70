"""Tasks: a problem named on the command line, found or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError, TaskError
from downslope.core.problem import Problem
from downslope.training.tasks import load_task

HEAD = "import downslope as ds\nfrom tests.training.problems import regression\n"


def write(path: Path, text: str) -> str:
    path.write_text(HEAD + text, encoding="utf-8")
    return str(path)


def test_a_file_gives_problem_and_recipe(tmp_path: Path) -> None:
    file = write(
        tmp_path / "task_a.py", "problem = regression\ndef recipe():\n    return ds.Recipe(lr=0.5)\n"
    )
    task = load_task(file)
    assert isinstance(task.problem, Problem)
    assert task.recipe.lr == 0.5
    assert task.problem.name == "task_a"
    assert load_task(task.reference).recipe == task.recipe
    assert load_task(f"{file}:problem").recipe.lr == 0.5


def test_without_a_recipe_the_default_is_told(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "task_b.py", "problem = regression()\n"))
    assert task.recipe == ds.Recipe()
    assert any("no recipe" in line for line in task.told)


def test_a_module_is_found_by_its_name() -> None:
    assert isinstance(load_task("tests.training.problems:classification").problem, Problem)


def test_a_csv_becomes_a_problem_whose_choices_are_told(tmp_path: Path) -> None:
    path = tmp_path / "wine.csv"
    rows = "\n".join(f"{i},{i % 7},{'good' if i % 3 else 'bad'}" for i in range(60))
    path.write_text(f"a,b,quality\n{rows}\n", encoding="utf-8")
    task = load_task(str(path), "quality")
    run = ds.fit(task.problem, task.recipe.edit(epochs=2), folder=False, progress=False)
    assert run.summary["valid_metric"] is not None
    assert any("cross_entropy" in line for line in task.told)
    assert load_task(task.reference).problem.train_source.size == task.problem.train_source.size
    with pytest.raises(InputError, match="quality"):
        load_task(str(path), "qualty")


def test_a_regression_from_a_csv_standardises_inputs_and_targets_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    rows = "\n".join(f"{i},{(i * 7) % 11},{30_000 + 250.5 * i - 40 * ((i * 7) % 11)}" for i in range(80))
    path.write_text(f"rooms,age,price\n{rows}\n", encoding="utf-8")
    task = load_task(str(path), "price")
    assert [edit.kind for edit in task.problem.edits] == ["standardise-inputs", "standardise-targets"]
    assert any("inputs and targets standardised" in line for line in task.told)
    seen: list[torch.Tensor] = []

    def watching(model: Any, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        seen.append(output.detach())

    model = task.problem.build(0)
    model.register_forward_hook(watching, with_kwargs=True)
    x, y = task.problem.train_source.batch
    model.eval()(x.float())
    assert float((seen[0] - y.mean()).abs().max()) < 3 * float(y.std())  # raw units out, from the first step
    run = ds.fit(task.problem, task.recipe, folder=False, progress=False)
    assert run.summary["valid_metric"] > 0.9


def test_a_classification_from_a_csv_leaves_its_classes_alone(tmp_path: Path) -> None:
    path = tmp_path / "kinds.csv"
    path.write_text("a,kind\n" + "\n".join(f"{i},{'xyz'[i % 3]}" for i in range(60)), encoding="utf-8")
    task = load_task(str(path), "kind")
    assert [edit.kind for edit in task.problem.edits] == ["standardise-inputs"]
    assert any("inputs standardised" in line for line in task.told)


def test_a_bundled_data_set_is_a_task() -> None:
    assert load_task("digits").problem.build(0) is not None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def problem():\n    raise ValueError('broken')\n", "broken"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def problem(:\n", "SyntaxError"),
        ("x = 1\n", "no 'problem'"),
        ("def problem():\n    return 3\n", "int"),
        ("problem = regression()\nrecipe = 3\n", "'recipe' gives int"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("import not_there_at_all\n", "not_there_at_all"),
    ],
)
def test_a_task_that_fails_is_one_clear_line(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as told:
        load_task(write(tmp_path / "task_c.py", text))
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x=\n", "task_d.py failed while it was imported: SyntaxError: invalid syntax (task_d.py, line 1)"),
        ("\tx = 1\n", "IndentationError: unexpected indent (task_d.py, line 1)"),
        ("x = 1\nraise ValueError('boom')\n", "ValueError: boom (task_d.py, line 2)"),
        ("import not_there\n", "ModuleNotFoundError: No module named 'not_there' (task_d.py, line 1)"),
        (
            "def problem():\n    return 1 / 0\n",
            "failed: ZeroDivisionError: division by zero (task_d.py, line 2)",
        ),
        ("x = 1\n", "task_d.py: it has no 'problem'; write problem() -> ds.Problem(...)"),
        ("x = 1\0\n", "source code string cannot contain null bytes"),
    ],
)
@pytest.mark.parametrize("by", ["path", "module"])
def test_a_broken_file_is_told_by_the_name_it_was_given_and_its_line_once(
    text: str, said: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "task_d", raising=False)
    Path("task_d.py").write_text(text, encoding="utf-8")
    with pytest.raises(TaskError) as told:
        load_task("task_d.py" if by == "path" else "task_d:problem")
    assert (said if by == "path" else said.removeprefix("task_d.py").partition(": ")[2]) in str(told.value)
    assert str(told.value).count("line ") == ("task_d.py, " in said)
    assert str(tmp_path) not in str(told.value)


def test_a_package_beside_is_code_and_no_folder_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("pack_e").mkdir()
    Path("pack_e/__init__.py").write_text("from tests.training.problems import regression as problem\n")
    assert load_task("pack_e:problem").reference == "pack_e:problem"


@pytest.mark.parametrize("reference", ["nowhere.py", "no_such_module:problem", "tests.training.problems:nope",
                                       "nothing.csv", "nothing.csv:y",
                                       "../nothing:y", "unheard-of"])  # fmt: skip
def test_a_task_that_is_not_there_is_one_clear_line(reference: str) -> None:
    with pytest.raises(TaskError) as told:
        load_task(reference)
    assert "\n" not in str(told.value)
    assert "failed" not in str(told.value)
    if "nothing" in reference:
        assert str(told.value) == f"{reference.removesuffix(':y')}: no such file"


@pytest.mark.parametrize("reference", ["{}", "{}:problem", "package.module:problem"])
def test_a_target_beside_code_is_refused(reference: str, tmp_path: Path) -> None:
    file = write(tmp_path / "task_b.py", "problem = regression\n")
    with pytest.raises(TaskError, match=r"^target 'y' goes with data; [^\n]* is code"):
        load_task(reference.format(file), target="y")


def test_a_column_that_a_file_without_a_header_cannot_have_is_told_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("\n".join(f"{i}.5,{i * i}.25,{i % 3}.5" for i in range(30)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no column 'y'.*; the file has no header row"):
        load_task(str(path), target="y")


@pytest.mark.parametrize("reference", ["digits", "wine"])
def test_a_target_beside_a_bundled_set_is_refused(reference: str) -> None:
    with pytest.raises(TaskError, match=f"the bundled {reference} has its own target"):
        load_task(reference, "nope")
