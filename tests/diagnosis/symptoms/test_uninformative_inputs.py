"""Uninformative inputs: what two rankings allow to be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.run import Run
from downslope.data import inspect
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.uninformative_inputs import uninformative_inputs
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.symptoms.trying import finding
from tests.diagnosis.watched import HEAD


def guessing(z: float, n: int = 1000, **more: float) -> Run:
    """A run that guesses on held-out data, and how the targets were ranked by others."""
    ending: dict[str, Any] = {
        "valid_metric": 0.1,
        "best_valid_metric": 0.1,
        "valid_loss": 2.3,
        "valid_n": 400,
    }
    made = run(np.full(200, 2.3), ending=ending | {"best_valid_loss": 2.3})
    made.facts["signal"] = {"z": z, "score": 0.5, "n": n, "noise": 0.0, "doubted": []} | more
    return made


def test_both_have_to_guess_before_nothing_is_told() -> None:
    assert finding(uninformative_inputs(guessing(0.4, linear=-0.5))).severity == "critical"
    assert finding(uninformative_inputs(guessing(0.4))).severity == "critical"  # recorded without a line
    assert isinstance(uninformative_inputs(guessing(3.1, linear=0.0)), Clear)
    assert isinstance(uninformative_inputs(guessing(0.4, linear=3.1)), Clear)


@pytest.mark.parametrize(("z", "linear"), [(2.3, 1.7), (1.2, 2.9)])
def test_between_chance_and_a_signal_neither_is_claimed(z: float, linear: float) -> None:
    """Weak but real: P(y = 1) = sigmoid(0.3 x), 1000 examples."""
    assert isinstance(uninformative_inputs(guessing(z, linear=linear)), Unknown)


@pytest.mark.parametrize(("counts", "told"), [([500, 12], False), ([256, 256], True), ([51] * 10, True)])
def test_a_class_of_a_few_examples_is_too_little_to_miss_what_there_may_be(
    counts: list[int], told: bool
) -> None:
    made = guessing(0.4, n=sum(counts))
    labels = [float(k) for k in range(len(counts))]
    made.facts["data"]["target"] = {"kind": "classes", "labels": labels, "counts": counts}
    found = uninformative_inputs(made)
    assert isinstance(found, Unknown) != told
    assert told or "nearly all of one class" in " ".join(str(found).split())


SCRIPT = """
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(150):
    loss = F.cross_entropy(model(INPUTS), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


@pytest.mark.parametrize("inputs", ["torch.ones_like(X[at])", "X[:1].expand(len(at), 10)"])
def test_inputs_that_are_the_same_for_all_examples_are_told_at_once(inputs: str, tmp_path: Path) -> None:
    (path := tmp_path / "train.py").write_text(HEAD + SCRIPT.replace("INPUTS", inputs))
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == ("uninformative-inputs", "critical")
    assert "the same inputs" in found.root.message
    assert "the same inputs" in dict(found.not_checked).get("unscaled-inputs", "the same inputs")


def test_diagnose_tells_the_same_inputs_of_a_task() -> None:
    y = torch.arange(120) % 3
    task: dict[str, Any] = {"model": lambda: nn.Linear(4, 3), "objective": "cross_entropy"}
    found = diagnosed(ds.Problem(train=(torch.ones(120, 4), y), **task), ds.Recipe(epochs=3))
    assert found.root is not None, str(found)
    assert found.root.symptom == "uninformative-inputs"
    assert "All examples have the same inputs" in found.root.message


def test_one_picture_from_one_noise_is_learnt_on_purpose() -> None:
    """The deep image prior: one input, one target, over and over."""
    noise, picture = torch.ones(64, 5), torch.linspace(-1, 1, 7).expand(64, 7)
    assert not inspect.same(noise, picture)
    assert not inspect.same(noise[:10], torch.arange(10))
    assert inspect.same(noise, torch.arange(64))
