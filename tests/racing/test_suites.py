"""Suites: what is there is raced on, what is not is told; nothing is fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import downslope as ds
from downslope.core.errors import InputError
from downslope.racing.race import race
from downslope.racing.suites import SUITES, suite

DATA = os.environ.get("DOWNSLOPE_DATA") or None


def test_without_data_what_needs_it_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOWNSLOPE_DATA", raising=False)
    found = suite("small")
    assert list(found.tasks) == ["quadratic_deep", "digits_mlp", "digits_cnn"]
    assert set(found.skipped) == {"logistic_a9a", "fmnist_2c2d", "char_gpt"}
    assert all("DOWNSLOPE_DATA is not set" in why for why in found.skipped.values())


def test_data_that_is_not_in_its_folder_is_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOWNSLOPE_DATA", str(tmp_path))
    assert "libsvm/a9a, which is not in" in suite("small").skipped["logistic_a9a"]


@pytest.mark.skipif(DATA is None, reason="DOWNSLOPE_DATA is not set")
def test_with_data_the_small_suite_is_whole() -> None:
    found = suite("small")
    assert list(found.tasks) == list(SUITES["small"])
    assert not found.skipped


def test_the_tiny_suite_is_raced_with_its_own_batches_and_targets() -> None:
    found = suite("tiny")
    problems = {name: problem for name, (problem, _) in found.tasks.items()}
    recipes = {name: recipe for name, (_, recipe) in found.tasks.items()}
    result = race(
        problems, ["sgd", "adam"], recipe=recipes, target=found.targets, seeds=2, trials=4, progress=False
    )
    assert result.problems == ["breast_cancer", "wine"]
    assert [result.entry("sgd", name).target.level for name in result.problems] == list(
        found.targets.values()
    )
    assert result.entry("sgd", "breast_cancer").recipe.epochs == 5
    assert result.entry("sgd", "wine").recipe.epochs == 10


def test_a_suite_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'small'"):
        suite("smal")
    assert isinstance(ds.Recipe(), ds.Recipe)
