"""Constant targets, inputs that say nothing, unequal classes, sorted data, wrong labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import EditError
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import order, signal
from downslope.diagnosis.measure.references import references
from downslope.diagnosis.symptoms.label_noise import NOISE
from downslope.objectives.metrics import balanced_accuracy
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


def wide(inputs: int, outputs: int) -> nn.Module:
    return net(inputs, outputs, width=128)


def clouds(gap: float, rare: float, n: int = 1600) -> tuple[Pair, Pair]:
    """Two Gaussian clouds `gap` apart on two axes, the second with a share of `rare`."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(n, generator=generator) < rare).long()
    x = torch.randn(n, 6, generator=generator)
    x[:, :2] += gap * y[:, None]
    cut = 3 * n // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def chance(n: int = 800, real: bool = False) -> tuple[Pair, Pair]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 8, generator=generator)
    coin = torch.randint(2, (n,), generator=generator)
    y: Tensor = torch.randn(n, 1, generator=generator) if real else coin
    cut = 3 * n // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


# -- constant target -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [classes(), numbers()], ids=["classes", "numbers"])
def test_a_target_of_one_value_is_critical(data: tuple[Pair, Pair]) -> None:
    (x, y), (xv, yv) = data
    same = (x, torch.zeros_like(y)), (xv, torch.zeros_like(yv))
    objective, metric = ("mse", "r2") if y.is_floating_point() else ("cross_entropy", "accuracy")
    task = problem(same, lambda: net(x.shape[1], 1 if y.is_floating_point() else 4), objective, metric)
    result = diagnosed(task, recipe(epochs=3))
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("constant-target", "critical")
    assert [each.symptom for each in result.findings if each.severity != "info"] == ["constant-target"]


def test_two_values_are_a_target() -> None:
    made = run(data={"target": {"kind": "binary", "distinct": 2, "constant": False}})
    assert "constant-target" in dict(judge(made).cleared)


# -- uninformative inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [5, 80], ids=["before it memorises", "after"])
@pytest.mark.parametrize("real", [False, True], ids=["classes", "numbers"])
def test_targets_drawn_by_chance_are_named(real: bool, epochs: int) -> None:
    task = problem(
        chance(real=real), lambda: wide(8, 1 if real else 2), "mse" if real else "cross_entropy",
        "r2" if real else "accuracy",
    )  # fmt: skip
    result = diagnosed(task, recipe(epochs=epochs))
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("uninformative-inputs", "critical")


def test_a_weak_signal_is_no_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 8, generator=generator)
    y = 0.5 * x[:, :1] + torch.randn(1200, 1, generator=generator)
    task = problem(((x[:900], y[:900]), (x[900:], y[900:])), lambda: net(8, 1), "mse", "r2")
    assert found(diagnosed(task, recipe(lr=1e-3, epochs=10)), "uninformative-inputs") is None


def labels_by_chance(n: int = 900, count: int = 6) -> tuple[Pair, Pair]:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(n, 10, generator=generator), torch.rand(n, count, generator=generator)
    y = (y < 0.3).float()
    return (x[:600], y[:600]), (x[600:], y[600:])


def test_labels_drawn_by_chance_are_named_under_a_metric_that_flatters_a_guess() -> None:
    task = problem(labels_by_chance(), lambda: net(10, 6), "logistic", "f1")
    result = diagnosed(task, recipe(epochs=20, lr=3e-3))
    assert result.root is not None
    assert result.root.symptom == "uninformative-inputs"


def test_of_few_examples_nothing_is_told_that_they_could_not_show() -> None:
    (x, y), held = chance(real=False)
    task = problem(((x[300:360], y[300:360]), held), lambda: wide(8, 2), "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(epochs=80))
    assert found(result, "uninformative-inputs") is None
    assert "too few" in dict(result.not_checked)["uninformative-inputs"]


def test_the_ranking_is_the_area_under_the_curve() -> None:
    (x, y), _ = clouds(1.0, 0.3)
    measured = signal.measure(problem(((x, y), (x, y)), lambda: net(6, 2), "cross_entropy", "accuracy"))
    assert measured is not None
    assert 0.75 < measured["score"] < 0.95  # the best rule has Phi(1) = 0.84
    p, yes = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert signal.area(p, yes)[0] == pytest.approx(roc_auc_score(yes, p))


def test_trees_are_not_asked_of_tokens_of_many_columns_or_few_rows() -> None:
    few = torch.randn(30, 4), torch.randint(2, (30,))
    assert signal.measure(problem((few, few), lambda: net(4, 2), "cross_entropy", None)) is None


# -- class imbalance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: net(6, 2), lambda: Functional(6, 2)], ids=["modules", "functions"])
def test_a_rare_class_that_is_given_up_is_named_and_weights_bring_it_back(make: Any) -> None:
    sick = problem(clouds(1.2, 0.03), make, "cross_entropy", "accuracy")
    result = diagnosed(sick, recipe(epochs=10))
    assert result.root is not None
    assert result.root.symptom == "class-imbalance"
    cured, how = result.root.remedies[0].apply(sick, recipe(epochs=10))
    model = ds.fit(cured, how, folder=False, progress=False).model("last").eval()
    x, y = clouds(1.2, 0.03)[1]
    with torch.no_grad():
        assert balanced_accuracy(model(x), y) > 0.75


def test_a_rare_class_that_is_recognised_is_healthy() -> None:
    result = diagnosed(problem(clouds(4.0, 0.05), lambda: net(6, 2), "cross_entropy", "accuracy"), recipe())
    assert result.healthy


def test_equal_classes_are_not_looked_into() -> None:
    result = diagnosed(problem(classes(), lambda: net(12, 4), "cross_entropy", "accuracy"), recipe())
    assert dict(result.cleared)["class-imbalance"] == "no class is rare"
    assert "imbalance" not in result.run.facts


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, y = torch.randn(200, 4, generator=generator), torch.randint(4, (200,), generator=generator)
    assert balanced_accuracy(scores, y) == pytest.approx(balanced_accuracy_score(y, scores.argmax(1)))
    one, yes = torch.randn(100, 1, generator=generator), torch.randint(2, (100,), generator=generator)
    assert balanced_accuracy(one, yes) == pytest.approx(balanced_accuracy_score(yes, one[:, 0] > 0))


# -- unshuffled data -----------------------------------------------------------------------------------------


def loader(shuffle: bool, by_label: bool = True) -> DataLoader[Any]:
    x, y = classes(n=1600)[0]
    index = y.argsort() if by_label else torch.arange(len(y))
    return DataLoader(TensorDataset(x[index], y[index]), 32, shuffle=shuffle)


def served(data: Any) -> ds.Problem:
    return ds.Problem(
        model=lambda: net(12, 4), objective="cross_entropy", train=data, valid=classes(n=1600)[1],
        metric="accuracy",
    )  # fmt: skip


BRISK = recipe(lr=0.02, epochs=6)


def test_batches_sorted_by_label_are_the_root_and_shuffling_cures_it() -> None:
    sick = served(loader(shuffle=False))
    result = diagnosed(sick, BRISK)
    assert result.root is not None
    assert result.root.symptom == "unshuffled-data"
    cured, how = result.root.remedies[0].apply(sick, BRISK)
    assert how.batch_size == 32
    assert diagnosed(cured, how).healthy


@pytest.mark.parametrize("data", [loader(shuffle=True), loader(shuffle=False, by_label=False)])
def test_a_random_order_is_healthy_though_it_be_fixed(data: Any) -> None:
    result = diagnosed(served(data), BRISK)
    assert result.healthy
    assert "by chance" in dict(result.cleared)["unshuffled-data"]


def test_the_share_between_batches_is_that_of_an_analysis_of_variance() -> None:
    y = torch.arange(12.0)
    task = served(DataLoader(TensorDataset(torch.randn(12, 12), y), 4))
    measured = order.measure(task)
    assert measured is not None
    means = y.reshape(3, 4).mean(1)
    by_hand = 4 * float((means - y.mean()).square().sum()) / float((y - y.mean()).square().sum())
    assert measured["explained"] == pytest.approx(by_hand)
    assert measured["expected"] == pytest.approx(2 / 11)


def test_the_share_of_a_random_order_has_the_spread_that_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(300):
        y = torch.randn(200, generator=generator)
        means = y.reshape(20, 10).mean(1)
        shares.append(10 * float((means - y.mean()).square().sum()) / float((y - y.mean()).square().sum()))
    n, b = 200, 20
    told = math.sqrt(2 * (b - 1) * (n - b) / ((n - 1) ** 2 * (n + 1)))
    assert np.std(shares) == pytest.approx(told, rel=0.15)


def test_data_in_memory_is_reshuffled_anyway() -> None:
    x, y = classes()[0]
    result = diagnosed(served((x[y.argsort()], y.sort().values)), recipe())
    assert result.healthy
    assert "new random order" in dict(result.cleared)["unshuffled-data"]


def test_a_stream_without_an_end_cannot_be_shuffled() -> None:
    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            while True:
                yield torch.zeros(12), torch.tensor(0)

    with pytest.raises(EditError, match="without an end"):
        ds.edits.Shuffle().apply(served(DataLoader(Endless(), 32)), recipe(steps=3))


def test_shuffling_keeps_the_rate_that_the_loaders_batches_had() -> None:
    """The recipe's own batch size, which the loader overrode, is none to scale a rate from."""
    how = ds.Recipe(optimizer="sgd", lr=0.1, epochs=6)
    _, changed = ds.edits.Shuffle().apply(served(loader(shuffle=False)), how)
    assert (changed.batch_size, changed.lr) == (32, 0.1)


def test_what_is_reachable_is_sought_in_a_sound_order() -> None:
    task = served(loader(shuffle=False))
    for order_, shuffled in ((order.measure(task), True), (None, False)):
        made = run([1.0, 1.0], order=order_, output={})
        edits = [edit for *_, edit in references(made, task, recipe())]
        assert [ds.edits.Shuffle() in getattr(each, "edits", ()) for each in edits] == [shuffled] * len(edits)


def test_the_edit_survives_its_file() -> None:
    assert ds.edits.from_dict(ds.edits.Shuffle().to_dict()) == ds.edits.Shuffle()


# -- label noise ---------------------------------------------------------------------------------------------


def mislabelled(share: float) -> tuple[Pair, Pair]:
    (x, y), valid = classes(n=1200)
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(y), generator=generator) < share
    return (x, torch.where(wrong, torch.randint(4, (len(y),), generator=generator), y)), valid


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_wrong_labels_that_were_learnt_by_heart_are_told_with_their_share(share: float) -> None:
    task = problem(mislabelled(share), lambda: wide(12, 4), "cross_entropy", "accuracy")
    finding = found(diagnosed(task, recipe(epochs=80)), "label-noise")
    assert finding is not None
    # By comparison with validation those count that were drawn anew, a quarter of them right by chance.
    assert finding.evidence.value == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("rate", [1e-3, 1e-5], ids=["a sound rate", "a small one"])
def test_wrong_labels_are_the_root_before_anything_is_learnt_by_heart(rate: float) -> None:
    task = problem(mislabelled(0.9), lambda: net(12, 4), "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(epochs=5, lr=rate))
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("label-noise", "critical")
    assert result.root.evidence.value == pytest.approx(0.9, abs=0.15)


def test_numbers_that_were_shuffled_among_some_rows_go_astray_by_their_share() -> None:
    (x, y), valid = numbers(n=1200)
    generator = torch.Generator().manual_seed(2)
    rows = (torch.rand(len(y), generator=generator) < 0.6).nonzero().flatten()
    wrong = y.clone()
    wrong[rows] = y[rows[torch.randperm(len(rows), generator=generator)]]
    for target, share in ((wrong, 0.6), (y, 0.0)):
        measured = signal.measure(problem(((x, target), valid), lambda: net(6, 1), "mse", "r2"))
        assert measured is not None
        assert abs(measured["wrong"] - share) < 4 * measured["wrong_error"] < 0.5


def test_the_share_astray_is_what_was_shuffled_whatever_the_predictor() -> None:
    draw = np.random.default_rng(0)
    y, yv = draw.normal(size=(4000, 2)), draw.normal(size=(4000, 2))
    p, pv = 0.3 * y + draw.normal(size=y.shape), 0.3 * yv + draw.normal(size=y.shape)
    told = y.copy()
    told[:2000] = draw.permutation(told[:2000])
    found_share = signal.astray(p, told, pv, yv)
    assert found_share["wrong"] == pytest.approx(0.5, abs=3 * found_share["wrong_error"])
    assert signal.astray(p, y, draw.normal(size=y.shape), yv) == {}  # nothing is told of validation


def test_classes_that_overlap_and_copies_in_the_validation_part_are_no_wrong_labels() -> None:
    (x, y), valid = clouds(0.5, 0.4)
    for held in (valid, (x, y)):
        measured = signal.measure(problem(((x, y), held), lambda: net(6, 2), "cross_entropy", "accuracy"))
        assert measured is not None
        assert measured.get("wrong", 0.0) - 4 * measured.get("wrong_error", 0.0) < NOISE


def test_clean_labels_of_a_small_set_are_not_doubted() -> None:
    task = problem(classes(n=200), lambda: wide(12, 4), "cross_entropy", "accuracy")
    assert found(diagnosed(task, recipe(epochs=60)), "label-noise") is None


def test_a_run_of_which_nothing_is_known_raises_nothing() -> None:
    for made in (Run(), run([float("nan")] * 3, order={"explained": 1.0, "expected": 0.1, "z": 50.0})):
        assert all("check failed" not in why for _, why in judge(made).not_checked)
