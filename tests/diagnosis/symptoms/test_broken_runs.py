"""No symptom raises over measurements that are broken, and none takes them for evidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptom import registry
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.trying import FAR, trial

BROKEN: dict[str, Any] = {"nan": math.nan, "inf": math.inf, "minus inf": -math.inf, "zero": 0.0}


def facts(value: float) -> dict[str, Any]:
    """Every measurement that is a number, as `value`."""
    ground = ("grad_norm", "reach", "weight_norm", "loss", "lambda_max", "lambda_min", "lambda_min_residual",
              "lambda_max_residual", "downhill")  # fmt: skip
    return {
        "ground": dict.fromkeys(ground, value) | {"products": 3},
        "noise": {"scale": value, "ratio": value, "batch": 512, "batches": 12},
        "lags": {"ratio": value, "steps": 30, "modules": [], "profile": []},
        "modes": {"train": value, "eval": value, "drawn": value, "norms": [], "dropouts": [], "batch": 2},
        "capacity": {"loss": value, "steps": 3},
        "spread": {"condition": value, "features": 3, "examples": 30},
        "signal": {"z": value, "score": value, "n": 100, "noise": value, "doubted": []},
        "mixed": {
            "share": value,
            "by": "other",
            "where": "",
            "function": "mean",
            "sizes": [[8, 2]],
            "single": False,
            "edits": [],
            "left": value,
            "whole": False,
        },
        "shift": {
            "learnt": True,
            "missing": value,
            "sure": value,
            "n": 100,
            "scores": {key: {"loss": value, "right": value} for key in ("train", "valid")},
            "apart": value,
            "noise": value,
            "moments": [value] * 4,
            "change": {"kind": "scale", "text": "x * 2", "apart": value},
            "mended": {"loss": value, "right": value},
            "recovered": value,
            "won": value,
        },
        "affine": {"bend": value, "layers": ["0", "2"]},
        "references": [*FAR, {"what": "the same model", "loss": value}],
        "trials": {},
    }


LOSSES: dict[str, Any] = {
    "none": [], "one": [2.3], "flat": [2.3] * 200, "nan": [math.nan] * 200,
    "down": np.geomspace(2.3, 1.5, 200),
}  # fmt: skip


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("losses", LOSSES)
def test_nothing_raises_over_numbers_that_are_none(value: str, losses: str) -> None:
    result = judge(run(LOSSES[losses], **facts(BROKEN[value])))
    assert [why for _, why in result.not_checked if "check failed" in why] == []
    known = {each for each, _ in (*result.cleared, *result.not_checked)} | set(result.symptoms)
    assert known == set(registry())


@pytest.mark.parametrize("value", ["nan", "inf", "minus inf"])
def test_a_measurement_that_failed_is_no_evidence(value: str) -> None:
    result = judge(run(LOSSES["down"], **facts(BROKEN[value])))
    ours = {"plateau", "saddle-point", "ill-conditioned", "long-term-dependency", "mode-gap", "high-bias",
            "label-noise", "missing-nonlinearity", "mixed-examples"}  # fmt: skip
    assert ours & {each.symptom for each in result.findings if each.severity != "info"} == set()


@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf])
def test_a_trial_that_gave_no_number_proves_nothing(share: float) -> None:
    names = ("oscillation", "cliff", "noisy-gradient", "plateau", "saddle-point", "ill-conditioned")
    made: Run = run(LOSSES["down"], references=FAR, trials={name: trial(share) for name in names})
    result = judge(made)
    assert {each.symptom for each in result.findings} & set(names) == set()
