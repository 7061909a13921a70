"""`downslope race`: tables, JSON, boards, resuming, and every wrong word in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope.cli.main import main
from downslope.cli.verbs import race
from downslope.cli.voice import Voice
from downslope.core.errors import ClusterError
from downslope.training.population import ray_workers

TASK = """
import torch, downslope as ds
def problem():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    train, valid = (x[:40], y[:40]), (x[40:], y[40:])
    return ds.Problem(model="softmax", objective="cross_entropy", train=train, valid=valid)
def recipe():
    return ds.Recipe(batch_size=20, epochs=2)
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "task.py").write_text(TASK)
    return "task.py"


def test_a_race_prints_its_table_its_price_and_what_decided(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["race", task, "--optimizers", "sgd,adam", "--trials", "2", "--seeds", "3"]) == 0
    said = capsys.readouterr()
    assert "race: 10 runs" in said.err
    assert "sgd tuned by 2 runs" in said.err
    assert "3 seeds cannot name a winner, 7 can" in said.err
    assert "undecided: by final level, on 3 seeds" in said.out
    (kept,) = Path("runs").iterdir()
    assert said.out.endswith(f"next    downslope report runs/{kept.name}\nkept    runs/{kept.name}\n")
    assert "fewer than 7 seeds cannot decide" in said.out
    assert all(len(line) < 160 for line in said.out.splitlines())


def test_json_is_one_document_and_nothing_else(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["race", task, "--optimizers", "sgd,adam", "--trials", "0", "--seeds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["winner"] is None
    assert [each["contestant"] for each in found["entries"]] == ["sgd", "adam"]


def test_recipes_race_beside_optimizers_and_go_onto_a_board(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.toml").write_text('optimizer = "sgd"\nlr = 0.2\nbatch_size = 20\nepochs = 2\n')
    board = ["--trials", "0", "--seeds", "2", "--goal", "0.6", "--board", "b.toml"]
    assert main(["race", task, *board, "--with", "own.toml", "--optimizers", "adam"]) == 0
    assert main(["race", task, *board, "--optimizers", "rmsprop,momentum"]) == 0
    said = capsys.readouterr().out.rpartition("score in steps  in seconds")[2]
    assert all(each in said for each in ("own", "adam", "rmsprop", "momentum"))
    more = ["--optimizers", "nesterov,gd", "--goal", "0.7", "--seeds", "3"]
    assert main(["race", task, *board, *more]) == 2
    assert "other protocols: seeds is 2 here and 3 there" in capsys.readouterr().err
    before = Path("b.toml").read_text()
    assert main(["race", task, *board, "--optimizers", "rmsprop,momentum"]) == 0
    out = capsys.readouterr().out
    assert "nothing is added: on it already, with the same levels: rmsprop, momentum" in out
    assert "scores are over the seeds of task, the one problem" in out
    assert Path("b.toml").read_text() == before
    assert main(["race", task, *board, "--optimizers", "nesterov,gd", "--goal", "0.7"]) == 2
    (said,) = capsys.readouterr().err.splitlines()  # before anything is timed or trained
    assert "target of task is 0.6 here and 0.7 there; race with target=0.6" in said


def test_an_interrupted_race_is_gone_on_with(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from downslope.racing import course

    own = course.fit_population
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def stopping(*args: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return own(*args, **options)  # type: ignore[arg-type]

        patch.setattr(course, "fit_population", stopping)
        words = [
            "race",
            task,
            "--optimizers",
            "sgd,adam",
            "--trials",
            "2",
            "--seeds",
            "2",
            "--folder",
            "here/r",
        ]
        assert main(words) == 130
    ended = "next    downslope resume here/r\n        downslope report here/r\nkept    here/r\n"
    assert capsys.readouterr().out.endswith(ended)
    assert main(["resume", "here/r"]) == 0
    said = capsys.readouterr()
    assert "2 of them there already" in said.err
    assert "on 2 seeds" in said.out
    assert Path("here/r/race.json").is_file()


@pytest.mark.parametrize(
    ("kept", "asked", "said"),
    [
        (["--ray", "a:1", "--seeds", "2"], None, ["--ray", "a:1", "--seeds", "2"]),
        (["--ray", "a:1", "--seeds", "2"], "none", ["--seeds", "2"]),
        (["--ray", "a:1", "--seeds", "2"], "b:2", ["--seeds", "2", "--ray", "b:2"]),
        (["--seeds", "2"], "b:2", ["--seeds", "2", "--ray", "b:2"]),
    ],
)
def test_a_race_goes_on_with_another_cluster_or_without(
    kept: list[str], asked: str | None, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import downslope.cli.main as command
    from downslope.racing.ledger import Ledger

    given: list[list[str]] = []
    monkeypatch.setattr(command, "main", lambda words: given.append(words) or 0)
    monkeypatch.setattr(ray_workers, "check_ray", lambda address: address)
    ledger = Ledger(tmp_path, {})
    ledger.fact("command", kept)
    assert race.again(tmp_path, Voice(json=False, quiet=False), asked) == 0
    assert given == [["race", *said, "--folder", str(tmp_path)]]


def test_a_race_whose_cluster_is_gone_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from downslope.racing.ledger import Ledger

    def gone(address: str) -> str:
        raise ClusterError(f"nobody answers at {address}")

    monkeypatch.setattr(ray_workers, "check_ray", gone)
    Ledger(tmp_path, {}).fact("command", ["--ray", "a:1"])
    with pytest.raises(ClusterError, match=r"nobody answers at a:1 \(--ray none goes on without a cluster"):
        race.again(tmp_path, Voice(json=False, quiet=False))


def test_a_contestant_may_have_a_space_of_its_own(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizers", "sgd,adam", "--trials", "3", "--seeds", "2", "--space", "sgd.lr=log:1e-3:1e-2"]
    assert main(["race", task, *words, "--folder", "own"]) == 0
    tuned = {each.contestant: each.tuning for each in ds.load_race("own").entries}
    assert [sorted(one.values) for one in tuned["sgd"]] == [[], ["lr"], ["lr"]]
    assert "betas.0" in tuned["adam"][1].values


def test_a_kept_race_is_drawn_by_report_and_by_resume(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizers", "sgd,adam", "--trials", "0", "--seeds", "2", "--folder", "here/r"]
    assert main(["race", task, *words]) == 0
    assert main(["report", "here/r"]) == 0
    assert "adam" in Path("here/r/report.html").read_text()
    capsys.readouterr()
    assert main(["resume", "here/r", "--report", "again.html"]) == 0
    assert capsys.readouterr().out.endswith("\nkept    here/r\nreport  again.html\n")
    page = Path("again.html").read_text()
    assert "<h1>sgd, adam on " in page
    assert "kept in here/r" in page


def test_batch_sizes_race_against_the_clock(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--save", "b.json", "--report", "b.html"]
    assert main(["race", task, "--batch-sizes", "1,10,full", "--trials", "2", *files]) == 0
    said = capsys.readouterr()
    assert "batch sizes 1, 10, full: a run of 2 passes after 2 to tune each" in said.err
    assert "full" in said.out
    assert "loss at end: of the training data; one run of each size" in said.out
    assert said.out.endswith("saved   b.json\nreport  b.html\n")
    assert len(json.loads(Path("b.json").read_text())["curves"]) == 3


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (0, "interrupted: nothing of a race of batch sizes is kept"),
        (1, "interrupted before 10, full: nothing of a race of batch sizes is kept but these files"),
    ],
)
def test_an_interrupted_race_of_batch_sizes_says_that_nothing_is_kept(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, done: int, said: str
) -> None:
    own, calls = ds.fit_population, list[int]()

    def stopping(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > done:
            raise KeyboardInterrupt
        return own(*args, **options)

    monkeypatch.setattr("downslope.racing.batch_sizes.fit_population", stopping)
    words = ["--batch-sizes", "20,10,full", "--trials", "1", "--save", "b.json"]
    assert main(["race", task, *words]) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == f"downslope: {said}"
    assert [line.split()[0] for line in out.splitlines()] == ["batch", "20", "rates:", "loss", "saved"] * done
    assert Path("b.json").exists() == bool(done)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place in which nobody can write: /proc")
@pytest.mark.parametrize("option", ["--report", "--save", "--board"])
def test_a_file_that_nobody_can_write_is_refused_before_a_run(
    task: str, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["race", task, "--optimizers", "sgd,adam", option, "/proc/x.html"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "/proc/x.html cannot be written" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optimizers", "sgd,adma"], "did you mean 'adam'"),
        (["--optimizers", "sgd,asgd"], "torch.optim:ASGD"),
        (["--optimizers", "sgd"], "one contestant, 'sgd'"),
        (["--optimizers", "sgd,sgd"], "two contestants are called 'sgd'"),
        (["--optimizers", "sgd,adam", "--seeds", "1"], "seeds=1"),
        ([], "nobody races"),
        (["--optimizers", "sgd,adam", "--suite", "small"], "give one of them"),
        (["--optimizers", "sgd,adam", "--space", "lr"], "must be key=range"),
        (["--optimizers", "sgd,adam", "--budget", "5 steps"], "must be a time"),
        (["--batch-sizes", "1,half"], "must be numbers or full"),
        (["--batch-sizes", "1,10", "--rate", "fast"], "rate='fast'"),
        (["--batch-sizes", "1,10", "--by", "steps"], "--by is of a race of optimizers"),
        (["--batch-sizes", "1,10", "--workers", "2"], "--workers is of a race of optimizers"),
        (["--optimizers", "sgd,adam", "--rate", "same"], "--rate same is of a race of batch sizes"),
        (["--optimizers", "sgd,adam", "--set", "momentum=0.9"], "adam has no momentum"),
        (["--optimizers", "sgd,adam", "--space", "adam.momentum=uniform:0:0.9"], "contestant 'adam'"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(
    task: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["race", task, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("runs").exists()
