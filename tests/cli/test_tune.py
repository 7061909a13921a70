"""``downslope tune`` and ``downslope resume`` of a search."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from downslope.cli.main import main
from downslope.cli.verbs import tune as verb
from downslope.cli.voice import Voice
from downslope.core import edits
from downslope.core.recipe import Recipe
from downslope.reporting import search_rows
from downslope.training.population import ray_workers
from downslope.tuning.tune import load_search

TASK = """
import torch
from torch import nn
import downslope as ds

def problem(width=3):
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    y = (x[:, 0] > 0).long()
    data = {"train": (x, y), "valid": (x[:8], y[:8])}
    return ds.Problem(model=model, objective="cross_entropy", metric="accuracy", **data)

def model(width=3):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

recipe = ds.Recipe(optimizer="sgd", steps=4, batch_size=8)
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def test_a_search_by_keys_as_options(task, capsys):
    words = [
        "--lr",
        "log:1e-3:1",
        "--model.width",
        "int:2:4",
        "--trials",
        "6",
        "--confirm",
        "1",
        "--fresh",
        "2",
        "--json",
        "--folder",
        "s",
    ]
    assert main(["tune", "task.py", *words]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["space"] == {"lr": "log:0.001:1.0", "model.width": "int:2:4"}
    assert len(found["trials"]) == 6
    assert len(found["best"]["fresh"]) == 2
    assert "6 trials at about" in err  # the price
    assert "best valid accuracy" in err  # the table on the way
    recipe, changes = edits.load("best.toml")
    assert recipe.lr == pytest.approx(found["best"]["values"]["lr"])
    assert changes[0].to_dict()["name"] == "width"
    assert {"search.toml", "problem.json", "journal.log", "result.json"} <= {
        p.name for p in (task / "s").iterdir()
    }


def test_a_search_goes_on_without_flags(task, capsys):
    assert (
        main(["tune", "task.py", "--lr=log:1e-3:1", "--trials", "4", "--confirm", "0", "--folder", "s"]) == 0
    )
    text = (task / "s" / "search.toml").read_text()
    (task / "s" / "search.toml").write_text(text.replace("trials = 4", "trials = 6"))
    (task / "s" / "result.json").unlink()
    capsys.readouterr()
    assert main(["resume", "s", "--json", "--report", "again.html"]) == 0
    assert "The search" in (task / "again.html").read_text()
    found = json.loads(capsys.readouterr().out)
    assert [each["number"] for each in found["trials"]] == list(range(6))
    assert main(["report", "s"]) == 0
    page = (task / "s" / "report.html").read_text()
    assert "<h1>task.py: lr</h1>" in page
    assert f"downslope fit {task / 'task.py'} --recipe s/best.toml" in page


def test_what_goes_on_writes_the_files_and_names_the_commands_that_were_asked_for(task, capsys):
    words = ["--lr=log:1e-3:1", "--set", "model.width=2", "--trials", "2", "--confirm", "0", "--quiet"]
    files = ["-o", "mine.toml", "--report", "mine.html"]
    assert main(["tune", "task.py", *words, *files, "--folder", "s"]) == 0
    first = capsys.readouterr().out
    for each in ("mine.toml", "mine.html", "s/result.json"):
        (task / each).unlink()
    for _ in range(2):  # what it writes of itself holds them too
        assert main(["resume", "s", "--quiet"]) == 0
        assert capsys.readouterr().out.partition("next")[2] == first.partition("next")[2]
        assert "--set model.width=2 --recipe mine.toml" in first
        assert edits.load("mine.toml")[0].lr
        assert "The search" in (task / "mine.html").read_text()


def test_a_search_goes_on_with_another_cluster_or_without(task, capsys):
    words = ["--lr=log:1e-3:1", "--trials", "2", "--confirm", "0", "--quiet"]
    assert main(["tune", "task.py", *words, "--folder", "s"]) == 0
    asked = task / "s" / "search.toml"
    asked.write_text(asked.read_text().replace("trials = 2", 'trials = 4\nray = "127.0.0.1:1"'))
    (task / "s" / "result.json").unlink()
    for more, told in (([], "ray='127.0.0.1:1': "), (["--ray", "127.0.0.1:2"], "ray='127.0.0.1:2': ")):
        capsys.readouterr()
        assert main(["resume", "s", "--quiet", *more]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert ("--ray none goes on without a cluster" in err) is (not more)
    assert main(["resume", "s", "--quiet", "--ray", "none"]) == 0
    assert "ray" not in asked.read_text()
    assert [each.state for each in load_search("s").trials] == ["done"] * 4


def test_resume_takes_the_newest_that_was_interrupted(task, capsys, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_RUNS", "runs")
    words = ["--lr", "log:1e-3:1", "--trials", "2", "--confirm", "0", "--quiet"]
    for name in ("a", "b", "c"):
        assert main(["tune", "task.py", *words, "--folder", f"runs/{name}"]) == 0
    result = task / "runs" / "b" / "result.json"
    result.write_text(result.read_text().replace('"interrupted": false', '"interrupted": true'))
    capsys.readouterr()
    assert main(["resume"]) == 0
    assert "resume: runs/b" in capsys.readouterr().err
    assert main(["resume"]) == 2
    assert "nothing there was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--lr log:1:1e-4", "reversed"),
        ("--lr log:0:1", "no logarithm"),
        ("--lr uniform:1:1", "is empty"),
        ("--lrr log:1e-4:1", "did you mean 'lr'?"),
        ("--trails 64", "did you mean --trials?"),
        ("--lr", "a range must follow"),
        ("--lr log:1e-3:1 --lr log:1e-4:1", "given twice"),
        ("--lr log:1e-3:1 --budget soon", "must be a time such as"),
        ("--lr log:1e-3:1 --budget 1e400", "must be a time such as"),
        ("--lr log:1e-3:1 --budget=1e400steps", "must be a time such as"),
        ("--lr log:1e-3:1 --budget 10 bananas", "'bananas' belongs to no option"),
        ("--lr log:1e-4", "must have two numbers"),
        ("--lr log:nan:1", "must be a finite number"),
        ("--lr log:1e-3:1 --trials -1", "must be a whole number from 1"),
        ("--lr log:1e-3:1 --batch 0", "must be a whole number from 1"),
        ("--lr log:1e-3:1 --confirm -1", "must be a whole number from 0"),
        ("--lr log:1e-3:1 --pruner x", "pruner='x' is not known; known: asynchronous"),
        ("--model.width log:0:1", "0 has no logarithm"),
        ("--batch-size uniform:1:8", "must be an integer"),
        ("--space seeds=int:1:2", "'seeds' is no key"),
        ("--space seed=int:1:2", "a lucky seed is not a better recipe"),
        ("--lr choice:0.1,foo", "must be a number"),
        ("--lr log:1e-3:1 --storage /proc/none", "cannot be used"),
        ("--lr log:1e-3:1 --folder task.py/x", "cannot be used: Not a directory"),
        ("--lr log:1e-3:1 extra", "belongs to no option"),
        ("--lr log:1e-3:1 -o /proc/best.toml", "/proc/best.toml cannot be written"),
        ("--model.widht int:1:3", "did you mean 'width'?"),
        ("--sampler rnadom", "did you mean 'random'?"),
        ("--lr log:1e-3:1 --storage nosuch://x", "nosuch"),
    ],
)
def test_unusable_input_is_told_in_one_line_with_status_2(task, capsys, words, told):
    del task
    assert main(["tune", "task.py", *words.split()]) == 2
    err = capsys.readouterr().err.strip()
    assert told in err
    assert len([line for line in err.splitlines() if line.startswith("downslope:")]) == 1


def test_the_task_may_come_last_and_dashes_are_underscores(task, capsys, caplog):
    del task
    assert main(["tune", "--lr", "log:1e-3:1"]) == 2
    assert "stands where TASK goes" in capsys.readouterr().err
    words = ["--batch-size", "choice:4,8", "--trials", "2", "--confirm", "0", "--folder", "s"]
    assert main(["tune", *words, "--json", "task.py"]) == 0
    assert list(json.loads(capsys.readouterr().out)["space"]) == ["batch_size"]
    assert "the rate is rescaled" in caplog.text


def test_when_everything_fails_the_status_is_2_and_the_cause_is_told(task, capsys):
    (task / "task.py").write_text(TASK.replace("nn.ReLU()", "nn.Linear(99, 3)"))
    assert main(["tune", "task.py", "--lr", "log:1e-3:1", "--trials", "9", "--folder", "s"]) == 2
    assert "mat1 and mat2" in capsys.readouterr().err


def test_folders_that_will_be_made_for_files_are_known_beforehand(tmp_path):
    new = tmp_path / "new"
    assert verb.made_for(new / "best.toml", new / "page.html", str(tmp_path / "search.log")) == [new]
    assert verb.made_for(tmp_path / "best.toml", None, "sqlite:///elsewhere/search.db") == []


WORDS = ["--lr=log:1e-3:1", "--trials", "2", "--confirm", "0"]


def test_a_recipe_of_another_search_is_replaced_in_so_many_words(task, capsys):
    assert main(["tune", "task.py", *WORDS, "--folder", "a"]) == 0
    assert "replaced" not in capsys.readouterr().err
    first = (task / "best.toml").read_text()
    held = first.partition("# best: ")[2].partition("\n")[0]
    assert main(["resume", "a"]) == 0  # the same search
    assert "replaced" not in capsys.readouterr().err
    assert main(["tune", "task.py", *WORDS, "--folder", "b"]) == 0
    assert f"best.toml is replaced (it held {held})" in " ".join(capsys.readouterr().err.split())
    assert "# search: b" in (task / "best.toml").read_text()


def test_an_interrupted_search_leaves_the_recipe_of_another(task, capsys, monkeypatch):
    assert main(["tune", "task.py", *WORDS, "--folder", "a"]) == 0
    first = (task / "best.toml").read_text()
    monkeypatch.setattr("downslope.tuning.hunt.Hunt.confirm", lambda self: self.stop() or ())
    capsys.readouterr()
    assert main(["tune", "task.py", *WORDS, "--folder", "b"]) == 130
    assert "best.toml stays" in (err := " ".join(capsys.readouterr().err.split()))
    assert "its best so far is in b/best.toml" in err
    assert (task / "best.toml").read_text() == first
    monkeypatch.undo()
    monkeypatch.chdir(task)
    assert main(["resume", "b"]) == 0
    assert "# search: b" in (task / "best.toml").read_text()


def test_an_output_that_fails_at_the_end_gives_2_and_the_best_is_kept(task, capsys, monkeypatch):
    asked = verb.remembered

    def blocked(*given):
        (task / "mine.toml").mkdir()  # while it trains
        return asked(*given)

    monkeypatch.setattr(verb, "remembered", blocked)
    assert main(["tune", "task.py", *WORDS, "--folder", "s", "-o", "mine.toml"]) == 2
    out, err = capsys.readouterr()
    assert "mine.toml cannot be written: Is a directory; the best is kept in s/best.toml" in err
    assert "downslope fit task.py --recipe s/best.toml" in out


def test_where_a_cluster_is_and_who_died_there_is_told(task, capsys, monkeypatch):
    class There:
        where, alive, lost = "10.0.0.1:6379", True, 2

        def ask(self, what, members, gpus):
            return min(members, 3)

        def close(self):
            pass

    monkeypatch.setitem(ray_workers._joined, "head:6379", There())
    voice = Voice(json=False, quiet=False)
    plan = planned_on("head:6379")
    verb._tell_of_cluster(voice, plan)
    verb._tell_of_lost(voice, plan)
    err = capsys.readouterr().err
    assert "tune: on Ray at 10.0.0.1:6379, 3 workers" in err
    assert "2 members lost their worker" in err


def planned_on(address):
    return SimpleNamespace(ray=address, recipe=Recipe(), batch=8, seeds=1)


def test_a_next_search_that_is_this_one_again_is_not_offered(task, capsys, monkeypatch):
    words = ["--lr=log:1e-3:1", "--momentum=uniform:0:0.9", "--trials", "12", "--confirm", "0"]
    assert main(["tune", "task.py", *words, "--folder", "s"]) == 0
    found = load_search("s")
    assert found.importances
    for space, again in ((found.space, False), ({"lr": found.space["lr"]}, True)):
        vars(found)["finer"] = dict(space)
        assert found.further is again
        assert any(label == "finer" for label, _ in found.told()) is again
        rows = search_rows.next_rows(found, "task.py", task / "best.toml", None)
        assert any("downslope tune" in row.text for row in rows) is again
