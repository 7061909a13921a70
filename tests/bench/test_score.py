"""What the bench of diagnoses counts, on records made by hand."""

from __future__ import annotations

import pytest
import torch

import downslope as ds
from bench.diagnosis import outcome
from bench.diagnosis.peers import AutoTrainer
from bench.diagnosis.score import found, healthy, rooted, sick, wilson


def record(**changes: object) -> dict[str, object]:
    said = {"healthy": False, "root": "label-noise", "symptoms": ["label-noise", "high-variance"]}
    base = {"kind": "sick", "symptom": "label-noise", "harmful": True, "twin_learns": True, "diagnosis": said}
    return base | changes


def test_wilsons_interval_is_the_one_in_the_tables():
    low, high = wilson(81, 263)  # Newcombe 1998, table I, method 3: .2553 to .3662
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20)[0] == 0.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_fault_counts_where_it_does_harm_and_its_twin_learns():
    assert sick(record())
    assert not sick(record(harmful=False))
    assert not sick(record(twin_learns=False))
    assert healthy(record(kind="odd"))


def test_a_consequence_is_found_but_is_not_the_root():
    told = {"healthy": False, "root": "label-noise", "symptoms": ["label-noise", "high-variance"]}
    given = record(symptom="high-variance", diagnosis=told)
    assert found(given)
    assert not rooted(given)
    assert rooted(given | {"also": ["label-noise"]})


def test_a_healthy_verdict_finds_nothing_whatever_it_mentions():
    assert not found(record(diagnosis={"healthy": True, "root": None, "symptoms": ["label-noise"]}))


def test_the_best_constant_of_a_class_for_every_pixel_is_the_majority():
    x, mask = torch.zeros(6, 1, 4, 4), torch.zeros(6, 4, 4, dtype=torch.long)
    mask[:, 0] = 1  # a quarter of the pixels

    def right(output: torch.Tensor, target: torch.Tensor) -> float:
        said = output.argmax(1)
        return sum((said[target == k] == k).float().mean().item() for k in (0, 1)) / 2

    task = ds.Problem(
        model=lambda: torch.nn.Conv2d(1, 2, 1), objective="cross_entropy", metric=right,
        train=(x, mask), valid=(x, mask),
    )  # fmt: skip
    assert outcome.constant(task) == pytest.approx(0.5)
    assert outcome.constant(task, "last loss") == pytest.approx(-0.5623, abs=1e-3)  # entropy of a quarter


def test_the_best_constant_is_the_majority_the_mean_or_all_yes():
    x = torch.zeros(10, 2)
    classes = ds.Problem(
        model="mlp",
        objective="cross_entropy",
        metric="accuracy",
        train=(x, torch.tensor([0] * 3 + [2] * 7)),
        valid=(x[:4], torch.tensor([2, 2, 2, 0])),
    )
    assert outcome.constant(classes) == pytest.approx(0.75)
    y = torch.arange(10.0).unsqueeze(1)
    real = ds.Problem(model="mlp", objective="mse", metric="r2", train=(x, y), valid=(x, y))
    assert outcome.constant(real) == pytest.approx(0.0, abs=1e-6)
    yes = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    rare = ds.Problem(model="mlp", objective="logistic", metric="f1", train=(x[:4], yes), valid=(x[:4], yes))
    assert outcome.constant(rare) == pytest.approx(2 / 5)


def test_a_share_is_of_the_twins_way_and_a_lost_run_covers_none_of_it():
    assert outcome.share(0.6, 0.2, 1.0) == pytest.approx(0.5)
    assert outcome.share(None, 0.2, 1.0) == 0.0
    assert outcome.share(0.9, 1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("gradients", "said"),
    [((1e-9, 1.0), ["vanish"]), ((100.0, 1.0), ["explode"]), ((0.0, 0.0), ["relu"]), ((1.0, 1.0), [])],
)
def test_autotrainers_rules_name_what_they_were_published_for(gradients, said):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    for layer, size in zip(model, gradients, strict=True):
        layer.weight.grad = torch.full((3, 3), size)
        layer.bias.grad = torch.full((3,), size)
    rules = AutoTrainer()
    rules.gradients(model)
    for accuracy in (0.1, 0.3, 0.5):  # not enough, but rising
        rules.epoch(1.0, accuracy, accuracy)
    assert rules.verdict(3) == said


def test_autotrainers_rules_see_slow_and_swinging_accuracy():
    slow, swinging = AutoTrainer(), AutoTrainer()
    for i in range(10):
        slow.epoch(1.0, 0.1, 0.1)
        swinging.epoch(1.0, 0.8 + 0.1 * (i % 2), 0.9)
    assert slow.verdict(10) == ["slow convergence"]
    assert swinging.verdict(10) == ["oscillating loss"]
