"""Variance in a watched loop: judged from its validation losses, and only where they can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import InputError
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.ear import Call
from downslope.diagnosis.held_out import alike, mean_and_error, unlike

Report = Callable[[Any, nn.Module, Tensor, Tensor], None]


def classes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 30, generator=draw)
    return x, (torch.rand(n, generator=draw) < torch.sigmoid(2 * x[:, 0])).long()


def loop(
    n: int,
    report: Report,
    *,
    epochs: int,
    drop: float = 0.0,
    penalty: float = 0.0,
    objective: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> Diagnosis:
    torch.manual_seed(0)
    (x, y), (xv, yv) = classes(n, 0), classes(200, 1)
    model = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Dropout(drop), nn.Linear(128, 2))
    rule = torch.optim.Adam(model.parameters(), 1e-2)
    with ds.watch(model, rule) as monitor:
        for _ in range(epochs):
            for at in torch.randperm(n).split(32):
                loss = objective(model(x[at]), y[at])
                if penalty:
                    loss = loss + penalty * sum(p.square().sum() for p in model.parameters())
                rule.zero_grad()
                loss.backward()
                rule.step()
                monitor.step(loss)
            model.eval()
            with torch.no_grad():
                report(monitor, model, xv, yv)
            model.train()
        return monitor.diagnose()


def by_loss(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate(functional.cross_entropy(model(x), y))


def by_name(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate(loss=np.float64(functional.cross_entropy(model(x), y)), metric=0.5)


def as_float(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate(functional.cross_entropy(model(x), y).item())


def summed(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate(20 * functional.cross_entropy(model(x), y).item())


def accuracy(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate((model(x).argmax(1) == y).float().mean())


def metric_only(monitor: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    monitor.validate(metric=(model(x).argmax(1) == y).float().mean())


def reason(found: Diagnosis) -> str:
    return dict(found.not_checked)["high-variance"]


@pytest.mark.parametrize("report", [by_loss, by_name, as_float])
def test_a_model_that_learns_its_examples_by_heart_is_named(report: Report) -> None:
    found = loop(96, report, epochs=30)
    assert found.root is not None
    assert found.root.symptom == "high-variance"
    assert not found.healthy


def test_its_twin_with_examples_enough_is_healthy() -> None:
    found = loop(6000, by_loss, epochs=2)
    assert found.healthy
    assert "high-variance" not in dict(found.not_checked)


@pytest.mark.parametrize("regularised", [{"drop": 0.5}, {"penalty": 1e-3}])
def test_a_training_loss_that_dropout_or_a_penalty_raises_is_no_variance(regularised: Any) -> None:
    found = loop(6000, by_loss, epochs=2, **regularised)
    assert found.healthy
    assert "high-variance" not in found.symptoms


def test_a_sum_over_the_validation_batches_is_no_variance() -> None:
    found = loop(6000, summed, epochs=2)
    assert found.healthy
    assert "a sum, or in other units" in reason(found)


def test_an_accuracy_handed_over_as_a_loss_is_no_variance() -> None:
    found = loop(3000, accuracy, epochs=6)
    assert found.healthy
    assert "high-variance" not in found.symptoms


def test_an_accuracy_that_rises_is_asked_for_by_name() -> None:
    torch.manual_seed(0)
    model = nn.Linear(30, 2)
    rule = torch.optim.SGD(model.parameters(), 0.5)
    x, y = classes(256, 0)
    monitor = ds.watch(model, rule)
    for step in range(60):
        loss = functional.cross_entropy(model(x), y)
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
        if step % 10 == 9:
            monitor.validate(0.5 + step / 150)
    found = monitor.diagnose()
    assert found.healthy
    assert "monitor.validate(metric=...)" in reason(found)


def test_a_metric_alone_does_not_tell_of_variance_and_says_so() -> None:
    found = loop(96, metric_only, epochs=30)
    assert found.healthy
    assert "only a metric was given" in reason(found)


def test_another_objective_in_training_than_in_validation_is_no_variance() -> None:
    def focal(output: Tensor, target: Tensor) -> Tensor:
        likely = functional.cross_entropy(output, target, reduction="none")
        return ((1 - (-likely).exp()) ** 2 * likely).mean()

    found = loop(6000, by_loss, epochs=2, objective=focal)
    assert found.healthy
    assert "high-variance" not in found.symptoms


def test_what_was_said_wrongly_is_refused_in_one_line() -> None:
    model = nn.Linear(3, 1)
    monitor = ds.watch(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(InputError, match="takes one loss"):
        monitor.validate()
    with pytest.raises(InputError, match="takes one loss"):
        monitor.validate(0.5, loss=0.5)
    with pytest.raises(InputError, match="must be one number"):
        monitor.validate(torch.ones(3))


def test_the_error_of_few_batches_is_guessed_from_their_examples() -> None:
    mean, error, examples = mean_and_error([(1.0, 60), (2.0, 40)])
    assert (mean, examples) == (pytest.approx(1.4), 100)
    assert error == pytest.approx(2.0 * 1.4 / 10)
    values = [1.0, 2.0, 3.0, 4.0]
    assert mean_and_error([(v, 10) for v in values])[1] == pytest.approx(np.std(values, ddof=1) / 2)
    assert math.isfinite(mean_and_error([(1.0, 0)])[1])


def test_calls_are_alike_by_function_and_arguments_however_they_reduce() -> None:
    def call(*args: Any, function: Any = functional.cross_entropy, **kwargs: Any) -> Call:
        return Call(function, (torch.zeros(2, 3), torch.zeros(2).long(), *args), kwargs, torch.zeros(()))

    plain = call()
    assert alike(plain, call(reduction="sum", ignore_index=-100))
    assert alike(call(torch.ones(3)), call(weight=torch.ones(3)))
    assert not alike(plain, call(label_smoothing=0.1))
    assert not alike(plain, call(weight=torch.ones(3)))
    assert not alike(plain, call(function=functional.nll_loss))


def test_a_loss_that_fell_before_it_rose_is_no_accuracy() -> None:
    fell = np.array([0.68, 0.55, 0.7, 0.95])
    assert unlike(fell, 0.69, said=False) is None
    rose = unlike(fell[1:], 0.69, said=False)
    assert rose is not None
    assert "which an accuracy does too" in rose
    assert unlike(fell[1:], 0.69, said=True) is None
    assert "can be negative" in (unlike(fell, -1.0, said=True) or "")
