"""Linear probes against scikit-learn on features taken by hand, and on models of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import StandardScaler
from torch import nn

import downslope as ds
from downslope.core.errors import DataError, InputError, ModelError
from downslope.training import layer_outputs
from downslope.training.layer_outputs import Reducer, layers_of

DIGITS = ds.data.digits(scale=16)
IMAGES = ds.data.digits(scale=16, images=True)
CLASSES = ds.Problem(
    model="mlp", objective="cross_entropy", train=DIGITS.train, valid=DIGITS.valid, metric="accuracy"
)


def features(model: nn.Module, upto: int, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.eval()[: upto + 1](x).double().numpy()


def test_a_probe_is_scikit_learns_softmax_regression_on_the_layers_output() -> None:
    model = CLASSES.build(3)
    probes = ds.probe_layers(CLASSES, model, l2=0.01)
    (x, y), (xv, yv) = DIGITS.train, DIGITS.valid
    assert [row.name for row in probes] == ["input", "1", "2", "3", "4", "5"]
    for row in probes:
        seen, unseen = (
            (features(model, int(row.name), each) if row.name != "input" else each.double().numpy())
            for each in (x, xv)
        )
        scale = StandardScaler().fit(seen)
        line = LogisticRegression(C=1 / (0.01 * len(x)), max_iter=2000, tol=1e-8)
        line.fit(scale.transform(seen), y)
        assert row.valid == pytest.approx(
            accuracy_score(yv, line.predict(scale.transform(unseen))), abs=0.006
        )
        assert row.train == pytest.approx(accuracy_score(y, line.predict(scale.transform(seen))), abs=0.002)
        p = row.valid
        assert row.stderr == pytest.approx(np.sqrt(p * (1 - p) / len(yv)), rel=0.25)
    with torch.no_grad():
        own = accuracy_score(yv, model.eval()(xv).argmax(1))
    assert probes.own == pytest.approx(own)
    assert probes.n == len(yv)
    assert probes["1"].shape == (64,)


def test_numbers_are_read_by_ridge_regression() -> None:
    table = ds.data.diabetes(standardise=True)
    problem = ds.Problem(model="mlp", objective="squared_error", train=table.train, valid=table.valid)
    model = problem.build(0)
    probes = ds.probe_layers(problem, model, l2=0.1)
    x, y = table.train
    scale = StandardScaler().fit(features(model, 2, x))
    line = Ridge(alpha=0.1 * len(x) / 2).fit(scale.transform(features(model, 2, x)), y)
    wanted = r2_score(table.valid[1], line.predict(scale.transform(features(model, 2, table.valid[0]))))
    assert probes["2"].valid == pytest.approx(wanted, rel=1e-4)
    assert probes.metric == "r2"


def test_a_yes_or_no_has_one_score_and_any_metric() -> None:
    table = ds.data.breast_cancer(standardise=True)
    for target in (table.train[1], table.train[1].float(), table.train[1].float().unsqueeze(1)):
        problem = ds.Problem(
            model="mlp", objective="logistic", train=(table.train[0], target), valid=table.valid, metric="auc"
        )
        probes = ds.probe_layers(problem, problem.build(0), layers="2")
        assert [row.name for row in probes] == ["input", "2"]
        assert probes["input"].valid > 0.98


def test_classes_that_the_sample_lacks_get_no_votes() -> None:
    x, y = DIGITS.train
    few = torch.isin(y, torch.tensor([2, 5]))
    problem = CLASSES.edit(train=(x[few], y[few]), **{"model.outputs": 10})
    probes = ds.probe_layers(problem, problem.build(0), layers="1")
    share = float(torch.isin(DIGITS.valid[1], torch.tensor([2, 5])).double().mean())
    assert 0.9 * share < probes["1"].valid <= share


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_images_are_probed_block_by_block(name) -> None:
    own = {"width": 4} | ({"depth": 8} if name == "resnet" else {"norm": "batch", "dropout": 0.3})
    problem = ds.Problem(
        model=name, arguments=own, objective="cross_entropy", train=IMAGES.train, valid=IMAGES.valid
    )
    model = problem.build(0).train()
    probes = ds.probe_layers(problem, model, examples=200, features=30)
    kinds = [row.kind for row in probes]
    assert "Dropout" not in kinds
    assert "Flatten" not in kinds
    assert kinds.count("ResidualBlock") == (3 if name == "resnet" else 0)
    assert all(row.features <= 30 for row in probes)
    assert model.training
    assert ds.probe_layers(problem, model.eval(), examples=200, features=30) == probes
    assert not any(p.grad is not None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_sequences_are_probed_and_tokens_have_no_row_of_their_own(name) -> None:
    table = ds.data.motifs(n=300)
    problem = ds.Problem(model=name, objective="cross_entropy", train=table.train, valid=table.valid)
    rows = [row.name for row in ds.probe_layers(problem, problem.build(0))]
    assert rows[0] == "embedding"
    assert rows[-1] == "head"
    assert rows[1] == ("cell" if name == "lstm" else "blocks.0")


def test_a_model_that_tells_every_step_is_probed_step_by_step() -> None:
    line = (torch.arange(880) * torch.arange(880)) % 11  # the next token depends on more than the last
    rows = line.reshape(-1, 8)
    problem = ds.Problem(
        model="gpt", arguments={"width": 16, "depth": 2}, objective="cross_entropy",
        train=(rows[:80, :7], rows[:80, 1:]), valid=(rows[80:, :7], rows[80:, 1:]),
    )  # fmt: skip
    probes = ds.probe_layers(problem, problem.build(0))
    assert probes.n == 30 * 7
    assert probes["tokens"].features == 16


def test_the_probe_rises_through_a_trained_network_where_the_input_is_not_linear() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(1200, 2, generator=draw) * 2 - 1
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()  # exclusive or: no line reads it
    problem = ds.Problem(
        model="mlp", arguments={"width": 16}, objective="cross_entropy", metric="accuracy",
        train=(x[:900], y[:900]), valid=(x[900:], y[900:]),
    )  # fmt: skip
    run = ds.fit(problem, ds.Recipe(optimizer="adam", lr=0.01, epochs=30), folder=False, progress=False)
    probes = ds.probe_layers(problem, run.model())
    assert probes["input"].valid < 0.76  # three of the four squares at best
    assert probes["4"].valid > 0.95
    assert probes["5"].valid == pytest.approx(probes.own, abs=0.02)
    assert str(probes).splitlines()[0].split() == ["layer", "output", "features", "train", "valid"]
    with pytest.raises(KeyError, match="no layer 'inputs' was probed; did you mean 'input'"):
        probes["inputs"]


def test_pixels_are_averaged_over_as_fine_a_grid_as_fits() -> None:
    x = torch.randn(3, 4, 6, 6)
    reduce = Reducer(40, channels_first=False, per_step=False)
    wanted = nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)
    torch.testing.assert_close(reduce(x), wanted)
    torch.testing.assert_close(Reducer(144, channels_first=False, per_step=False)(x), x.flatten(1))
    steps = torch.randn(3, 10, 8)
    torch.testing.assert_close(reduce(steps), steps.reshape(3, 5, 2, 8).mean(2).transpose(1, 2).flatten(1))
    along = Reducer(20, channels_first=True, per_step=False)
    torch.testing.assert_close(along(steps), steps.reshape(3, 10, 2, 4).mean(3).flatten(1))


def test_wide_outputs_are_hashed_and_keep_their_inner_products() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 5000)
    x[30:] = x[:30] + 0.5 * torch.randn(30, 5000)
    x += 1.0  # without signs a sum of five numbers would add up their means
    found = Reducer(1000, channels_first=False, per_step=False)(x)
    assert found.shape == (60, 1000)
    near = (found[:30] * found[30:]).sum(1) / (x[:30] * x[30:]).sum(1)
    assert near.mean().item() == pytest.approx(1.0, abs=0.03)


def test_layers_that_do_not_fit_at_once_take_a_pass_more(monkeypatch) -> None:
    whole = ds.probe_layers(CLASSES, CLASSES.build(0), examples=200)
    monkeypatch.setattr(layer_outputs, "HELD", 1)
    assert ds.probe_layers(CLASSES, CLASSES.build(0), examples=200) == whole


def test_blocks_that_repeat_are_told_whole_and_what_occurs_once_is_opened() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.ReLU()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Part(), Part())
            self.inner = nn.ModuleDict({"head": nn.Linear(2, 2), "none": nn.Identity()})

    assert layers_of(Net()) == ["body.0", "body.1", "inner.head"]
    assert layers_of(nn.Sequential(Part())) == ["0.a", "0.b"]
    assert layers_of(Net(), ["inner.*", "body.1.a"]) == ["body.1.a", "inner.head", "inner.none"]
    assert layers_of(nn.Linear(2, 2)) == [""]


@pytest.mark.parametrize(
    ("act", "kind", "said"),
    [
        (lambda m: ds.probe_layers(CLASSES, m, layers="boddy"), ModelError, "no module is called 'boddy'"),
        (lambda m: ds.probe_layers(CLASSES, m, examples=1), InputError, "examples=1"),
        (lambda m: ds.probe_layers(CLASSES, m, features=0), InputError, "features=0"),
        (lambda m: ds.probe_layers(CLASSES, m, l2=0.0), InputError, r"l2=0\.0"),
        (lambda m: ds.probe_layers(CLASSES.edit(valid=None), m), DataError, "has none: give valid"),
        (
            lambda m: ds.probe_layers(
                CLASSES.edit(train=(DIGITS.train[0], torch.zeros_like(DIGITS.train[1]))), m
            ),
            DataError,
            "nothing to tell apart",
        ),
        (
            lambda m: ds.probe_layers(
                CLASSES.edit(
                    objective="logistic", metric=None,
                    train=(DIGITS.train[0], torch.ones(len(DIGITS.train[0]), 3)),
                ),
                m,
            ),
            DataError,
            "several labels",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_probed_is_one_line(act, kind, said) -> None:
    with pytest.raises(kind, match=said) as told:
        act(CLASSES.build(0))
    assert "\n" not in str(told.value)


def test_layers_are_probed_of_a_model_whose_output_the_metric_cannot_read() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.LSTM(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> object:
            return self.cells(x)

    def last(output: tuple[torch.Tensor, object], target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output[0][:, -1], target)

    x = torch.randn(60, 7, 4, generator=torch.Generator().manual_seed(0))
    data = (x, (x.sum((1, 2)) > 0).long())
    problem = ds.Problem(model=Reader, objective=last, train=data, valid=data)
    probes = ds.probe_layers(problem, problem.build(0))
    assert [row.name for row in probes] == ["input", "cells"]
    assert probes.rows[1].shape == (7, 8)
    assert str(probes).endswith("the model itself: gives no output that accuracy reads, on 60 examples")
