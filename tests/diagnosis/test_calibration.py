from __future__ import annotations

import functools
import logging
from collections.abc import Iterator

import pytest

import downslope as ds
from bench.faults import Case, healthy, odd, sick


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)  # a batch size that rescales the rate says so
    yield
    logging.disable(logging.NOTSET)


STEPS = "1000000 steps"  # so that no clock decides

# One of each symptom, over tables and images, regression and classes, modules and custom forwards.
FAULTS = (
    "digits/modules/sgd/inputs*255", "diabetes/functions/adam/inputs+300", "diabetes/modules/sgd/targets",
    "digits/functions/momentum/softmax", "diabetes/modules/adam/sigmoid", "wine/modules/sgd/init 1e-4",
    "cancer/functions/sgd/init 1e-4", "digits/functions/sgd/all alike", "wine/functions/sgd/8 sigmoids",
    "cancer/modules/adam/biases -20", "digits/modules/adam/lr*3000", "wine/functions/sgd/lr*3000",
    "images/cnn/adam/lr*300", "digits/functions/adam/lr/10000", "cancer/modules/sgd/lr/10000",
    "digits/modules/adam/few",
)  # fmt: skip
TWINS = (
    "digits/modules/sgd/relu", "images/cnn/adam/relu", "cancer/functions/sgd/tanh",
    "wine/modules/rmsprop/relu", "diabetes/functions/adam/relu", "diabetes/modules/sgd/tanh",
)  # fmt: skip


def _diagnosed(case: Case) -> ds.Finding | None:
    found = ds.diagnose(case.problem, case.recipe, budget=STEPS, progress=False, folder=False)
    assert not [why for _, why in found.not_checked if "the check failed" in why]
    return found.root


@functools.cache
def _cases() -> dict[str, Case]:
    return {case.name: case for source in (sick, healthy) for case in source()}


@pytest.mark.parametrize("name", FAULTS)
def test_an_injected_fault_is_named_as_the_root(name: str) -> None:
    case = _cases()[name]
    root = _diagnosed(case)
    assert root is not None
    assert root.symptom == case.symptom


@pytest.mark.parametrize("name", TWINS)
def test_its_healthy_twin_is_left_in_peace(name: str) -> None:
    assert _diagnosed(_cases()[name]) is None


def test_odd_choices_that_work_are_left_in_peace() -> None:
    assert [case.name for case in odd() if _diagnosed(case) is not None] == []


@pytest.mark.slow  # 70 diagnoses with repair, about four minutes
def test_held_out_faults_are_named_and_healthy_runs_left_in_peace() -> None:
    cases = list(sick(split=1, seed=7, every=5))
    named = [(case, _diagnosed(case)) for case in cases]
    hurt = [(case, root) for case, root in named if root is not None]
    assert sum(case.symptom == root.symptom for case, root in hurt) >= 0.94 * len(hurt)
    for case in (*healthy(split=1, seed=7), *odd(split=1, seed=7)):
        assert _diagnosed(case) is None, case.name
