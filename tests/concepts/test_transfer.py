"""When layers learnt on one task serve another: paired over draws, with intervals, and with the controls."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

import downslope as ds
from downslope.models import multi_task

(X, Y), (V, W) = ds.data.digits(scale=16).train, ds.data.digits(scale=16).valid
ODD, DRAWS, FEW, STEPS = 1000, 8, 10, 200
"""Digits are learnt on the first 1000 images; a draw's few labels of odd and even are of the 437 others."""


def fit(problem: ds.Problem, recipe: ds.Recipe) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


def problem(x: torch.Tensor, y: torch.Tensor, **more: Any) -> ds.Problem:
    return ds.Problem(model="mlp", objective="cross_entropy", metric="accuracy", train=(x, y), **more)


@functools.cache
def digits(draw: int, shuffled: bool) -> ds.Run:
    """A network that tells the ten digits; of the control their labels are shuffled."""
    y = Y[:ODD]
    if shuffled:
        y = y[torch.randperm(ODD, generator=torch.Generator().manual_seed(draw))]
    return fit(problem(X[:ODD], y), ds.Recipe(lr=3e-3, epochs=15, seed=draw))


@functools.cache
def accuracies(way: str, labels: int) -> np.ndarray:
    """Odd or even from `labels` images: the validation accuracy of every draw."""
    found: list[float] = []
    for draw in range(DRAWS):
        order = torch.randperm(len(X) - ODD, generator=torch.Generator().manual_seed(draw))[:labels] + ODD
        new = problem(X[order], Y[order] % 2)
        epochs = STEPS // -(-labels // 20)
        recipe = ds.Recipe(lr=3e-3, batch_size=min(labels, 20), epochs=epochs, seed=draw)
        start = digits(draw, shuffled="shuffled" in way)
        if "frozen" in way:
            features = ds.extract(new, start, progress=False)
            model = features.join(fit(features, recipe))
        elif way == "scratch":
            model = fit(new, recipe).model()
        else:
            gradual = {"layer_decay": 0.4, "unfreeze": epochs // 6} if "depth" in way else {}
            model = fit(new.edit(weights=start), recipe.edit(**gradual)).model()
        with torch.no_grad():
            found.append(float((model(V).argmax(1) == W % 2).float().mean()))
    return np.array(found)


def gain(way: str, labels: int) -> tuple[float, float]:
    """95 % t interval of what a way gains on a fresh network, paired by draw."""
    paired = accuracies(way, labels) - accuracies("scratch", labels)
    half = stats.t.ppf(0.975, DRAWS - 1) * paired.std(ddof=1) / np.sqrt(DRAWS)
    return paired.mean() - half, paired.mean() + half


@pytest.mark.parametrize("way", ["frozen", "fine", "depth"])
def test_with_few_labels_layers_of_a_task_that_shares_structure_pay(way: str) -> None:
    assert gain(way, FEW)[0] > 0


@pytest.mark.parametrize("way", ["shuffled frozen", "shuffled fine", "shuffled depth"])
def test_layers_that_learnt_shuffled_labels_do_not_pay(way: str) -> None:
    assert gain(way, FEW)[0] <= 0
    assert gain(way, FEW)[1] < gain(way.removeprefix("shuffled "), FEW)[1]


def test_with_many_labels_there_is_little_to_gain_and_frozen_layers_hold_back() -> None:
    assert gain("fine", 400)[1] < 0.5 * np.mean(gain("fine", FEW))
    assert gain("frozen", 400)[1] < 0


def test_digits_that_are_told_by_other_strokes_are_better_learnt_afresh() -> None:
    """A network that tells 0 to 4 is a worse start for 5 to 9 than none, with five labels of each."""
    low, lost = Y < 5, []
    held = W >= 5
    for draw in range(10):
        run = fit(problem(X[low], Y[low]), ds.Recipe(lr=3e-3, epochs=30, seed=draw))
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(draw))
        few = torch.cat([order[Y[order] == digit][:5] for digit in range(5, 10)])
        new = problem(X[few], Y[few] - 5)
        found: list[float] = []
        for start in (None, run):
            model = fit(
                new.edit(weights=start), ds.Recipe(lr=3e-3, batch_size=25, epochs=150, seed=draw)
            ).model()
            with torch.no_grad():
                found.append(float((model(V[held]).argmax(1) == W[held] - 5).float().mean()))
        lost.append(found[0] - found[1])
    half = stats.t.ppf(0.975, len(lost) - 1) * np.std(lost, ddof=1) / np.sqrt(len(lost))
    assert np.mean(lost) - half > 0, lost


def test_a_head_on_frozen_features_is_scikit_learns_logistic_regression_on_them() -> None:
    start = digits(0, shuffled=False)
    features = ds.extract(problem(X[ODD:], Y[ODD:] % 2), start, progress=False)
    features = features.edit(ds.edits.StandardiseInputs())
    phi = start.model()[:5](X[ODD:]).detach()
    l2 = 0.1
    run = fit(features, ds.Recipe(optimizer="gd", lr=0.05, weight_decay=l2, steps=3000))
    scaled = StandardScaler().fit_transform(phi)
    with torch.no_grad():
        ours = torch.softmax(run.model()(phi).double(), 1)[:, 1]
    # l2 / 2 (|w1|^2 + |w0|^2) is least at w1 = -w0 = w / 2, which is l2 / 4 |w|^2 of the logistic w = w1 - w0
    there = LogisticRegression(C=2 / (len(phi) * l2), tol=1e-9, max_iter=2000).fit(scaled, Y[ODD:] % 2)
    np.testing.assert_allclose(ours, there.predict_proba(scaled)[:, 1], atol=1e-4)


def test_a_trunk_that_tasks_share_gets_the_sum_of_their_gradients_and_a_head_its_own() -> None:
    model = multi_task("mlp", {"digit": 10, "odd": 2}, inputs=64, shared=16, width=16, depth=1).double()
    x, y = X[:50].double(), Y[:50]
    losses = {
        "digit": nn.functional.cross_entropy(model(x)["digit"], y),
        "odd": nn.functional.cross_entropy(model(x)["odd"], y % 2),
    }
    alone = {task: grads(loss, model) for task, loss in losses.items()}
    both = grads(
        nn.functional.cross_entropy(model(x)["digit"], y)
        + nn.functional.cross_entropy(model(x)["odd"], y % 2),
        model,
    )
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, alone["digit"][name] + alone["odd"][name])
        if name.startswith("heads.odd"):
            assert not alone["digit"][name].any()


def grads(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(named.items(), found, strict=True)
    }
