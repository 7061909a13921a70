"""A network as a composition: its last layer is linear, its features get better with depth, and how they are
got at depends on the amount of data.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import downslope as ds

CANVAS = ds.data.digits(images=True, scale=16, canvas=12)
PROBLEM = ds.Problem(
    model="cnn", arguments={"depth": 3}, objective="cross_entropy", metric="accuracy",
    train=CANVAS.train, valid=CANVAS.valid,
)  # fmt: skip
ADAM = ds.Recipe(optimizer="adam", lr=3e-3, steps=250, batch_size=32)


def fit(problem: ds.Problem, recipe: ds.Recipe) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    return fit(PROBLEM, ADAM).model().eval()


@torch.no_grad()
def test_a_network_is_its_functions_one_after_another_and_the_last_one_is_affine(trained) -> None:
    x = CANVAS.valid[0].double()
    network = trained.double()
    z = x
    for function in network[:-1]:
        z = function(z)
    h = network[-1]
    torch.testing.assert_close(network(x), z @ h.weight.T + h.bias)
    network.float()


def test_a_probe_reads_more_from_the_layers_of_a_trained_network_and_most_at_its_end(trained) -> None:
    probes = ds.probe_layers(PROBLEM, trained, features=256)
    start = ds.probe_layers(PROBLEM, PROBLEM.build(0), features=256)
    last = "8"  # what the last layer, "10", is given
    assert probes["input"].valid < 0.4  # a linear model of the pixels tells little
    assert probes[last].valid > 0.8
    assert probes[last].valid > probes["2"].valid > probes["input"].valid + 0.2
    assert probes[last].valid > start[last].valid + 0.3
    assert probes[last].valid == pytest.approx(probes.own, abs=0.06)
    features = {}
    with torch.no_grad():
        for name, (x, _) in (("seen", CANVAS.train), ("unseen", CANVAS.valid)):
            features[name] = trained[:9](x).flatten(1).double().numpy()
    scale = StandardScaler().fit(features["seen"])
    line = LogisticRegression(C=1 / (1e-3 * len(CANVAS.train[0])), max_iter=1000)
    line.fit(scale.transform(features["seen"]), CANVAS.train[1])
    independent = line.score(scale.transform(features["unseen"]), CANVAS.valid[1])
    assert probes[last].valid == pytest.approx(independent, abs=0.01)


def test_staged_features_win_with_little_data_and_end_to_end_with_much() -> None:
    """Layers that learnt digits 0 to 4 against all layers learning 5 to 9: paired, over seeds."""
    (x, y), (xv, yv) = CANVAS.train, CANVAS.valid
    low, pool, held = y < 5, torch.nonzero(y >= 5).flatten(), yv >= 5
    base = PROBLEM.edit(**{"model.outputs": 5}, valid=None)
    body = fit(base.edit(train=(x[low], y[low])), ADAM.edit(steps=400)).model()[:-1].eval()
    with torch.no_grad():
        seen, unseen = body(x), body(xv)
    scale = StandardScaler().fit(seen)
    seen, unseen = (torch.from_numpy(scale.transform(each)).float() for each in (seen, unseen))
    pca = PCA(32).fit(x.flatten(1))
    ahead = {}
    for n, seeds in ((10, 8), (300, 3)):
        gains = []
        for seed in range(seeds):
            few = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:n]]
            line = LogisticRegression(max_iter=1000).fit(seen[few], y[few])
            staged = line.score(unseen[held], yv[held])
            whole = fit(base.edit(train=(x[few], y[few] - 5)), ADAM.edit(seed=seed, steps=150)).model().eval()
            with torch.no_grad():
                right = (whole(xv[held]).argmax(1) + 5 == yv[held]).float().mean().item()
            gains.append(staged - right)
        ahead[n] = np.mean(gains), np.std(gains, ddof=1) / np.sqrt(seeds)
        plain = LogisticRegression(max_iter=1000).fit(pca.transform(x[few].flatten(1)), y[few])
        assert plain.score(pca.transform(xv[held].flatten(1)), yv[held]) < staged  # other stages, less use
    mean, error = ahead[10]
    assert mean > 2 * error
    mean, error = ahead[300]
    assert mean < -2 * error
    assert mean < -0.1
