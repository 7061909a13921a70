"""What cannot be meant is refused in one line before anything is trained, and says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import DownslopeError, ModelError
from tests.training.problems import classification, labels, regression

X, Y = labels()
HOW = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=2)


def fitted(problem: ds.Problem, recipe: ds.Recipe = HOW) -> Any:
    return ds.fit(problem, recipe, folder=False, progress=False)


def watched() -> Any:
    model = nn.Linear(3, 1)
    return ds.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))


def of_another_model() -> ds.Recipe:
    other = nn.Linear(4, 2)
    return ds.Recipe(optimizer=lambda params: torch.optim.SGD(other.parameters(), lr=0.1), epochs=1)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "inputs without classes": (lambda: classification(train=X), "train: the target is missing"),
    "a tuple of inputs alone": (lambda: classification(train=(X,)), "give a pair, train=(X, y)"),
    "validation without classes": (lambda: classification(valid=X), "valid: the target is missing"),
    "a sparse tensor": (lambda: classification(train=(X.to_sparse(), Y)), "X.to_dense()"),
    "an optimizer that is made": (
        lambda: ds.Recipe(optimizer=torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)),
        "optimizer=lambda params: torch.optim.SGD(params, lr=0.1)"),
    "an optimizer of another model": (
        lambda: fitted(classification(), of_another_model()), "holds none of the model's parameters"),
    "a goal in per cent": (lambda: classification(metric="accuracy", goal=97), "97 % is 0.97"),
    "a goal below the least": (lambda: regression(metric="mse", goal=-1), "between 0 and inf"),
    "no budget": (lambda: ds.diagnose(regression(), HOW, budget=None), "budget=None: must be a time"),
    "a list as budget": (lambda: ds.repair(regression(), HOW, budget=[1]), "budget=[1]: must be a time"),
    "half a seed": (lambda: ds.repair(regression(), HOW, seeds=2.5), "seeds=2.5: must be an integer"),
    "a text as loss": (lambda: watched().step("a"), "monitor.step(loss): 'a': must be one number"),
    "settings that are no table": (lambda: ds.Recipe(settings=3), "settings=3: must be a table"),
    "a complex objective": (
        lambda: fitted(classification(objective=lambda o, t: (o * 1j).sum())), "returned a complex number"),
    "a complex term": (
        lambda: fitted(classification(objective=lambda o, t: {"a": (o * 1j).sum()})), "a complex number"),
    "no terms": (lambda: fitted(classification(objective=lambda o, t: {})), "returned no terms"),
    "a key without a like": (
        lambda: ds.Recipe(optimizer="sgd", betas=(0.9, 0.99)), "known: accumulate, average"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line(case: str) -> None:
    make, said = CASES[case]
    with pytest.raises(DownslopeError) as raised:
        make()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_goals_that_a_metric_can_have_and_inputs_that_are_their_own_target_stay() -> None:
    assert classification(metric="accuracy", goal=1.0).goal == 1.0
    assert regression(metric="r2", goal=-3.0).goal == -3.0
    model = lambda: nn.Linear(X.shape[1], X.shape[1])  # noqa: E731
    autoencoder = ds.Problem(model=model, objective="squared_error", train=X)
    assert fitted(autoencoder).status == "done"


@pytest.mark.parametrize("calls", [1, 2, 5, 9, 13, 24])
def test_a_model_that_fails_after_some_calls_is_told_as_on_the_first(
    calls: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("downslope.training.choices.remembered", lambda key, measure: measure())
    seen = 0

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            if seen > calls:
                raise RuntimeError("boom\nsecond line")
            return self.layer(x)

    for verb in (ds.fit, ds.diagnose, ds.repair):
        seen = 0
        with pytest.raises(ModelError, match=r"batch of shapes .*RuntimeError: boom") as raised:
            verb(regression(model=Late), HOW, folder=False, progress=False)
        assert "\n" not in str(raised.value)


def test_an_index_beyond_the_classes_is_told_without_a_stray_stop() -> None:
    with pytest.raises(DownslopeError) as raised:
        fitted(classification(train=(X, Y + 5)))
    assert "out of bounds; the model needs" in str(raised.value)


def test_what_the_package_has_not_is_not_guessed_from_afar() -> None:
    with pytest.raises(AttributeError, match="has no 'quux'; known: Finding"):
        _ = ds.quux  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="did you mean 'repair'"):
        _ = ds.repiar  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["metric", "model"])
def test_what_would_fail_at_the_end_is_refused_before_the_first_step(what: str, tmp_path: Path) -> None:
    class InTrainingOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            assert self.training or what == "metric", "of mine"
            return self.layer(x)

    metric = (lambda output, target: output) if what == "metric" else None
    problem = regression(model=InTrainingOnly, metric=metric, valid=None)
    with pytest.raises(DownslopeError, match="metric failed" if what == "metric" else "in eval mode"):
        ds.fit(problem, HOW, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_metric_that_wants_more_than_one_batch_is_not_refused() -> None:
    def ranked(output: Tensor, target: Tensor) -> float:
        if len(target) <= 16:
            raise ValueError("too few")
        return float(output.mean())

    assert fitted(regression(metric=ranked, valid=None)).summary["train_metric"] is not None
