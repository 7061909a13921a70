"""The bundled sets: raw values, stratified seeded splits, names that fit the columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets

import downslope as ds
from downslope.core import names
from downslope.core.errors import DataError
from downslope.data import breast_cancer, diabetes, digits, split, wine

SETS = ["breast_cancer", "diabetes", "digits", "wine"]
"""Those of scikit-learn."""


@pytest.mark.parametrize("name", SETS)
def test_every_named_set_holds_scikit_learns_raw_rows_once(name):
    options = {"scaled": False} if name == "diabetes" else {}
    found = getattr(datasets, f"load_{name}")(**options)
    table = names.resolve("data", name)()
    assert table.valid is not None
    inputs = torch.cat([table.train[0], table.valid[0]]).numpy()
    target = torch.cat([table.train[1], table.valid[1]]).numpy()
    ours = np.concatenate([inputs, target[:, None].astype(np.float32)], axis=1)
    theirs = np.concatenate([found.data, found.target[:, None]], axis=1).astype(np.float32)
    by_row = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    np.testing.assert_array_equal(by_row(ours), by_row(theirs))
    assert table.train[0].dtype == torch.float32
    assert len(table.features) == inputs.shape[1]


@pytest.mark.parametrize("name", SETS)
def test_a_seed_gives_one_split_and_another_seed_another(name):
    load = names.resolve("data", name)
    assert torch.equal(load(seed=1).train[0], load(seed=1).train[0])
    assert not torch.equal(load(seed=1).train[0], load(seed=2).train[0])


@pytest.mark.parametrize("load", [digits, breast_cancer, wine])
def test_classes_keep_their_shares_in_both_parts(load):
    table = load(valid=0.25)
    assert table.task == "classification"
    count = len(table.classes)
    train, valid = (torch.bincount(pair[1], minlength=count) for pair in (table.train, table.valid))
    exact = (train + valid) * len(table.valid[1]) / (len(table.train[1]) + len(table.valid[1]))
    assert (valid - exact).abs().max() < 1
    assert table.train[1].dtype == torch.int64


def test_digits_have_the_usual_sizes_and_can_be_images():
    flat, images = digits(), digits(images=True, scale=16)
    assert (len(flat.train[0]), len(flat.valid[0])) == (1437, 360)
    assert flat.train[0].max() == 16
    assert images.train[0].shape == (1437, 1, 8, 8)
    torch.testing.assert_close(images.train[0].flatten(1) * 16, flat.train[0])
    assert torch.equal(images.train[1], flat.train[1])


def test_digits_stand_at_places_of_their_own_in_a_canvas():
    plain, placed = digits(images=True), digits(images=True, canvas=12)
    assert placed.train[0].shape == (1437, 1, 12, 12)
    assert digits(canvas=12).train[0].shape == (1437, 144)
    assert torch.equal(plain.train[1], placed.train[1])
    found = set()
    for small, large in zip(plain.train[0], placed.train[0], strict=True):
        assert small.sum() == large.sum()
        fits = [
            (r, c) for r in range(5) for c in range(5) if torch.equal(large[:, r : r + 8, c : c + 8], small)
        ]
        found |= set(fits)
        assert fits
    assert len(found) == 25
    again = digits(images=True, canvas=12, seed=1).valid[0]
    assert not torch.equal(again, placed.valid[0])
    with pytest.raises(DataError, match="canvas=7"):
        digits(canvas=7)


def test_diabetes_is_a_regression_in_raw_units():
    table = diabetes()
    assert table.task == "regression"
    assert table.classes == []
    assert table.train[1].dtype == torch.float32
    assert table.train[1].shape == (353,)
    assert table.train[1].max() > 300


def test_standardising_is_fitted_on_the_training_part_only():
    table = wine(standardise=True)
    torch.testing.assert_close(table.train[0].mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(table.train[0].std(0, unbiased=False), torch.ones(13))
    assert table.valid[0].mean(0).abs().max() > 0.01


def test_nothing_held_out_is_none():
    assert wine(valid=0.0).valid is None
    assert len(wine(valid=0.0).train[0]) == 178


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_a_share_outside_its_domain_is_refused(share):
    with pytest.raises(DataError, match="valid="):
        wine(valid=share)


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(DataError, match="scale=0"):
        digits(scale=0)


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize("valid", [0.0, 0.2, 0.99])
@pytest.mark.parametrize("stratify", [False, True])
def test_a_split_partitions_and_leaves_something_to_train_on(n, valid, stratify):
    labels = np.arange(n) % 3 if stratify else None
    train, held = split(n, valid=valid, seed=5, labels=labels)
    assert sorted([*train, *held]) == list(range(n))
    assert len(train) >= 1
    if stratify:
        assert set(labels[train]) == set(labels)


def test_a_split_of_sorted_classes_is_in_random_order():
    labels = np.repeat([0, 1], 500)
    for part in split(1000, valid=0.5, seed=0, labels=labels):
        assert 0.4 < labels[part][:250].mean() < 0.6


@pytest.mark.parametrize("name", SETS)
def test_float64_keeps_every_digit(name):
    options = {"scaled": False} if name == "diabetes" else {}
    found = getattr(datasets, f"load_{name}")(**options)
    inputs, target = names.resolve("data", name)(valid=0.0, dtype=torch.float64).train
    by_row = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    np.testing.assert_array_equal(by_row(inputs.numpy()), by_row(found.data))
    assert target.dtype == (torch.float64 if name == "diabetes" else torch.int64)


def test_the_optimum_of_float64_data_is_the_published_one():
    data = breast_cancer(standardise=True, valid=0.0, dtype=torch.float64)
    problem = ds.Problem(model="logistic", objective="logistic", train=data.train)
    assert ds.solve(problem, l2=1e-3).objective == pytest.approx(0.05982793727108945, abs=1e-14)


def test_a_dtype_that_is_not_floating_is_refused():
    with pytest.raises(DataError, match="floating type"):
        wine(dtype=torch.int64)
