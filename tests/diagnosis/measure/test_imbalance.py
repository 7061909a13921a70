"""Classes that are rare: their shares, the weights that make them equal, and what is recognised of each."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from sklearn.metrics import recall_score
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.fixed_sample import scored
from downslope.core.run import Run
from downslope.diagnosis.measure.imbalance import measure, unequal, weighted
from tests.diagnosis.measure.made import ended


def of(kind: str, labels: list[float], counts: list[int]) -> Run:
    return Run(facts={"data": {"target": {"kind": kind, "labels": labels, "counts": counts}}})


def test_a_quarter_of_an_equal_share_is_rare() -> None:
    assert unequal(of("classes", [0, 1, 2, 3], [300, 300, 300, 59])) is not None
    assert unequal(of("classes", [0, 1, 2, 3], [300, 300, 300, 61])) is None
    assert unequal(of("binary", [0.0, 1.0], [880, 120])) == ([0.0, 1.0], [0.88, 0.12])


@pytest.mark.parametrize("made", [of("numbers", [0, 1], [9, 1]), of("classes", [0], [5]), Run()])
def test_numbers_one_class_and_no_data_are_not_unequal(made: Run) -> None:
    assert unequal(made) is None


def test_the_weights_make_every_class_count_the_same() -> None:
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0] * 90 + [1] * 6 + [2] * 4)
    problem = ds.Problem(model=lambda: nn.Linear(3, 3), objective="cross_entropy", train=(x, y))
    edit = weighted(problem, [0.0, 1.0, 2.0], [0.9, 0.06, 0.04])
    assert edit is not None
    objective: Any = edit.apply_to_problem(problem).objective
    output = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    each = functional.cross_entropy(output, y, reduction="none")
    by_class = torch.stack([each[y == k].mean() for k in range(3)]).mean()
    assert float(objective(output, y)) == pytest.approx(float(by_class), rel=1e-5)


def test_the_logit_of_yes_is_weighted_by_how_many_more_say_no() -> None:
    y = torch.tensor([0.0] * 95 + [1.0] * 5)[:, None]
    problem = ds.Problem(model=lambda: nn.Linear(3, 1), objective="logistic", train=(torch.randn(100, 3), y))
    edit = weighted(problem, [0.0, 1.0], [0.95, 0.05])
    assert edit is not None
    objective: Any = edit.apply_to_problem(problem).objective
    output = torch.randn(100, 1, generator=torch.Generator().manual_seed(1))
    expected = functional.binary_cross_entropy_with_logits(output, y, pos_weight=torch.tensor(19.0))
    assert float(objective(output, y)) == pytest.approx(float(expected), rel=1e-4)


class Folded:
    """An objective that hands on examples and their steps as one axis."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def taking(self, function: Any) -> Folded:
        return Folded(function)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.function(output.flatten(0, 1), target.flatten())


def test_a_function_as_a_script_called_it_is_weighted_and_so_is_one_that_is_handed_a_part() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, 3, generator=draw), (torch.rand(40, 5, generator=draw) < 0.1).long()
    share = float(y.double().mean())
    for function, weights in (
        (partial(functional.cross_entropy, reduction="mean"), True),
        (partial(functional.cross_entropy, ignore_index=-100, label_smoothing=0.0), True),
        (partial(functional.cross_entropy, weight=torch.ones(2)), False),
        (partial(functional.cross_entropy, label_smoothing=0.1), False),
        (partial(functional.mse_loss, reduction="mean"), False),
    ):
        problem = ds.Problem(model=lambda: nn.Linear(3, 2), objective=Folded(function), train=(x, y))
        edit = weighted(problem, [0.0, 1.0], [1 - share, share])
        assert (edit is not None) == weights
        if edit is not None:
            objective: Any = edit.apply_to_problem(problem).objective
            output = torch.randn(40, 5, 2, generator=draw)
            each = functional.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none")
            by_class = torch.stack([each[y.flatten() == k].mean() for k in range(2)]).mean()
            assert float(objective(output, y)) == pytest.approx(float(by_class), rel=1e-5)


def test_an_objective_of_ones_own_takes_no_weights() -> None:
    def own(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target)

    problem = ds.Problem(
        model=lambda: nn.Linear(3, 2), objective=own, train=(torch.randn(9, 3), torch.ones(9).long())
    )
    assert weighted(problem, [0.0, 1.0], [0.9, 0.1]) is None


def test_recalls_are_those_of_scikit_learn() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3)
    y = torch.multinomial(torch.tensor([0.9, 0.06, 0.04]), 400, replacement=True)
    model = nn.Linear(3, 3)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=64, steps=3)
    run = ended(model, (x, y), "cross_entropy", recipe=recipe)
    counts = torch.bincount(y).tolist()
    run.facts["data"] = {"target": {"kind": "classes", "labels": [0.0, 1.0, 2.0], "counts": counts}}
    problem = run.the_problem()
    found = measure(run, problem, recipe, scored(problem), 3)
    assert found is not None
    said = recall_score(y, model(x).argmax(1), average=None)
    assert found["recalls"] == pytest.approx(said.tolist(), abs=1e-6)
    assert found["balanced"] == pytest.approx(float(said.mean()), abs=1e-6)
    assert found["rarest"] == pytest.approx(min(counts) / 400)
    assert found["weighted"] is not None
