"""Class imbalance: rare classes that are given up, that are recognised, and that are not rare."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

import downslope as ds
from downslope.core.edits import Advice, Combined, SetMetric, SetObjective
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.class_imbalance import class_imbalance
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, Pair, diagnosed, net, problem, recipe
from tests.diagnosis.symptoms.trying import finding


def rare(ratio: int, distance: float, *, logit: bool = False) -> tuple[Pair, Pair]:
    """Two clouds `distance` apart, one `ratio` times as large as the other."""
    draw = torch.Generator().manual_seed(0)
    y = (torch.rand(2400, generator=draw) < 1 / (1 + ratio)).long()
    x = torch.randn(2400, 4, generator=draw)
    x[:, 0] += distance * y
    target = y.float()[:, None] if logit else y
    return (x[:1800], target[:1800]), (x[1800:], target[1800:])


def recalls(result: Any) -> list[float]:
    return result.run.facts["imbalance"]["recalls"]


@pytest.mark.parametrize("logit", [False, True], ids=["classes", "one logit"])
def test_one_in_thirty_given_up_is_the_root_and_weights_bring_it_back(logit: bool) -> None:
    make = (lambda: Functional(4, 1)) if logit else (lambda: net(4, 2))
    task = problem(rare(30, 2.2, logit=logit), make, "logistic" if logit else "cross_entropy", "accuracy")
    how = recipe(lr=1e-3, epochs=10)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "class-imbalance"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, Combined)
    assert [type(each) for each in remedy.edits] == [SetObjective, SetMetric]
    cured = diagnosed(*remedy.apply(task, how))
    assert recalls(result)[1] < 0.5 < recalls(cured)[1]


def test_a_repair_is_judged_by_what_the_accuracy_overlooks_and_hands_out_a_model_that_knows_the_rare() -> (
    None
):
    task, how = (
        problem(rare(30, 2.2), lambda: net(4, 2), "cross_entropy", "accuracy"),
        recipe(lr=1e-3, epochs=10),
    )
    found = ds.repair(task, how, budget="1000000 steps", progress=False, folder=False)
    assert found.measure == "valid balanced accuracy"
    assert {type(each) for each in found.edits} >= {SetObjective, SetMetric}
    x, y = rare(30, 2.2)[1]
    before, after = (
        balanced_accuracy_score(y, run.model()(x).argmax(1))
        for run in (ds.fit(p, r, folder=False, progress=False) for p, r in
                    ((task, how), (found.problem, found.recipe)))
    )  # fmt: skip
    assert after > before + 0.2
    assert found.problem.train_source is task.train_source  # nobody's label was touched


@pytest.mark.parametrize(("ratio", "distance"), [(30, 4.5), (3, 2.2)], ids=["rare and far", "not so rare"])
def test_rare_classes_that_are_recognised_are_healthy(ratio: int, distance: float) -> None:
    task = problem(rare(ratio, distance), lambda: net(4, 2), "cross_entropy", "accuracy")
    assert diagnosed(task, recipe(lr=3e-3, epochs=10)).healthy


def told(recalls: list[float], weighted: float | None, counts: list[int] | None = None) -> Run:
    made = run()
    made.facts["data"]["target"] = {"kind": "classes", "labels": [0.0, 1.0], "counts": counts or [970, 30]}
    made.facts["imbalance"] = {"recalls": recalls, "balanced": sum(recalls) / 2, "weighted": weighted,
                               "classes": 2, "rarest": 0.03}  # fmt: skip
    return made


def test_what_weights_win_back_of_the_mean_recall_decides() -> None:
    won = finding(class_imbalance(told([1.0, 0.2], 0.8)))
    assert won.evidence.value == pytest.approx((0.8 - 0.6) / 0.5)
    assert isinstance(won.remedies[0], Combined)
    assert isinstance(won.remedies[-1], Advice)
    assert isinstance(class_imbalance(told([1.0, 0.2], 0.69)), Clear)
    assert isinstance(class_imbalance(told([1.0, 0.5], 0.99)), Clear)
    assert isinstance(class_imbalance(told([1.0, 0.0], 0.99, counts=[800, 200])), Clear)


def of_ten(before: float, after: float, n: int, others: float = 0.95) -> Run:
    """The last of ten classes is rare; its recall without and with weights, the others' with weights."""
    made = told([0.95] * 9 + [before], 0.1 * (9 * others + after), [140] * 9 + [7])
    made.facts["data"]["target"]["labels"] = [float(k) for k in range(10)]
    made.facts["imbalance"] |= {
        "balanced": 0.1 * (9 * 0.95 + before), "classes": 10, "rare": [9], "counts": [50] * 9 + [n],
        "weighted_recalls": [others] * 9 + [after],
    }  # fmt: skip
    return made


def test_one_class_of_ten_counts_by_its_own_recall() -> None:
    lost = finding(class_imbalance(of_ten(0.0, 0.6, 30)))
    assert (lost.severity, lost.evidence.value) == ("warning", pytest.approx(0.6))
    assert isinstance(class_imbalance(of_ten(0.0, 0.15, 300)), Clear)  # too little
    assert isinstance(class_imbalance(of_ten(0.0, 2 / 3, 3)), Clear)  # two of three examples
    assert isinstance(class_imbalance(of_ten(0.0, 0.6, 30, others=0.9)), Clear)  # at the cost of the others
    assert isinstance(class_imbalance(of_ten(0.6, 1.0, 300)), Clear)  # not given up


@pytest.mark.parametrize(("label", "kept"), [(8, 6), (3, 8), (9, 5)])
def test_one_rare_digit_of_ten_is_told_and_its_twin_is_healthy(label: int, kept: int) -> None:
    digits = ds.data.digits(scale=16)
    (x, y), valid = digits.train, digits.valid
    rows = torch.cat([(y != label).nonzero()[:, 0], (y == label).nonzero()[:kept, 0]])
    how = recipe(lr=1e-3, epochs=15)
    sick = diagnosed(
        problem(((x[rows], y[rows]), valid), lambda: net(64, 10), "cross_entropy", "accuracy"), how
    )
    assert sick.root is not None
    assert sick.root.symptom == "class-imbalance", str(sick)
    assert sick.run.facts["imbalance"]["recalls"][label] < 0.5
    if label == 8:
        twin = problem(((x, y), valid), lambda: net(64, 10), "cross_entropy", "accuracy")
        assert diagnosed(twin, how).healthy


def test_a_class_that_held_out_data_lacks_is_not_given_up() -> None:
    assert isinstance(class_imbalance(told([0.9, -1.0], 0.9)), Clear)


def test_what_was_not_measured_is_said() -> None:
    assert isinstance(class_imbalance(told([1.0, 0.2], None)), Unknown)
    bare = told([1.0, 0.2], None)
    del bare.facts["imbalance"]
    assert isinstance(class_imbalance(bare), Unknown)


def test_a_model_of_no_classes_has_none() -> None:
    assert isinstance(class_imbalance(run()), Clear)
