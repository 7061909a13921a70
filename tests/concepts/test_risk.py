"""Concepts 8 and 10: risk and its standard error; bias, variance, and the learning curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

import downslope as ds
from downslope.objectives import cross_entropy


def test_the_standard_error_of_a_measured_loss_is_its_spread_over_draws_and_halves_at_four_times_n() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )
    run = ds.fit(problem, ds.Recipe(lr=3e-3, epochs=2), folder=False, progress=False)
    model, (x, y) = run.model(), digits.valid
    with torch.no_grad():
        output = model(x)
    probabilities = output.double().softmax(1).numpy()
    assert run.summary["valid_loss"] == pytest.approx(log_loss(y, probabilities, labels=range(10)), rel=1e-5)
    each = cross_entropy(output, y, reduction="none").numpy()
    error = run.summary["valid_loss_stderr"]
    assert error == pytest.approx(each.std(ddof=1) / math.sqrt(len(y)), rel=1e-5)
    draw = np.random.default_rng(0)
    means = {n: [draw.choice(each, n).mean() for _ in range(4000)] for n in (len(y), 4 * len(y))}
    assert np.std(means[len(y)]) == pytest.approx(error, rel=0.05)
    assert np.std(means[4 * len(y)]) == pytest.approx(error / 2, rel=0.05)
    right = run.summary["valid_metric"]
    wanted = math.sqrt(right * (1 - right) / (len(y) - 1))
    assert run.summary["valid_metric_stderr"] == pytest.approx(wanted, rel=1e-6)


def test_the_validation_error_is_achievable_plus_bias_plus_variance_in_every_class() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=tuple(each[:300] for each in digits.train),
        valid=digits.valid, metric="accuracy", goal=0.98,
    )  # fmt: skip
    run = ds.fit(problem, ds.Recipe(lr=3e-3, epochs=5), folder=False, progress=False)
    table = ds.bias_variance(run)
    assert len(table.groups) == 10
    model = run.model()
    for part, source in (("train", problem.train), ("valid", problem.valid)):
        x, y = source.batch
        wrong = (model(x).argmax(1) != y).numpy()
        for row in table.groups:
            assert getattr(row, part)[0] == pytest.approx(wrong[y.numpy() == int(row.group)].mean())
        assert getattr(table.all, part)[0] == pytest.approx(1 - run.summary[f"{part}_metric"])
    for row in (table.all, *table.groups):
        assert row.achievable == pytest.approx(0.02)
        assert row.valid[0] == pytest.approx(row.achievable + row.bias + row.variance)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_learning_curve_of_a_network_is_that_of_scikit_learns_within_its_spread() -> None:
    digits = ds.data.digits(scale=16)
    x, y = (torch.cat([a, b]) for a, b in zip(digits.train, digits.valid, strict=True))
    problem = ds.Problem(
        model="mlp", arguments={"width": 64, "depth": 1}, objective="cross_entropy", metric="accuracy",
        train=(x[:1200], y[:1200]), valid=(x[1200:], y[1200:]),
    )  # fmt: skip
    sizes = (0.05, 0.2, 1.0)
    recipe = ds.Recipe(lr=3e-3, steps=300, batch_size=50)
    curve = ds.learning_curve(problem, recipe, fractions=sizes, seeds=3, progress=False)
    peers = []
    for run in curve.runs:
        own, its = run.problem.train_source.batch
        epochs = 300 // -(-len(own) // 50)
        peer = MLPClassifier(
            (64,), learning_rate_init=3e-3, batch_size=50, max_iter=epochs, alpha=0, tol=0,
            n_iter_no_change=epochs, random_state=0,
        )  # fmt: skip
        peer.fit(own.numpy(), its.numpy())
        peers.append(1 - peer.score(x[1200:].numpy(), y[1200:].numpy()))
    ours = curve.valid.mean(1)
    assert (np.diff(ours) < 0).all()
    for mean, theirs in zip(ours, np.reshape(peers, (3, 3)).mean(1), strict=True):
        assert mean == pytest.approx(theirs, abs=max(0.3 * theirs, 0.02))
    assert curve.verdict in ("more data helps", "cannot tell")
