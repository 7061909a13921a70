"""Whether inputs tell of the target, and which labels are in doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import downslope as ds
from downslope.diagnosis.measure.signal import area, measure, together
from tests.diagnosis.symptoms.problems import classes

(X, Y), _ = classes(800)


def problem(x: torch.Tensor, y: torch.Tensor) -> ds.Problem:
    return ds.Problem(model=lambda: nn.Linear(x.shape[1], 4), objective="cross_entropy", train=(x, y))


def test_the_area_is_scikit_learns_and_its_deviation_that_of_chance() -> None:
    draw = np.random.default_rng(0)
    yes, p = draw.random(300) < 0.3, draw.random(300).round(1)  # with ties
    assert area(p + 0.2 * yes, yes)[0] == pytest.approx(roc_auc_score(yes, p + 0.2 * yes))
    scores = [area(draw.random(300), yes)[1] for _ in range(400)]
    assert np.std(scores) == pytest.approx(1.0, abs=0.12)
    assert np.mean(scores) == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2), (0.1,) * 10])
def test_chance_gives_one_deviation_however_many_classes_there_are(shares: tuple[float, ...]) -> None:
    draw, scores = np.random.default_rng(0), []
    for _ in range(300):
        own = np.repeat(np.arange(len(shares)), [int(400 * each) for each in shares])
        p = draw.dirichlet(np.ones(len(shares)), len(own))
        areas = [area(p[:, k], own == k)[1] for k in range(len(shares))]
        scores.append(sum(areas) / together(p, own) ** 0.5)
    assert np.std(scores) == pytest.approx(1.0, abs=0.14)


def test_two_classes_say_the_same_thing_twice() -> None:
    p = np.random.default_rng(1).random(200)
    assert together(np.stack([p, 1 - p], 1), np.arange(200) % 2) == pytest.approx(4.0)
    assert together(np.full((200, 2), 0.5), np.arange(200) % 2) == 2.0  # no ranks, no warning


def test_a_weak_trend_that_trees_cut_up_is_seen_by_a_line() -> None:
    x = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    trend = 0.1 * x.sum(1)  # a little of every column
    y = (torch.rand(1000, generator=torch.Generator().manual_seed(1)) < torch.sigmoid(trend)).long()
    for target in (y, 0.5 * trend + torch.randn(1000, generator=torch.Generator().manual_seed(2))):
        found, drawn = measure(problem(x, target)), measure(problem(x.flip(0), target))
        assert found is not None
        assert drawn is not None
        assert found["linear"] > max(3.0, found["z"])
        assert drawn["linear"] < 3


def test_drawn_inputs_say_nothing_and_their_own_say_much() -> None:
    own = measure(problem(X, Y))
    drawn = measure(problem(torch.randn_like(X), Y))
    assert own is not None
    assert drawn is not None
    assert own["z"] > 10
    assert abs(drawn["z"]) < 3


def test_the_doubted_labels_are_those_that_were_changed() -> None:
    clean = measure(problem(X, Y))
    assert clean is not None
    assert clean["noise"] < 0.08
    wrong = torch.randperm(len(Y), generator=torch.Generator().manual_seed(3))[: int(0.25 * len(Y))]
    y = Y.clone()
    y[wrong] = (y[wrong] + 1) % 4
    found = measure(problem(X, y))
    assert found is not None
    assert found["noise"] == pytest.approx(0.25, abs=0.08)
    assert len(set(found["doubted"]) & set(wrong.tolist())) >= 18  # of twenty


def of_a_line(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels that are right by construction, of a map that trees need many examples for."""
    draw = torch.Generator().manual_seed(seed)
    x, line = torch.randn(n, 12, generator=draw), torch.randn(12, 6, generator=draw)
    return x, (x @ line).argmax(1)


@pytest.mark.parametrize("n", [80, 150, 220, 300, 600])
def test_trees_that_are_weak_on_few_examples_put_no_clean_label_in_doubt(n: int) -> None:
    for seed in range(3):
        found = measure(problem(*of_a_line(n, seed)))
        assert found is None or found["noise"] is None or found["noise"] < 0.15


@pytest.mark.parametrize(("n", "share"), [(300, 0.4), (800, 0.25), (800, 0.4)])
def test_wrong_labels_are_found_where_trees_are_weak(n: int, share: float) -> None:
    x, y = of_a_line(n, 1)
    draw = torch.Generator().manual_seed(2)
    wrong = torch.rand(n, generator=draw) < share
    found = measure(problem(x, torch.where(wrong, (y + torch.randint(1, 6, (n,), generator=draw)) % 6, y)))
    assert found is not None
    assert 0.6 * share < found["noise"] < 1.4 * share


def test_of_numbers_the_rank_correlation_counts() -> None:
    found = measure(problem(X, X[:, 0] ** 3))
    assert found is not None
    assert found["score"] > 0.9
    assert found["noise"] is None


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X[:40], Y[:40]),
        (torch.full_like(X, float("nan")), Y),
        (X, torch.zeros_like(Y)),
        (torch.randn(100, 2000), Y[:100]),
    ],
    ids=["too few", "not finite", "one class", "too wide"],
)
def test_what_is_no_table_of_numbers_is_not_looked_at(x: torch.Tensor, y: torch.Tensor) -> None:
    assert measure(problem(x, y)) is None


def test_indices_are_no_numbers_that_trees_could_read() -> None:
    rows = torch.randint(0, 50, (400, 2))
    assert measure(problem(rows, rows[:, 0] % 4)) is None
