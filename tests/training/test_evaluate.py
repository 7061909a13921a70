"""Evaluation: the mean over examples, whatever the batches; modes come back; a metric's failure is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from downslope.core.errors import InputError, ModelError
from downslope.core.problem import Problem
from downslope.training.evaluate import evaluate
from tests.training.problems import classification, data, labels, mlp, regression


def test_the_loss_is_the_mean_over_examples_and_so_is_its_error() -> None:
    problem = regression(metric="mse")
    model = mlp()
    x, y = (each.float() for each in data())
    with torch.no_grad():
        errors = (model.eval()(x) - y).double() ** 2
    found = evaluate(problem, model, batch_size=16)  # data in float64, the model in float32
    assert found.loss == pytest.approx(float(errors.mean()), rel=1e-6)
    assert found.metric == pytest.approx(float(errors.mean()), rel=1e-6)
    assert found.n == 50
    assert found.stderr == pytest.approx(float(errors.std()) / math.sqrt(50), rel=1e-5)
    assert found.metric_stderr == pytest.approx(found.stderr, rel=1e-5)
    assert evaluate(problem, model, batch_size=64).stderr == pytest.approx(found.stderr, rel=1e-5)
    assert math.isnan(evaluate(problem, model, errors=False).stderr)


def test_every_module_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(regression(), model)
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())

    def failing(output: Tensor, target: Tensor) -> float:
        raise RuntimeError("no")

    with pytest.raises(
        InputError, match=r"the metric failed on outputs of shape \[\(50, 1\)\]: RuntimeError: no"
    ):
        evaluate(regression(metric=failing), model)
    assert [m.training for m in model] == [True, False, True]


def test_a_loader_is_joined_as_it_comes() -> None:
    calls: list[int] = []

    def metric(output: Tensor, target: Tensor) -> float:
        calls.append(len(output))
        return float((output.argmax(1) == target).double().mean())

    x, y = labels()
    problem = classification(metric=metric)
    model = mlp(outputs=2)
    stored = evaluate(problem, model, problem.train_source)
    from downslope.core.sources import Loader

    streamed = evaluate(problem, model, Loader(DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True)))
    assert calls == [50, 50]
    assert streamed.metric == stored.metric
    assert streamed.loss == pytest.approx(stored.loss, rel=1e-6)


def test_a_model_that_fails_in_eval_mode_is_told_in_one_line() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Any:
            return self.lin(x).reshape(-1, 7)

    with pytest.raises(ModelError, match=r"^in eval mode a batch of shapes \[\(50, 4\), \(50, 1\)\][^\n]*$"):
        evaluate(regression(), Fails())


class Reader(nn.Module):
    """Steps and states, as an LSTM gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(2, 3, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self.cells(x)


def reading(**changes: Any) -> Problem:
    x = torch.randn(17, 5, 2, generator=torch.Generator().manual_seed(2))
    given: dict[str, Any] = {
        "model": Reader,
        "objective": from_state,
        "train": (x, (x.sum((1, 2)) > 0).long()),
    }
    return Problem(**given | changes)


def from_state(output: Any, target: Tensor) -> Tensor:
    _, (h, _) = output
    return nn.functional.cross_entropy(h[-1], target)


def test_a_metric_has_the_states_of_all_examples_whatever_the_batches() -> None:
    def metric(output: Any, target: Tensor) -> float:
        return float(from_state(output, target))

    problem = reading(metric=metric)
    model = problem.build()
    x, y = problem.train_source.batch  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = float(from_state(model(x), y))
    for size in (4, 6, 17):
        assert evaluate(problem, model, batch_size=size).metric == pytest.approx(wanted, rel=1e-5)


def test_an_objective_that_reads_states_has_its_error_over_the_examples() -> None:
    problem = reading()
    model = problem.build()
    x, y = problem.train_source.batch  # type: ignore[attr-defined]
    with torch.no_grad():
        _, (h, _) = model(x)
        losses = nn.functional.cross_entropy(h[-1], y, reduction="none").double()
    found = evaluate(problem, model, batch_size=6)
    assert found.over == "examples"
    assert found.stderr == pytest.approx(float(losses.std()) / math.sqrt(17), rel=1e-5)
