"""Averages of the weights against numpy's mean of the weights themselves, torch's `update_bn`, and theory."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import IterableDataset

import downslope as ds
from downslope.core.batches import default_split
from downslope.core.errors import RecipeError
from downslope.training.average import measure_norms
from downslope.training.evaluate import evaluate
from tests.training.problems import N, after_steps, data, mlp, regression, same_history, same_state

HOW: dict[str, Any] = {
    "optimizer": "sgd", "lr": 0.05, "batch_size": 16, "epochs": 8, "seed": 1, "precision": "float64",
}  # fmt: skip
STEPS = 32
"""Eight epochs of four batches."""


def normed(dropout: float = 0.5) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6),
        nn.BatchNorm1d(6), nn.Linear(6, 1),
    )  # fmt: skip


def flat(model: nn.Module) -> np.ndarray[Any, Any]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double().numpy()


def followed(**said: Any) -> tuple[ds.Run, np.ndarray[Any, Any]]:
    """A run, and the weights after each of its steps."""
    seen: list[np.ndarray[Any, Any]] = []
    problem = regression(valid=None, model=normed, **said.pop("problem", {}))
    with after_steps(lambda model: seen.append(flat(model).copy())):
        run = ds.fit(problem, ds.Recipe(**(HOW | said)), folder=False, progress=False, observe=0)
    return run, np.stack(seen)


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"average": "polyak"}, range(1, 33)),
        ({"average": "polyak", "average_from": 0.5}, range(16, 33)),
        ({"average": "polyak", "average_from": 0.3, "average_every": 5}, range(10, 33, 5)),
        ({"average": "swa"}, (24, 28, 32)),
        ({"average": "swa", "average_from": 0.45}, (16, 20, 24, 28, 32)),
        ({"average": "swa", "average_from": 0.0, "average_every": 8}, (8, 16, 24, 32)),
        ({"average": "swa", "average_from": 0.9}, (29, 30, 31, 32)),  # no two ends of an epoch are left
        (
            {"average": "swa", "schedule": "cyclic", "average_from": 0.5},
            range(18, 33, 3),
        ),  # ten cycles of three
        ({"average": "swa", "schedule": "cyclic", "warmup": 2, "average_from": 0.5}, range(17, 33, 3)),
    ],
    ids=str,
)
def test_the_plain_averages_are_numpys_mean_of_the_weights_themselves(
    said: dict[str, Any], steps: Any
) -> None:
    run, weights = followed(**said)
    assert len(weights) == STEPS
    expected = weights[np.array(list(steps)) - 1].mean(0)
    np.testing.assert_allclose(flat(run.model()), expected, rtol=1e-12, atol=1e-14)


def test_the_rate_of_a_cycle_falls_and_the_average_takes_the_weights_at_its_lowest() -> None:
    run, _ = followed(average="swa", schedule="cyclic", average_from=0.5)
    rates = run.history.series("lr").values
    np.testing.assert_allclose(rates[:6], [0.05, 0.0275, 0.005] * 2)
    taken = rates[np.arange(18, 33, 3) - 1]
    np.testing.assert_allclose(taken, 0.005)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_exponential_average_has_the_decay_that_the_recipe_gives(decay: float) -> None:
    run, weights = followed(average="ema", average_decay=decay, average_from=0.25)
    mean = weights[7]
    for count, now in enumerate(weights[8:], start=1):
        d = min(decay, (1 + count) / (10 + count))
        mean = d * mean + (1 - d) * now
    np.testing.assert_allclose(flat(run.model()), mean, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["ema", "polyak", "swa"])
def test_averaging_and_its_passes_over_the_data_leave_the_training_as_it_was(kind: Any) -> None:
    """Dropout, batch order, running statistics of the trained model: nothing of it moves."""
    plain, weights = followed()
    run, also = followed(average=kind)
    np.testing.assert_array_equal(weights, also)
    assert (
        run.history.series("train_loss").values.tobytes()
        == plain.history.series("train_loss").values.tobytes()
    )


@pytest.mark.parametrize("kind", ["ema", "polyak", "swa"])
def test_the_average_of_weights_that_stand_still_is_these_weights(kind: Any) -> None:
    run, weights = followed(average=kind, lr=0.0)
    np.testing.assert_array_equal(flat(run.model()), weights[0])


@pytest.mark.parametrize("kind", ["ema", "polyak", "swa"])
def test_batch_norms_statistics_are_those_of_a_pass_over_the_training_data(kind: Any) -> None:
    """By numpy for the first norm; by torch's update_bn, without dropout, of whole batches, for all."""
    run, _ = followed(average=kind)
    model = run.model()
    source = regression().train_source.to(torch.device("cpu"), torch.float64)  # type: ignore[attr-defined]
    parts = list(source.epoch(16, 1, 0))
    sizes = [len(batch[0]) for batch in parts]
    assert sum(sizes) == N
    assert sizes[-1] < 16
    weight, bias = (each.detach().numpy() for each in model[0].parameters())
    z = [batch[0].numpy() @ weight.T + bias for batch in parts]
    np.testing.assert_allclose(model[1].running_mean, np.concatenate(z).mean(0), rtol=1e-10)
    variances = np.average([each.var(0, ddof=1) for each in z], axis=0, weights=sizes)
    np.testing.assert_allclose(model[1].running_var, variances, rtol=1e-10)
    assert model[1].momentum == 0.1
    whole, twin = [batch for batch in parts if len(batch[0]) == 16], copy.deepcopy(model)
    twin[3].p = 0.0
    update_bn([batch[0] for batch in whole], twin)
    measure_norms(model, model.train(), lambda: iter(whole), default_split)
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        np.testing.assert_allclose(a.double(), b.double(), rtol=1e-10)


def test_what_is_handed_out_lies_in_the_constraint_though_an_average_of_its_points_does_not() -> None:
    kept: list[Tensor] = []
    problem = regression(model=lambda: nn.Linear(4, 3), objective=lambda out, y: (out - y).pow(2).mean(),
                         metric=None, constraint="orthogonal")  # fmt: skip
    recipe = ds.Recipe(**(HOW | {"average": "swa", "average_from": 0.0, "lr": 0.3}))
    with after_steps(lambda model: kept.append(model.weight.detach().clone())):  # type: ignore[arg-type]
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    mean, eye = torch.stack(kept[3::4]).mean(0), torch.eye(3, dtype=torch.float64)
    assert not torch.allclose(mean @ mean.T, eye, atol=1e-3)
    weight = run.model("last").weight.detach().double()
    torch.testing.assert_close(weight @ weight.T, eye, atol=1e-6, rtol=0)
    u, _, v = torch.linalg.svd(mean, full_matrices=False)
    torch.testing.assert_close(weight, u @ v, atol=1e-6, rtol=0)


def test_what_is_judged_and_handed_out_is_the_average_with_its_statistics() -> None:
    problem = regression(model=normed)
    recipe = ds.Recipe(**(HOW | {"epochs": 12, "average": "swa", "average_from": 0.3}))
    run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    for which, index in (("last", -1), ("best", None)):
        values = run.history.series("valid_metric")
        expected = values.values[-1] if index else values.values.max()
        problem64 = regression(model=normed)
        found = evaluate(problem64, run.model(which), problem64.valid_source)
        assert found.metric == pytest.approx(float(expected), rel=1e-9)


def test_a_norm_that_training_holds_in_eval_mode_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    trained = normed().train()
    trained[1].eval()
    model = copy.deepcopy(trained)
    before = [each.clone() for each in model[1].buffers()]
    x = torch.randn(32, 4)
    measure_norms(model, trained, lambda: iter([(x, x[:, :1])]), default_split)
    assert all(torch.equal(a, b) for a, b in zip(model[1].buffers(), before, strict=True))
    assert not torch.equal(model[5].running_mean, torch.zeros(6))
    assert model.training
    assert not model[1].training


class Noisy(nn.Module):
    """One weight for each of many one-dimensional quadratics."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, size))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def test_on_a_noisy_quadratic_the_variance_falls_as_theory_says() -> None:
    """w <- (1 - a h) w - a e: s^2 = a sigma^2 / (h (2 - a h)) at rest; of the mean of k the AR(1) formula."""
    h, a, steps, size = 1.0, 0.4, 1200, 4000
    e = torch.randn(steps, size, generator=torch.Generator().manual_seed(0))

    def quadratic(output: Tensor, target: Tensor) -> Tensor:
        return (0.5 * h * output**2 + target * output).sum(1).mean()

    problem = ds.Problem(model=lambda: Noisy(size), objective=quadratic, train=(e[:, :1], e))
    recipe = ds.Recipe(optimizer="sgd", lr=a, batch_size=1, epochs=1)
    rho = 1 - a * h
    rest = a / (h * (2 - a * h))
    last = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model()
    assert float(last.w.detach().var()) == pytest.approx(rest, rel=4 * math.sqrt(2 / size))
    for share in (0.9, 0.5):
        average = recipe.edit(average="polyak", average_from=share)
        mean = ds.fit(problem, average, folder=False, progress=False, observe=0).model()
        k = steps - int(steps * share) + 1
        theory = rest / k * ((1 + rho) / (1 - rho) - 2 * rho * (1 - rho**k) / (k * (1 - rho) ** 2))
        assert float(mean.w.detach().var()) == pytest.approx(theory, rel=4 * math.sqrt(2 / size))
        assert theory == pytest.approx(
            1 / (h**2 * k), rel=0.05
        )  # whatever the rate (Polyak and Juditsky 1992)


def test_a_run_that_ends_before_its_average_begins_says_so(caplog: pytest.LogCaptureFixture) -> None:
    problem = regression(model=mlp, goal=-1e9, metric="r2")
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem, ds.Recipe(**(HOW | {"average": "swa"})), folder=False, progress=False)
    assert run.status == "goal"
    assert (
        "average='swa' begins at step 24, and the run ended at step 4: its model is not averaged"
        in caplog.text
    )
    plain = ds.fit(problem, ds.Recipe(**HOW), folder=False, progress=False)
    assert same_state(run.state("last"), plain.state("last"))
    assert same_history(run, plain)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        x, y = data(64)
        return iter(zip(x, y, strict=True))


def test_data_without_a_length_has_no_last_quarter_but_an_average_from_the_start() -> None:
    problem = regression(train=Stream(), valid=None)
    with pytest.raises(RecipeError, match=r"begins after 0\.75 of the run.*give steps= instead"):
        ds.fit(problem, ds.Recipe(**(HOW | {"average": "swa", "epochs": 2})), folder=False, progress=False)
    recipe = ds.Recipe(**(HOW | {"average": "swa", "average_from": 0, "epochs": 2}))
    assert ds.fit(problem, recipe, folder=False, progress=False).status == "done"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"average": "mean"}, "average='mean': must be 'ema', 'polyak' or 'swa'"),
        ({"average": "swa", "average_from": 1.0}, r"average_from=1\.0: must be a number in \[0, 1\)"),
        ({"average": "swa", "average_every": 0}, r"average_every=0: must be an integer in \[1, inf\)"),
        ({"average": "ema", "average_decay": 1.0}, r"average_decay=1\.0: must be a number in \[0, 1\)"),
        (
            {"average_from": 0.5},
            r"belongs to average= \(ema, polyak or swa\), and average is None",
        ),
        (
            {"average": "swa", "average_decay": 0.9},
            "average_decay=0.9 belongs to average='ema'",
        ),
        ({"swa_start": 0.9}, "did you mean 'average_from'"),
    ],
)
def test_settings_of_an_average_outside_their_domain_are_told(said: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        ds.Recipe(**(HOW | said))


def test_the_run_says_what_was_averaged_and_what_it_cost() -> None:
    run, _ = followed(average="swa")
    assert run.choices["average"] == (
        "swa, every 4 steps from step 24; batch norm measured anew by a pass over the training data before "
        "each evaluation"
    )
