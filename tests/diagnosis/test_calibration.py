"""A few faults of the bench, their twins, and odd choices that work: named, and left in peace."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator

import pytest

import downslope as ds
from bench.diagnosis import outcome
from bench.diagnosis.case import Case, cases
from bench.diagnosis.fault import FAULTS, Sick


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)  # a batch size that rescales the rate says so
    yield
    logging.disable(logging.NOTSET)


STEPS = "1000000 steps"  # so that no clock decides

# One or two of each symptom, over tables, images and sequences, modules and custom forwards.
SICK = (
    "unscaled-inputs/digits/mlp/sgd/x3000", "unscaled-inputs/cancer/mlp-custom/sgd/shift +1000",
    "unscaled-targets/diabetes/mlp/sgd/x100+500", "output-activation/images/cnn-custom/sgd/classes softmax",
    "output-activation/diabetes/mlp-custom/adam/regression sigmoid",
    "init-scale/friedman/mlp-custom/momentum/small 1e-4", "init-scale/cancer/mlp-custom/sgd/small 1e-4",
    "symmetric-init/digits/mlp/sgd/0.1", "vanishing-gradient/wine/mlp-custom/sgd/10 sigmoids",
    "dead-units/cancer/mlp/adam/all", "learning-rate-too-high/digits/mlp-custom/adam/x3000",
    "learning-rate-too-high/images/cnn/adam/x300", "learning-rate-too-low/wine/mlp-custom/sgd/by 10000",
    "learning-rate-too-low/motifs/gru/adam/by 1000",
)  # fmt: skip
TWINS = (
    "digits/mlp/sgd", "images/cnn/adam", "cancer/mlp-custom/sgd", "wine/mlp/rmsprop",
    "diabetes/mlp-custom/adam", "labels/mlp/adam", "rows/rnn/adam", "motifs/attention/adam",
)  # fmt: skip
ODD = (
    "sigmoid net", "large lr", "edge of stability", "heavy dropout", "raw pixels, sgd", "autoencoder",
    "an objective below zero", "maximised", "frozen features on purpose", "warm start", "tiny data",
    "targets in raw units, adam", "no validation data", "all zero, but linear", "one example a step",
)  # fmt: skip


@functools.cache
def _cases() -> dict[str, Case]:
    """By id without the seed, of the half on which thresholds are set."""
    return {case.id.rpartition("/")[0]: case for case in cases(wide=True) if case.half == "calibrate"}


def _root(case: Case) -> str | None:
    made = case.build()
    found = ds.diagnose(made.problem, made.recipe, budget=STEPS, progress=False, folder=False)
    assert not [why for _, why in found.not_checked if "the check failed" in why]
    return None if found.root is None else found.root.symptom


@pytest.mark.parametrize("name", SICK)
def test_an_injected_fault_is_named_as_the_root(name: str) -> None:
    case = _cases()[name]
    assert _root(case) == case.symptom


@pytest.mark.parametrize("name", TWINS)
def test_its_healthy_twin_is_left_in_peace(name: str) -> None:
    assert _root(_cases()[f"twin/{name}"]) is None


@pytest.mark.parametrize("name", ODD)
def test_odd_choices_that_work_are_left_in_peace(name: str) -> None:
    assert _root(_cases()[f"odd/{name}"]) is None


def test_every_symptom_of_the_design_can_be_brought_about() -> None:
    _cases()
    known = {each.symptom for each in FAULTS} | {"stale-gradients"}
    assert len(known) == 39


def test_the_halves_share_no_data_and_no_seed() -> None:
    seeds: dict[str, set[int]] = {"calibrate": set(), "report": set()}
    for case in cases():
        if case.kind == "twin" and case.base and not case.grade:
            seeds[case.half].add(case.build().recipe.seed)
    assert not seeds["calibrate"] & seeds["report"]


@pytest.mark.parametrize("name", SICK[:4])
def test_a_fatal_grade_does_harm_and_its_twin_learns(name: str) -> None:
    case = _cases()[name]
    sick, twin = case.build(), _cases()[f"twin/{case.base}"].build()
    assert isinstance(sick, Sick)
    base = outcome.constant(twin.problem)
    reached, healthy = outcome.train(sick)[0].score, outcome.train(twin)[0].score
    assert outcome.share(reached, base, healthy) < outcome.HARMFUL
    assert outcome.learns(healthy, base, twin.problem)
