from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.modules import called, size
from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptom import _REGISTRY, symptom


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Linear(64, 10), "64x10"),
        (nn.Conv2d(3, 16, 5), "3x16"),
        (nn.LSTM(7, 9), "7x9"),
        (nn.Embedding(100, 8), "100x8"),
        (nn.ReLU(), ""),
        (nn.BatchNorm1d(4), ""),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_size_is_what_a_module_takes_and_gives(module: nn.Module, said: str) -> None:
    assert size(module) == said


def test_a_module_is_called_by_name_and_kind_and_a_function_after_its_module() -> None:
    facts = {
        "modules": {"3": {"type": "Linear", "size": "64x10"}, "norm": {"type": "BatchNorm1d", "size": ""}},
        "activations": {"1": {"kind": "relu", "after": "0"}},
        "output": {"module": "4", "activation": "softmax"},
    }
    assert called(facts, "3") == "3 (Linear 64x10)"
    assert called(facts, "norm") == "norm (BatchNorm1d)"
    assert called(facts, "1") == "1 (ReLU)"
    assert called(facts, "4") == "4 (Softmax)"
    assert called(facts, "3+tanh") == "Tanh after 3 (Linear 64x10)"
    assert called(facts, "unknown") == "unknown"
    assert called({}, "3") == "3"
    assert called({"output": None}, "") == ""


def test_what_is_called_stands_in_place_of_bare_names() -> None:
    bare, told = Where(modules=("3",), steps=(2, 2)), Where(modules=("3",), called=("3 (ReLU)",))
    assert (str(bare), str(told)) == ("3, step 2", "3 (ReLU)")
    assert str(Where()) == "whole model"


def test_a_diagnosis_calls_modules_by_their_kind() -> None:
    @symptom("of-a-module", title="a symptom of one module", order=("model", 99))
    def always(run: ds.Run) -> Finding:
        del run
        evidence = Evidence(name="share", value=1.0, threshold=0.5)
        where = Where(modules=("0",))
        return Finding(symptom="of-a-module", title="", severity="info", where=where, evidence=evidence)

    try:
        problem = ds.Problem(
            model=lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU()), objective="mse",
            train=(torch.randn(20, 8), torch.randn(20, 3)),
        )  # fmt: skip
        run = ds.fit(problem, ds.Recipe(optimizer="sgd", lr=0.1, steps=3), folder=False, progress=False)
        found = next(each for each in judge(run).findings if each.symptom == "of-a-module")
    finally:
        del _REGISTRY["of-a-module"]
    assert found.where.modules == ("0",)
    assert str(found.where) == "0 (Linear 8x3)"
    assert found.to_dict()["where"]["modules"] == ["0"]
    run.facts["nonfinite"] = {"step": 2, "what": "weight", "module": "0"}
    run.status = "diverged"
    assert "the weight of 0 (Linear 8x3)" in judge(run).verdict
