"""When a run ends, computed by hand from the same run without the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, mean_absolute_error

import downslope as ds

DIGITS = ds.data.digits(scale=16)
CLASSES = ds.Problem(
    model="mlp",
    objective="cross_entropy",
    train=DIGITS.train,
    valid=DIGITS.valid,
    metric="accuracy",
)
ADAM = ds.Recipe(optimizer="adam", lr=3e-3, epochs=12)
DIABETES = ds.data.diabetes(standardise=True)
NUMBERS = ds.Problem(
    model="mlp", objective="squared_error", train=DIABETES.train, valid=DIABETES.valid, metric="mae"
)
LONG = ds.Recipe(optimizer="adam", lr=0.01, epochs=80, batch_size=32)


def fit(problem: ds.Problem, recipe: ds.Recipe) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


def test_a_run_stops_at_the_first_epoch_that_reaches_the_goal() -> None:
    free = fit(CLASSES, ADAM).history.series("valid_metric")
    goal = 0.95
    first = int(free.steps[np.argmax(free.values >= goal)])
    run = fit(CLASSES.edit(goal=goal), ADAM)
    assert run.status == "goal"
    assert run.summary["steps"] == first < free.steps[-1]
    x, y = DIGITS.valid
    with torch.no_grad():
        assert accuracy_score(y, run.model()(x).argmax(1)) >= goal


def test_a_run_that_does_not_reach_its_goal_ends_as_done() -> None:
    run = fit(CLASSES.edit(goal=1.0), ADAM.edit(epochs=2))
    assert run.status == "done"
    assert run.summary["valid_metric"] < 1.0


def test_a_goal_on_an_error_is_reached_from_above() -> None:
    free = fit(NUMBERS, LONG).history.series("valid_metric")
    run = fit(NUMBERS.edit(goal=46.0), LONG)
    assert run.status == "goal"
    assert run.summary["steps"] == int(free.steps[np.argmax(free.values <= 46.0)])


@pytest.mark.parametrize("patience", [5, 15])
def test_early_stopping_ends_patience_epochs_after_the_best_measure_and_returns_its_weights(
    patience: int,
) -> None:
    free = fit(NUMBERS, LONG).history
    measure = free.series("valid_metric").values  # one value an epoch, from the untrained model on
    best = last = 0
    for t in range(1, len(measure)):
        last = t
        if measure[t] < measure[best]:
            best = t
        elif t - best == patience:
            break
    assert last < len(measure) - 1
    run = fit(NUMBERS, LONG.edit(patience=patience))
    per_epoch = -(-len(DIABETES.train[0]) // 32)
    assert run.status == "early-stopped"
    assert run.summary["steps"] == last * per_epoch
    assert run.summary["best_step"] == best * per_epoch
    x, y = DIABETES.valid
    with torch.no_grad():
        kept = mean_absolute_error(y, run.model("best")(x)[:, 0])
        final = mean_absolute_error(y, run.model("last")(x)[:, 0])
    assert kept == pytest.approx(measure[best], rel=1e-5)
    assert final == pytest.approx(measure[last], rel=1e-5)
    assert kept < final


def test_the_measure_decides_and_not_the_surrogate() -> None:
    history = fit(NUMBERS, LONG).history
    of_measure = int(np.argmin(history.series("valid_metric").values))
    of_cost = int(np.argmin(history.series("valid_loss").values))
    assert of_measure != of_cost
    assert fit(NUMBERS, LONG).summary["best_step"] == history.series("valid_metric").steps[of_measure]
    alone = fit(NUMBERS.edit(metric=None), LONG)
    assert alone.summary["best_step"] == history.series("valid_loss").steps[of_cost]


def test_it_stops_while_the_training_cost_still_has_a_large_gradient() -> None:
    run = fit(NUMBERS, LONG.edit(patience=15))
    norms = [gradient_norm(which) for which in (run.model("last"), NUMBERS.build(0))]
    assert norms[0] > 0.2 * norms[1]
    longer = fit(NUMBERS, LONG.edit(epochs=200))
    costs = [each.history.series("train_epoch_loss").values[-10:].mean() for each in (run, longer)]
    assert costs[1] < 0.9 * costs[0]  # the cost could have fallen further, and the measure would not
    assert longer.history.last("valid_metric") > run.summary["valid_metric"]


def gradient_norm(model: torch.nn.Module) -> float:
    """Norm of the gradient of the training cost."""
    x, y = DIABETES.train
    cost = torch.nn.functional.mse_loss(model(x)[:, 0], y)
    return float(torch.cat([g.ravel() for g in torch.autograd.grad(cost, list(model.parameters()))]).norm())
