"""Facts of data against numpy on the whole data, and where the non-finite and the constant hide."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from downslope.data import breast_cancer, digits, facts


def test_scales_of_a_table_are_numpys():
    x, y = breast_cancer().train
    found = facts(x, y)
    wanted = x.double().numpy()
    assert found["kind"] == "tabular"
    assert found["n"] == len(x)
    inputs = found["inputs"]
    assert inputs["rms"] == pytest.approx(np.sqrt((wanted**2).mean()))
    assert inputs["mean"] == pytest.approx(wanted.mean())
    assert inputs["std"] == pytest.approx(wanted.std())
    assert inputs["max_abs_mean"] == pytest.approx(np.abs(wanted.mean(0)).max())
    deviations = wanted.std(0)
    assert inputs["max_std"] == pytest.approx(deviations.max())
    assert inputs["min_std"] == pytest.approx(deviations.min())
    assert inputs["std_ratio"] == pytest.approx(deviations.max() / deviations.min())
    assert (inputs["min"], inputs["max"]) == (wanted.min(), wanted.max())
    assert found["target"]["kind"] == "binary"
    assert found["target"]["counts"] == np.bincount(y).tolist()


def test_facts_are_json_whatever_they_meet():
    nan, inf = float("nan"), float("inf")
    for x in (
        torch.tensor([[nan, inf], [1.0, 2.0]]),
        torch.full((3, 2), nan),
        torch.zeros(0, 4),
        torch.ones(3),
    ):
        for y in (torch.full((len(x),), nan), torch.zeros(len(x), dtype=torch.bool), None):
            json.dumps(facts(x, y), allow_nan=False)
    json.dumps(facts({"ids": torch.zeros(3, 4, dtype=torch.long)}, torch.zeros(3)), allow_nan=False)
    json.dumps(facts(["a text"], None), allow_nan=False)


def test_more_examples_than_the_sample_are_measured_within_its_error():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50_000, 3, generator=draw) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor(
        [0.0, 500.0, 0.0]
    )
    inputs = facts(x)["inputs"]
    assert inputs["sampled"] == 4096
    assert inputs["max_abs_mean"] == pytest.approx(500, rel=0.02)
    assert inputs["max_std"] == pytest.approx(100, rel=0.05)
    assert inputs["min_std"] == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_non_finite_value_is_found_anywhere(value):
    x = torch.zeros(20_000, 2, 3)
    x[17_001, 1, 0] = value
    x[19_000] = value
    found = facts(x)["non_finite"]
    assert found["count"] == 7
    assert found["nan"] == (7 if value != value else 0)
    assert (found["first"]["row"], found["first"]["column"]) == (17_001, 3)


def test_opposite_infinities_do_not_cancel():
    assert facts(torch.tensor([[float("inf")], [-float("inf")]]))["non_finite"]["count"] == 2


def test_a_mean_far_from_zero_does_not_cost_the_deviation_its_digits():
    x = 1e7 + torch.randn(4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert facts(x)["inputs"]["max_std"] == pytest.approx(x.std(unbiased=False).item(), rel=1e-9)


def test_constant_features_are_counted_and_do_not_spoil_the_ratio():
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(1))
    x[:, 2] = 0.1
    inputs = facts(x)["inputs"]
    assert inputs["constant"] == 1
    assert inputs["std_ratio"] < 2
    assert facts(torch.ones(5, 2))["inputs"]["std_ratio"] is None


@pytest.mark.parametrize(
    ("x", "kind", "features"),
    [
        (torch.zeros(5), "scalar", 1),
        (torch.zeros(5, 3), "tabular", 3),
        (torch.zeros(5, 4, 3), "sequence", 3),
        (torch.zeros(5, 3, 8, 8), "image", 3),
        (torch.zeros(5, 3, 8, 8, dtype=torch.uint8), "image", 3),
        (torch.zeros(5, 2, 4, 8, 8), "volume", 2),
        (torch.zeros(5, 7, dtype=torch.long), "tokens", 7),
        (np.zeros((5, 3)), "tabular", 3),
        ((torch.zeros(5, 3), torch.zeros(5)), "tabular", 3),
    ],
)
def test_kinds(x, kind, features):
    found = facts(x)
    assert found["kind"] == kind
    assert found["inputs"]["features"] == features


def test_the_channels_of_an_image_are_its_features():
    x = torch.zeros(2, 3, 4, 4)
    x[:, 1] = torch.linspace(0, 1, 16).reshape(4, 4)
    x[:, 2] = 10 * torch.linspace(0, 1, 16).reshape(4, 4)
    inputs = facts(x)["inputs"]
    assert inputs["std_ratio"] == pytest.approx(10)
    assert inputs["constant"] == 1


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (torch.tensor([0, 1, 1, 0]), "binary"),
        (torch.tensor([0.0, 1.0, 1.0]), "binary"),
        (torch.tensor([[0.0], [1.0], [1.0]]), "binary"),
        (torch.tensor([True, False]), "binary"),
        (torch.tensor([-1.0, 1.0]), "binary"),
        (torch.tensor([0, 3, 2, 1]), "classes"),
        (torch.tensor([[0, 1], [1, 0]]), "one-hot"),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "multi-label"),
        (torch.tensor([1.5, 2.0]), "real"),
        (torch.tensor([0.0, 1.0, 2.0]), "real"),
        (torch.tensor([10, 200_000, 35_000]), "real"),
        (torch.tensor([[1.5, 2.0], [0.1, 0.2]]), "real"),
    ],
)
def test_target_kinds(y, kind):
    assert facts(torch.zeros(len(y), 2), y)["target"]["kind"] == kind


def test_a_constant_target_is_told():
    assert facts(torch.zeros(9, 2), torch.full((9,), 3.5))["target"]["constant"]
    assert not facts(torch.zeros(9, 2), torch.arange(9.0))["target"]["constant"]


def test_the_order_of_targets_tells_sorted_from_shuffled():
    x, y = digits().train
    assert abs(facts(x, y)["target"]["neighbours"]["z"]) < 4
    assert facts(x, y.sort().values)["target"]["neighbours"]["z"] > 50
    real = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    assert abs(facts(x[:1000], real)["target"]["neighbours"]["z"]) < 4
    assert facts(x[:1000], real.sort().values)["target"]["neighbours"]["z"] > 25
