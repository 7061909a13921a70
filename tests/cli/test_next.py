"""The command that is printed next, pasted into a shell, does what was meant: options kept, words quoted."""

from __future__ import annotations

import csv
import json
import random
import shlex
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope.cli import guard
from downslope.cli.given import Given
from downslope.cli.main import main

TASK = """
import torch
from torch import nn
import downslope as ds

def model(width: int = 8):
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))

def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(128, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    return ds.Problem(model=model, objective="squared_error", train=(x[:96], y[:96]), valid=(x[96:], y[96:]))

def recipe():
    return ds.Recipe(optimizer="sgd", lr=30.0, batch_size=16, epochs=5)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    Path("my task.py").write_text(TASK)
    return tmp_path


def followed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The words of the command that `words` print as the next one, as a shell takes them apart."""
    main([*words, "--quiet"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next"))
    command = row.removeprefix("next").partition("    open ")[0]
    found = shlex.split(command)
    assert found[0] == "downslope"
    return found[1:]


def document(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    main([*words, "--json", "--quiet", "--folder", "again"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "given",
    [
        Given(task="a.py"),
        Given(task="my task.py", target="pri ce", recipe=Path("r s.toml"), seed=3),
        Given(task="a.py", settings=["lr=0.1", "optimizer='sgd'", "betas=(0.9, 0.99)"]),
        Given(task="it's.csv", target="a;b", settings=["objective=$HOME"]),
    ],
)
def test_what_was_given_comes_back_word_by_word(given: Given) -> None:
    words = shlex.split(given.said)
    again: dict[str, Any] = {"task": words[0], "settings": []}
    for option, value in zip(words[1::2], words[2::2], strict=True):
        if option == "--set":
            again["settings"].append(value)
        else:
            kind = {"--recipe": Path, "--seed": int}.get(option, str)
            again[option.removeprefix("--")] = kind(value)
    assert Given(**again | {"settings": list(again["settings"])}) == Given(
        task=given.task, target=given.target, recipe=given.recipe, settings=list(given.settings),
        seed=given.seed,
    )  # fmt: skip


def test_after_fit_and_diagnose_every_option_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r s.toml").write_text('optimizer = "sgd"\nlr = 30.0\nepochs = 2\n')
    options = [
        "my task.py",
        "--recipe",
        "r s.toml",
        "--set",
        "model.width=5",
        "--set",
        "lr=25",
        "--seed",
        "4",
    ]
    assert followed(capsys, "fit", *options, "--folder", "a") == ["diagnose", *options]
    assert followed(capsys, "diagnose", *options, "--folder", "b") == ["repair", *options]


def test_after_repair_the_problem_stays_as_it_was_set_and_the_recipe_is_the_repaired_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["my task.py", "--set", "lr=25", "--set", "model.width=5", "--set", "goal=0.001", "--seed", "4"]
    words = followed(capsys, "repair", *options, "--folder", "a", "-o", "my fixed.toml")
    assert words == [
        "fit", "my task.py", "--set", "model.width=5", "--set", "goal=0.001", "--recipe", "my fixed.toml",
    ]  # fmt: skip
    kept = ds.Recipe.load("my fixed.toml")
    assert kept.lr < 1.0
    assert kept.seed == 4
    found = document(capsys, words)
    assert found["status"] in ("done", "goal")
    assert found["summary"]["valid_loss"] < 1.0
    described = json.loads(Path("again/run.json").read_text())["problem"]
    assert (described["arguments"], described["goal"]) == ({"width": 5}, 0.001)


def test_after_repair_the_edits_of_the_recipe_that_was_given_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("r.toml").write_text(
        'optimizer = "sgd"\nlr = 25.0\nepochs = 5\nbatch_size = 16\n\n[[edit]]\nkind = "standardise-inputs"\n'
    )
    words = followed(capsys, "repair", "my task.py", "--recipe", "r.toml", "--folder", "a")
    assert words == ["fit", "my task.py", "--recipe", "fixed.toml"]
    document(capsys, words)
    described = json.loads(Path("again/run.json").read_text())["problem"]
    # first, whatever the repair found worth adding
    assert described["edits"][0]["kind"] == "standardise-inputs"


def test_a_setting_that_a_remedy_changed_is_not_said_again() -> None:
    given = Given(task="a.py", settings=["objective=huber", "model.width=3", "model.depth=2", "lr=1"])
    assert given.beside(()) == "a.py --set objective=huber --set model.width=3 --set model.depth=2"
    kept = [ds.edits.SetObjective("squared_error"), ds.edits.SetArgument("width", 9)]
    assert given.beside(kept) == "a.py --set model.depth=2"


def test_a_data_file_keeps_its_target_with_blanks_in_both(capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    with Path("my houses.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "pri ce"])
        for _ in range(120):
            a, b = draw.gauss(0, 1), draw.gauss(0, 1)
            rows.writerow([a, b, 3e4 + 1000 * a - 500 * b])
    options = ["my houses.csv", "--target", "pri ce"]
    words = followed(capsys, "repair", *options, "--set", "lr=30", "--set", "epochs=8", "--folder", "a")
    assert words == ["fit", *options, "--recipe", "fixed.toml"]
    assert document(capsys, words)["summary"]["valid_metric"] > 0.5


def test_after_resume_the_report_is_next(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "my task.py", "--quiet", "--folder", "my run"])
    capsys.readouterr()
    assert followed(capsys, "resume", "my run") == ["report", "my run"]
    assert main(["report", "my run"]) == guard.DONE
