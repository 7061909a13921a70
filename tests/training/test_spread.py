"""Standard errors over examples: coverage over draws, halved by four times the examples, or not known."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import names
from downslope.objectives.metrics import accuracy, auc, metric
from downslope.terrain import noise_scale
from downslope.training.evaluate import evaluate
from tests.training.problems import classification, labels, mlp, regression


def population(n: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    return x, (x[:, 0] + torch.randn(n, generator=g) > 0).long()


def of_draws(problem: Any, model: nn.Module, n: int, draws: int) -> tuple[Tensor, Tensor]:
    """Value and error of loss and metric, each shape (draws, 2)."""
    found = [evaluate(problem(population(n, 100 + i)), model) for i in range(draws)]
    values = torch.tensor([[each.loss, each.metric] for each in found], dtype=torch.float64)
    return values, torch.tensor([[each.stderr, each.metric_stderr] for each in found], dtype=torch.float64)


@pytest.mark.parametrize("measure", ["accuracy", "error", "balanced_accuracy", "f1", "auc"])
def test_intervals_of_two_errors_hold_the_truth_in_95_of_100_draws(measure: str) -> None:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.5, 0.1, 0.0, 0.0], [0.5, 0.0, 0.2, 0.0]]))

    def problem(train: Any) -> ds.Problem:
        return classification(train=train, metric=measure)

    truth = evaluate(problem(population(200_000, 1)), model)
    values, errors = of_draws(problem, model, 150, 400)
    inside = ((values - torch.tensor([truth.loss, truth.metric])).abs() < 1.96 * errors).double().mean(0)
    assert (inside > 0.91).all()  # of 400 draws 95 % has an error of 1.1 %
    assert (inside < 0.985).all()


@pytest.mark.parametrize("measure", ["mse", "rmse", "mae", "r2"])
def test_errors_of_measures_of_regression_are_their_spread_over_draws(measure: str) -> None:
    torch.manual_seed(0)
    model = mlp()

    def problem(train: Any) -> ds.Problem:
        x, _ = train
        g = torch.Generator().manual_seed(int(x[0, 0] * 1e6) % 2**31)
        return regression(train=(x, x[:, :1] + torch.randn(len(x), 1, generator=g)), metric=measure)

    values, errors = of_draws(problem, model, 150, 300)
    assert errors.mean(0).tolist() == pytest.approx(values.std(0).tolist(), rel=0.15)


def test_four_times_the_examples_halve_the_error() -> None:
    torch.manual_seed(0)
    model = mlp(outputs=2)
    few, many = (
        of_draws(lambda train: classification(train=train), model, n, 40)[1].mean(0) for n in (200, 800)
    )
    assert (few / many).tolist() == pytest.approx([2.0, 2.0], rel=0.05)


def test_four_times_the_batch_halve_the_error_of_the_gradient() -> None:
    torch.manual_seed(0)
    model = mlp(outputs=2)

    def error(size: int) -> float:
        rows = []
        for i in range(200):
            x, y = population(size, i)
            loss = nn.functional.cross_entropy(model(x), y)
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        g = torch.stack(rows)
        spread = float((g - g.mean(0)).square().sum(1).mean().sqrt())
        # sigma / sqrt(n), sigma**2 the trace of the covariance of one example
        assert spread == pytest.approx(math.sqrt(noise_scale(g, size).trace / size), rel=0.01)
        return spread

    assert error(16) / error(64) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("name", sorted(names.TABLE["metric"]))
def test_what_the_examples_contribute_has_the_metric_for_its_mean(name: str) -> None:
    own = names.resolve("metric", name)
    g = torch.Generator().manual_seed(2)
    output, target = torch.randn(50, 3, generator=g), torch.randint(0, 3, (50,), generator=g)
    if name in ("mse", "rmse", "mae", "r2"):
        target = torch.randn(50, 3, generator=g)
    elif name in ("f1", "auc"):
        both = (output[:, 0], (target > 0).long())
        assert float(own.shares(*both).mean()) == pytest.approx(own(*both), abs=1e-12)
    assert float(own.shares(output, target).mean()) == pytest.approx(own(output, target), abs=1e-6)
    assert own.shares(output, target).shape == (50,)


def test_the_errors_of_an_auc_are_delongs() -> None:
    score = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.7, 0.2, 0.9, 0.4])
    truth = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    yes, no = score[truth == 1].double(), score[truth == 0].double()
    wins = (yes[:, None] > no[None]).double() + 0.5 * (yes[:, None] == no[None]).double()
    shares = auc.shares(score, truth)
    assert float(shares.mean()) == pytest.approx(float(wins.mean()))
    ours = float((shares - shares.mean()).square().sum()) / 8**2
    delong = sum(float((v - wins.mean()).square().sum()) / len(v) ** 2 for v in (wins.mean(1), wins.mean(0)))
    assert ours == pytest.approx(delong)


def test_a_share_of_all_has_the_error_of_half_an_example() -> None:
    class Right(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([-x[:, 0], x[:, 0]], 1)

    x, _ = labels()
    found = evaluate(classification(train=(x, (x[:, 0] > 0).long())), Right())
    assert found.metric == 1.0
    assert found.metric_stderr == pytest.approx(0.5 / 50)


def test_an_objective_that_is_no_mean_has_the_error_of_its_batches() -> None:
    def ranked(output: Tensor, target: Tensor) -> Tensor:
        return (output.sort(0).values - target.double().sort(0).values[:, None]).square().mean()

    problem, model = classification(objective=ranked, metric=None), mlp(outputs=2)
    found = evaluate(problem, model, batch_size=10)
    assert found.over == "batches"
    x, y = problem.train.batch
    with torch.no_grad():
        parts = [float(ranked(model.eval()(a), b)) for a, b in zip(x.split(10), y.split(10), strict=True)]
    assert found.stderr == pytest.approx(float(torch.tensor(parts).std()) / math.sqrt(5), rel=1e-4)
    alone = evaluate(problem, model)
    assert alone.over is None
    assert math.isnan(alone.stderr)


def test_a_metric_of_ones_own_has_no_error_but_a_setting_of_ours_keeps_it() -> None:
    model = mlp(outputs=2)
    own = evaluate(classification(metric=lambda o, t: float((o.argmax(1) == t).float().mean())), model)
    assert math.isnan(own.metric_stderr)
    partial = functools.partial(accuracy, threshold=None)
    assert evaluate(classification(metric=partial), model).metric_stderr > 0

    @metric(goal="max", shares=lambda o, t: (o.argmax(1) == t).double())
    def marked(output: Tensor, target: Tensor) -> float:
        return float((output.argmax(1) == target).double().mean())

    p = evaluate(classification(metric=marked), model)
    assert p.metric_stderr == pytest.approx(math.sqrt(p.metric * (1 - p.metric) / 49), rel=1e-6)


def test_the_summary_of_a_run_has_the_errors_and_the_terminal_tells_them() -> None:
    from downslope.reporting import facts

    run = ds.fit(classification(), ds.Recipe(epochs=2), folder=False, progress=False)
    said = run.summary
    for key in ("train_loss", "train_metric", "valid_loss", "valid_metric"):
        assert said[f"{key}_stderr"] > 0
    assert f"+- {said['valid_metric_stderr']:.2f}" in facts.result(run)
    again = evaluate(classification(), run.model(), classification().valid_source)
    assert said["valid_loss_stderr"] == pytest.approx(again.stderr, rel=1e-6)
