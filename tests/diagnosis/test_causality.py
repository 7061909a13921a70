"""What is given before the first step follows from nothing that comes after it, whatever the trials won."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from tests.diagnosis.runs import layer, run

ALIKE = {"loss": 2.3, "norms": 0, "layers": [layer("0", equal_rows=True), layer("2"), layer("4")]}
GROUND = {"lambda_max": 40.0, "lambda_min": -0.1, "gradient": 0.1}
LARGE = {"loss": 30.0, "norms": 0, "layers": [layer("0", gain=40.0), layer("2", gain=40.0), layer("4")]}
INPUTS = {"max_rms": 150.0, "rms": 130.0, "offset_ratio": 1.0, "std_ratio": 1.0}
SOFTMAX = {"tensors": 1, "expects": "logits", "objective": "cross_entropy", "activation": "softmax",
           "module": "5", "min": 0.0, "max": 0.9, "dead": False, "units": 10}  # fmt: skip
LINEAR = {"layers": ["0", "2", "4"], "bend": 0.0}


def trial(share: float, steps: int = 200) -> dict[str, Any]:
    return {"edit": "an edit", "share": share, "valid_share": None, "steps": steps}


def halfway(**facts: Any) -> Run:
    rows = [{"what": "a plain network", "loss": 0.01}]
    return run(np.geomspace(2.3, 1.4, 200), references=rows, **facts)


@pytest.mark.parametrize("own", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("steps", [40, 200])
def test_units_that_are_alike_stand_before_the_terrain_and_explain_it(own: float, steps: int) -> None:
    trials = {"symmetric-init": trial(own, steps), "ill-conditioned": trial(0.9)}
    made = halfway(start=ALIKE, ground=GROUND, trials=trials)
    made.facts["alike"] = {"0": {"still": True, "moved": True}}
    found = judge(made)
    assert found.root is not None
    assert found.root.symptom == "symmetric-init"
    assert [each.symptom for each in found.root.consequences] == ["ill-conditioned"]


def test_what_the_shorter_trial_won_is_held_against_half_of_the_longer_ones() -> None:
    rates = {"lr": 0.1, "control": 1.4, "start": 2.3, "tried": [(0.001, 0.1)], "steps": 40}
    for steps, root in ((40, "unscaled-inputs"), (200, "learning-rate-too-high")):
        trials = {"unscaled-inputs": trial(0.6, steps), "learning-rate-too-high": trial(0.95)}
        found = judge(run(features=INPUTS, rates=rates, trials=trials))
        assert found.root is not None
        assert found.root.symptom == root


@pytest.mark.parametrize(("further", "root"), [(True, "output-activation"), (False, "over-regularised")])
def test_a_longer_trial_that_came_further_beside_a_run_that_stands_is_not_behind_a_shorter_one(
    further: bool, root: str
) -> None:
    softmax = SOFTMAX | {"module": "5"}
    trials = {
        "output-activation": trial(0.52) | {"loss": 0.5 if further else 1.9, "valid_loss": 1.0},
        "over-regularised": trial(0.76, steps=100) | {"loss": 1.5, "valid_loss": 1.6},
    }
    made = run(output=softmax, trials=trials)
    made.recipe = ds.Recipe(optimizer="sgd", lr=0.1, weight_decay=0.1)
    found = judge(made)
    assert found.root is not None
    assert found.root.symptom == root, str(found)


def test_data_out_of_scale_is_no_consequence_of_a_rate() -> None:
    rates = {"lr": 0.1, "control": 2.3, "start": 2.3, "tried": [(0.001, 0.1)], "steps": 40}
    trials = {"unscaled-inputs": trial(0.25), "learning-rate-too-high": trial(0.95)}
    found = judge(run(features=INPUTS, rates=rates, trials=trials))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert "unscaled-inputs" not in [each.symptom for each in found.root.consequences]
    assert {each.symptom: each.severity for each in found.findings}["unscaled-inputs"] == "info"


@pytest.mark.parametrize(
    ("root", "facts"), [("output-activation", {"output": SOFTMAX}), ("unscaled-inputs", {"features": INPUTS})]
)
def test_code_and_start_follow_from_nothing(root: str, facts: dict[str, Any]) -> None:
    found = judge(run(start=LARGE, affine=LINEAR, trials={root: trial(0.95)}, **facts))
    assert found.root is not None
    assert found.root.symptom == root
    assert not {"missing-nonlinearity", "init-scale"} & {e.symptom for e in found.root.consequences}
    told = {each.symptom: each.severity for each in found.findings}
    assert told["missing-nonlinearity"] == told["init-scale"] == "info"
    assert "It explains missing" not in " ".join(str(found).split())


def test_a_second_fault_of_the_code_that_the_first_remedy_leaves_is_a_cause_of_its_own() -> None:
    trials = {"output-activation": trial(0.5), "missing-nonlinearity": trial(0.4)}
    found = judge(halfway(output=SOFTMAX, affine=LINEAR, trials=trials))
    told = [each.symptom for each in found.findings if each.severity != "info"]
    assert told == ["output-activation", "missing-nonlinearity"]


def test_what_shows_in_the_model_still_follows_from_its_start() -> None:
    layers = [layer("0", gain=0.001, grad_rms=1e-9), layer("2", gain=0.001), layer("4", gain=0.001)]
    found = judge(run(start={"loss": 2.3, "layers": layers, "norms": 0}))
    assert [each.symptom for each in found.findings[0].consequences] == ["vanishing-gradient"]


def test_alike_units_of_a_slow_run_are_not_blamed_where_a_trial_shows_that_they_cost_nothing() -> None:
    trials = {"symmetric-init": trial(0.05), "ill-conditioned": trial(0.9)}
    made = halfway(start=ALIKE, ground=GROUND, trials=trials)
    made.facts["alike"] = {"0": {"still": True, "moved": True}}
    found = judge(made)
    assert found.root is not None
    assert found.root.symptom == "ill-conditioned"


def test_a_rate_that_nothing_was_tried_of_is_no_advice_under_another_cause() -> None:
    """Targets out of scale throw the loss up: a lower rate would only take longer to reach them."""
    target = {"kind": "real", "rms": 1e4, "mean": 0.0, "std": 1e4}
    up = np.concatenate([[1e8], np.full(199, 9e8)])
    output = SOFTMAX | {"expects": "real", "objective": "mse", "activation": None}
    start = {"loss": 1e8, "norms": 0, "layers": []}
    found = judge(run(up, data={"target": target}, output=output, start=start, constant=1e8, references=None))
    assert found.root is not None
    assert found.root.symptom == "unscaled-targets"
    below = {each.symptom: each.message for each in found.root.consequences}
    assert "threw the loss up" in below["learning-rate-too-high"]
    assert "first guess" not in below["learning-rate-too-high"]
    alone = judge(run(up, output=output, start=start, constant=1e8, references=None)).root
    assert alone is not None
    assert alone.message.endswith("is a first guess: no lower rate was tried.")
