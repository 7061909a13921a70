"""Data without a length: steps bound the run, the first batches stand for the whole, and it is said."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import downslope as ds
from downslope.training import evaluate, loop, streams
from tests.training.problems import after_steps, data, regression

FINITE = data(60, torch.float32)


class Endless(IterableDataset[Any]):
    """The same 60 examples over and over; `read` counts what was taken out."""

    def __init__(self, rounds: int | None = None) -> None:
        self.rounds, self.read = rounds, 0

    def __iter__(self) -> Iterator[Any]:
        x, y = FINITE
        turn = 0
        while self.rounds is None or turn < self.rounds:
            for row in zip(x, y, strict=True):
                self.read += 1
                yield row
            turn += 1


KINDS = {"dataset": Endless, "loader": lambda: DataLoader(Endless(), batch_size=10)}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """An evaluation of an endless stream looks at 3 batches."""
    monkeypatch.setattr(evaluate, "MOST_STREAMED", 3)
    monkeypatch.setattr(streams, "MOST_STREAMED", 3)
    return 3


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", KINDS)
def test_steps_end_a_fit_on_a_stream_without_end(kind: str) -> None:
    problem = regression(train=KINDS[kind](), valid=KINDS[kind]())
    run = ds.fit(problem, ds.Recipe(steps=25, batch_size=10, lr=0.01), folder=False, progress=False)
    assert run.status == "done"
    assert run.summary["steps"] == 25
    assert run.summary["valid_loss"] < run.history.series("valid_loss").values[0]


def test_an_evaluation_takes_its_first_batches_for_the_whole_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = Endless()
    problem = regression(train=stream, valid=None, metric="mse")
    model = problem.build(0).eval()
    with caplog.at_level(logging.WARNING, "downslope"):
        found = [evaluate.evaluate(problem, model, batch_size=6) for _ in range(2)]
    x, y = FINITE
    with torch.no_grad():
        loss = float(((model(x) - y).double() ** 2).mean())  # 200 batches of 6 are 20 rounds of the 60 rows
    for each in found:
        assert each.n == 1200
        assert each.loss == pytest.approx(loss, rel=1e-5)
        assert each.metric == pytest.approx(loss, rel=1e-5)
    assert stream.read <= 2 * 1206
    assert caplog.text.count("its first 200 batches (1200 examples) stand for it in evaluation") == 1


def test_a_short_stream_is_evaluated_whole_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    problem = regression(train=Endless(rounds=1), valid=None)
    with caplog.at_level(logging.WARNING, "downslope"):
        found = evaluate.evaluate(problem, problem.build(0), batch_size=7)
    assert found.n == 60
    assert not caplog.text


@pytest.mark.usefixtures("few")
def test_an_epoch_that_does_not_end_is_said_once_and_ctrl_c_keeps_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "LONG_EPOCH", 30)
    taken: list[int] = []

    def press(model: Any) -> None:
        taken.append(1)
        if len(taken) == 40:
            signal.raise_signal(signal.SIGINT)

    problem = regression(train=Endless(), valid=None)
    with after_steps(press), caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem, ds.Recipe(epochs=2, batch_size=10), folder=False, progress=False)
    assert (run.status, run.summary["steps"]) == ("interrupted", 40)
    assert caplog.text.count("epoch 1 has not ended after 30 batches") == 1
    assert "steps= bounds the run" in caplog.text


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("asked", "status"),
    [({"goal": 0.02, "metric": "mse"}, "goal"), ({"metric": lambda p, t: 1.0}, "early-stopped")],
)
def test_goal_and_patience_end_an_epoch_that_does_not_end(
    asked: dict[str, Any], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STREAMED_EPOCH", 50)
    problem = regression(train=Endless(), valid=FINITE, **asked)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=10, patience=3)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    assert run.status == status
    assert run.summary["steps"] % 50 == 0
    assert run.history.series("valid_metric").steps.tolist() == list(range(0, run.summary["steps"] + 1, 50))
    if status == "early-stopped":
        assert run.summary["steps"] == 150


@pytest.mark.parametrize("given", [{"steps": 40}, {"epochs": 2}])
def test_data_whose_length_is_known_or_bounded_is_not_called_long(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "LONG_EPOCH", 2)
    source = Endless(rounds=3) if "steps" in given else FINITE
    with caplog.at_level(logging.WARNING, "downslope"):
        ds.fit(regression(train=source, valid=None), ds.Recipe(batch_size=10, **given), folder=False,
               progress=False)  # fmt: skip
    assert "has not ended" not in caplog.text


@pytest.mark.usefixtures("few")
def test_a_diagnosis_of_a_stream_without_end_ends() -> None:
    problem = regression(train=Endless(), valid=None)
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, steps=60, batch_size=10)
    found = ds.diagnose(problem, recipe, budget="60 steps", folder=False, progress=False)
    assert found.run.summary["steps"] == 60
    assert all(each.severity == "info" for each in found.findings), str(found)


@pytest.mark.usefixtures("few")
def test_a_diagnosis_cuts_a_run_without_end_by_its_time_and_says_so() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, epochs=1, batch_size=10)
    problem = regression(train=Endless(), valid=None)
    found = ds.diagnose(problem, recipe, budget="2s", folder=False, progress=False)
    taken = found.run.summary["steps"]
    assert found.run.facts["cut"]["steps"] == taken
    assert f"cut to {taken} of an unknown number of steps" in " ".join(str(found).split())


@pytest.mark.usefixtures("few")
def test_a_diagnosis_cuts_a_first_epoch_without_end_by_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONG_EPOCH", 70)
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, epochs=2, batch_size=10)
    problem = regression(train=Endless(), valid=None)
    found = ds.diagnose(problem, recipe, budget="8s", folder=False, progress=False)
    assert found.run.summary["steps"] == 70
    assert "had not ended after 70 steps" in " ".join(str(found).split())
    assert "steps=... in place of epochs=2" in " ".join(str(found).split())
    assert found.healthy, str(found)


@pytest.mark.usefixtures("few")
def test_a_fit_in_epochs_says_first_that_the_data_tells_no_length_and_ends_at_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "LONG_EPOCH", 30)
    monkeypatch.setattr(streams, "LONGEST_EPOCH", 90)
    problem = regression(train=Endless(), valid=None)
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem, ds.Recipe(epochs=2, batch_size=10, lr=0.01), folder=False, progress=False)
    assert (run.status, run.summary["steps"]) == ("done", 90)
    first, *rest = [each.message for each in caplog.records]
    assert "each of the epochs=2 lasts until the data ends" in first
    assert "give steps=... in place of epochs" in first
    assert any("the run ends here and is kept" in each for each in rest)


def test_a_stream_with_an_end_longer_than_a_long_epoch_keeps_its_later_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "LONG_EPOCH", 20)
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, epochs=4, batch_size=10)
    found = ds.diagnose(regression(train=Endless(rounds=3), valid=None), recipe, folder=False, progress=False)
    assert found.run.summary["steps"] == 4 * 3 * 6


def test_a_stream_that_ends_is_diagnosed_whole() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, epochs=2, batch_size=10)
    found = ds.diagnose(regression(train=Endless(rounds=3), valid=None), recipe, folder=False, progress=False)
    assert found.run.summary["steps"] == 2 * 3 * 6
    assert "cut" not in found.run.facts


@pytest.mark.usefixtures("few")
def test_a_rate_too_high_for_a_stream_without_end_is_proved() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=100.0, epochs=1, batch_size=10)
    found = ds.diagnose(regression(train=Endless(), valid=None), recipe, folder=False, progress=False)
    assert found.run.status == "diverged"
    assert found.findings[0].symptom == "learning-rate-too-high"
    assert "recovers" in " ".join(str(found).split())


@pytest.mark.usefixtures("few")
def test_the_resume_state_of_a_stream_goes_on_where_it_stopped(tmp_path: Any) -> None:
    how = ds.Recipe(steps=30, batch_size=10, lr=0.01)
    whole = ds.fit(regression(train=Endless(), valid=None), how, folder=False, progress=False, observe=0.0)
    taken: list[int] = []

    def press(model: Any) -> None:
        taken.append(1)
        if len(taken) == 17:
            signal.raise_signal(signal.SIGINT)

    with after_steps(press):
        ds.fit(
            regression(train=Endless(), valid=None), how, folder=tmp_path / "r", progress=False, observe=0.0
        )
    from downslope.training.fit import resume

    again = resume(tmp_path / "r", regression(train=Endless(), valid=None), progress=False)
    assert again.summary["steps"] == 30
    for name, value in whole.model("last").state_dict().items():
        assert torch.equal(again.model("last").state_dict()[name], value)
