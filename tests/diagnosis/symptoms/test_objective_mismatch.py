from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import DataError
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure.objective import measure
from downslope.diagnosis.symptoms import objective_mismatch
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import (
    Functional,
    Pair,
    classes,
    diagnosed,
    found,
    net,
    numbers,
    problem,
    recipe,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")


def flat(data: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    (x, y), (xv, yv) = data
    return (x, y[:, 0]), (xv, yv[:, 0])


def squared(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).mean()


def upside_down(output: Tensor, target: Tensor) -> Tensor:
    return -functional.cross_entropy(output, target)


@pytest.mark.parametrize("objective", [nn.MSELoss(), squared, nn.L1Loss()], ids=["module", "own", "absolute"])
def test_an_output_broadcast_against_its_target_is_named(objective: object) -> None:
    result = diagnosed(problem(flat(numbers()), lambda: Functional(6, 1), objective, "r2"), recipe(epochs=40))
    assert result.root is not None
    assert result.root.symptom == "objective-mismatch"
    assert result.root.severity == "critical"


@pytest.mark.parametrize("mean", [0.0, 15.0, -300.0])
def test_a_broadcast_is_told_where_the_first_output_is_the_same_for_every_example(mean: float) -> None:
    """Its loss is then the same in either shape, and only an output that goes with the target tells."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 1, generator=generator), mean + torch.randn(40, generator=generator)

    def flat_start() -> nn.Module:
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        return model

    for target, crossed in ((y, True), (y[:, None], False)):
        task = problem(((x, target), (x, target)), flat_start, squared, None)
        finding = found(diagnosed(task, recipe(steps=2)), "objective-mismatch")
        assert (finding is not None) is crossed


def test_the_remedy_lets_the_broadcast_problem_learn_what_its_twin_does() -> None:
    sick = problem(flat(numbers()), lambda: net(6, 1), squared, "r2")
    remedy = diagnosed(sick, recipe(epochs=40)).findings[0].remedies[0]
    cured, how = remedy.apply(sick, recipe(epochs=40))
    assert diagnosed(cured, how).healthy


def test_the_relative_difference_is_that_of_the_two_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(40, 1, generator=generator), torch.randn(40, generator=generator)
    y = 3 * x[:, 0] + noise  # so that it goes with the first output
    task = problem(((x, y), (x, y)), lambda: nn.Linear(1, 1), squared, None)
    result = diagnosed(task, recipe(steps=2))
    model = task.build(0)
    out = model(x).detach()
    one, all_pairs = float(((out[:, 0] - y) ** 2).mean()), float(((out - y) ** 2).mean())
    finding = found(result, "objective-mismatch")
    assert finding is not None
    assert finding.evidence.value == pytest.approx(abs(all_pairs - one) / one, rel=1e-4)


def test_a_sign_turned_round_is_named() -> None:
    result = diagnosed(problem(classes(), lambda: net(12, 4), upside_down, "accuracy"), recipe(epochs=8))
    assert result.root is not None
    assert result.root.symptom == "objective-mismatch"
    assert str(result.root.remedies[0]) == "objective -> cross_entropy"


@pytest.mark.parametrize(
    "objective",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.2, weight=torch.tensor([0.5, 1.0, 1.5, 2.0])),
        nn.MultiMarginLoss(),
        lambda o, t: functional.mse_loss(o, functional.one_hot(t, 4).float()),
    ],
    ids=["cross-entropy", "smoothed", "margin", "one-hot squares"],
)
def test_objectives_that_stand_for_the_metric_are_clear(objective: object) -> None:
    result = diagnosed(problem(classes(), lambda: net(12, 4), objective, "accuracy"), recipe())
    assert result.healthy
    assert "objective-mismatch" in dict(result.cleared)


@pytest.mark.parametrize("metric", ["r2", "mae", "mse"])
def test_a_regression_is_clear_by_any_metric(metric: str) -> None:
    task = problem(numbers(), lambda: Functional(6, 1), nn.HuberLoss(), metric)
    result = diagnosed(task, recipe(epochs=40))
    assert result.healthy
    assert "objective-mismatch" in dict(result.cleared)


def test_our_own_objectives_align_and_so_are_clear() -> None:
    result = diagnosed(problem(flat(numbers()), lambda: net(6, 1), "mse", "r2"), recipe(epochs=40))
    assert result.healthy


def test_a_free_output_that_comes_half_way_is_no_mismatch() -> None:
    made = run(objective={"value": 1.0, "gradient": 1.0, "followed": 0.55, "guess": 0.1})
    assert "objective-mismatch" in dict(judge(made).cleared)


def test_an_empty_and_a_broken_run_raise_nothing() -> None:
    for made in (Run(), run([float("nan")] * 3, objective={})):
        assert all(each.symptom != "objective-mismatch" for each in judge(made).findings)
    assert objective_mismatch(run(objective={"value": float("nan"), "aligned": 1.0}))


def yes_or_no(low: float, high: float) -> tuple[Pair, Pair]:
    (x, y), (xv, yv) = numbers()
    return (x, torch.where(y > 0, high, low)), (xv, torch.where(yv > 0, high, low))


def own_logistic(output: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output[:, 0], target[:, 0])


@pytest.mark.parametrize("objective", ["logistic", nn.BCEWithLogitsLoss(), own_logistic])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (1.0, 2.0)])
def test_targets_that_a_logistic_loss_has_no_floor_for_are_told(
    objective: object, low: float, high: float
) -> None:
    result = diagnosed(problem(yes_or_no(low, high), lambda: net(6, 1), objective, None), recipe(epochs=5))
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("objective-mismatch", "critical")
    assert f"{low:g} and {high:g}, the objective wants 0 to 1" in result.root.message


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.1, 0.9)], ids=["plain", "soft"])
def test_targets_from_zero_to_one_are_what_a_logistic_loss_wants(low: float, high: float) -> None:
    task = problem(yes_or_no(low, high), lambda: net(6, 1), own_logistic, None)
    assert diagnosed(task, recipe(epochs=20)).healthy


def test_the_objective_for_signs_is_the_remedy_for_signs_and_learns() -> None:
    task = problem(yes_or_no(-1.0, 1.0), lambda: net(6, 1), "logistic", None)
    finding = diagnosed(task, recipe(epochs=5)).findings[0]
    cured, how = finding.remedies[0].apply(task, recipe(epochs=20))
    assert diagnosed(cured, how).healthy


def test_fit_refuses_such_targets(tmp_path: Path) -> None:
    task = problem(yes_or_no(-1.0, 1.0), lambda: net(6, 1), "logistic", None)
    with pytest.raises(DataError, match="wants 0 to 1"):
        ds.fit(task, recipe(epochs=1), folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    task = problem(yes_or_no(0.0, 1.0), lambda: net(6, 1), "logistic", None)
    ds.fit(task, recipe(epochs=1), folder=tmp_path / "run", progress=False)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e10])
@pytest.mark.parametrize(
    "objective", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss()], ids=["squared", "absolute", "huber"]
)
def test_targets_of_any_size_are_reached_by_an_output_that_follows_the_objective(
    size: float, objective: nn.Module
) -> None:
    """Single precision carries 7 digits: a descent in units of 1 never comes to targets of 1e10."""
    data = tuple((x, size * (y + 3.0)) for x, y in numbers())
    asked = problem(data, lambda: net(6, 1), objective, "r2")
    told = measure(run(), asked, recipe())
    assert told is not None
    assert told["followed"] > 0.99
