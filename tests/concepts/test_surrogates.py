"""The measure P and the cost J that stands in for it: as functions of the margin, and in runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

import downslope as ds
from downslope.core.errors import ObjectiveError

MARGINS = np.linspace(-3, 3, 121)
ZERO_ONE = (MARGINS <= 0).astype(float)


def over_the_margin(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope of an objective for one positive example of every margin, in units of the 0-1 loss."""
    values, slopes = [], []
    for margin in MARGINS:
        z = torch.tensor([margin], requires_grad=True)
        if name == "cross_entropy":  # two classes, the score of the right one is ahead by the margin
            loss = ds.objectives.cross_entropy(torch.stack([-z / 2, z / 2], 1), torch.tensor([1])) / np.log(2)
        elif name == "logistic":
            loss = ds.objectives.logistic(z, torch.tensor([1.0])) / np.log(2)
        else:
            loss = ds.objectives.hinge(z, torch.tensor([1.0]))
        values.append(float(loss.detach()))
        slopes.append(float(torch.autograd.grad(loss, z)[0]))
    return np.array(values), np.array(slopes)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("hinge", np.maximum(0, 1 - MARGINS)),
        ("logistic", np.log1p(np.exp(-MARGINS)) / np.log(2)),
        ("cross_entropy", np.log1p(np.exp(-MARGINS)) / np.log(2)),
    ],
)
def test_a_surrogate_lies_above_the_zero_one_loss_and_has_a_slope_where_that_has_none(
    name: str, formula: np.ndarray
) -> None:
    values, slopes = over_the_margin(name)
    np.testing.assert_allclose(values, formula, rtol=1e-6, atol=1e-7)
    assert np.all(values >= ZERO_ONE - 1e-9)
    assert np.all(slopes[MARGINS < 0] < -0.5)


CANCER = ds.data.breast_cancer(standardise=True)


def wrong(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The 0-1 loss."""
    return ((output[:, 0] > 0) != (target > 0)).float().mean()


@pytest.mark.parametrize("objective", ["logistic", "hinge", "cross_entropy"])
def test_the_fall_of_a_surrogate_drags_the_zero_one_loss_down(objective: str) -> None:
    x, y = CANCER.train
    two = objective == "cross_entropy"
    target = y if two else y.float()
    problem = ds.Problem(model="softmax" if two else "logistic", objective=objective, train=(x, target))
    recipe = ds.Recipe(optimizer="gd", lr=0.1, steps=200, init="zeros")
    model = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model()
    with torch.no_grad():
        z = model(x)
    said = z.argmax(1) if two else (z[:, 0] > 0).long()
    assert accuracy_score(y, said) > 0.97


def test_the_zero_one_loss_itself_cannot_be_descended() -> None:
    x, y = CANCER.train
    problem = ds.Problem(model="logistic", objective=wrong, train=(x, y.float()))
    with pytest.raises(ObjectiveError, match="no gradient"):
        ds.fit(problem, ds.Recipe(steps=1), folder=False, progress=False)


def test_the_cost_goes_on_falling_when_the_measure_no_longer_moves() -> None:
    x, y = CANCER.train
    problem = ds.Problem(
        model="logistic", objective="logistic", train=(x, y.float()), valid=(x, y.float()), metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="gd", lr=0.2, steps=1500)
    history = ds.fit(problem, recipe, folder=False, progress=False, observe=0).history
    cost = history.series("valid_loss").values[-300:]
    measure = history.series("valid_metric").values[-300:]
    assert np.all(np.diff(cost) < 0)
    assert measure.min() == measure.max()


def test_the_measure_can_get_worse_while_the_cost_falls() -> None:
    """One far outlier: the logistic loss of its margin outweighs four examples that are right."""
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0], [-20.0]])
    y = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    problem = ds.Problem(model=model, objective="logistic", train=(x, y))
    costs = []
    errors = []
    for steps in (1, 5, 100):
        recipe = ds.Recipe(optimizer="gd", lr=0.05, steps=steps)
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        w = float(run.model().weight.detach())
        costs.append(run.summary["train_loss"])
        errors.append(int(np.sum((w * x.numpy()[:, 0] > 0) != (y.numpy() > 0))))
    first = np.log1p(np.exp(-np.array([2, 1, 1, 2, -20.0]))).mean()
    assert first > costs[0] > costs[1] > costs[2]
    assert errors[0] == 1
    assert errors[2] == 4
