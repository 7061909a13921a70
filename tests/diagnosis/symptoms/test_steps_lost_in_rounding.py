"""Steps that rounding leaves nothing of, in single and half precision, beside steps that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.finding import Finding
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.rounded import lost
from downslope.diagnosis.script import watch_script
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.watched import HEAD

MODELS = {
    "mlp": "nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))",
    "norms": "nn.Sequential(nn.Linear(10, 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 32), nn.GELU(),"
    " nn.Linear(32, 4))",
}
WORDS = "lost in rounding"


def watched(
    folder: Path, rule: str, dtype: str, model: str = "mlp", seed: int = 0, steps: int = 200
) -> Diagnosis:
    body = f"""
import downslope as ds
torch.manual_seed({seed})
model = {MODELS[model]}.to(torch.{dtype})
rule = {rule}
for at in batches({steps}):
    loss = F.cross_entropy(model(X[at].to(torch.{dtype})).float(), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""
    (path := folder / "train.py").write_text(HEAD + body)
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    return found


def told(found: Diagnosis) -> Finding | None:
    return next((each for each in found.findings if WORDS in each.message), None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("rule", "dtype", "first"),
    [
        ("torch.optim.SGD(model.parameters(), 1e-9)", "float32", "lr 1e-09 -> 0.1"),
        ("torch.optim.AdamW(model.parameters(), 1e-11)", "float32", "lr 1e-11 -> 0.001"),
        ("ds.optim.Adam(model.parameters(), 1e-12)", "float32", "lr 1e-12 -> 0.001"),
        ("torch.optim.Adam(model.parameters(), 1e-5)", "bfloat16", "weights in float32"),
        ("ds.optim.AdamW(model.parameters(), 3e-5)", "bfloat16", 'rounding="stochastic" or "master"'),
        ("torch.optim.SGD(model.parameters(), 1e-8)", "bfloat16", "lr 1e-08 -> 0.1"),
    ],
)
def test_steps_below_half_a_unit_in_the_last_place_are_told_as_lost(
    rule: str, dtype: str, first: str, model: str, seed: int, tmp_path: Path
) -> None:
    root = watched(tmp_path, rule, dtype, model, seed).root
    assert root is not None
    assert (root.symptom, root.severity) == ("learning-rate-too-low", "critical")
    assert f"{WORDS}: {dtype}" in root.message
    assert first in str(root.remedies[0])
    assert "is a first guess: no higher rate was tried" in root.message
    assert (len(root.remedies) == 2) == (dtype == "bfloat16")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        ("torch.optim.SGD(model.parameters(), 0.1)", "float32"),
        ("torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)", "bfloat16"),
        ("torch.optim.Adam(model.parameters(), 1e-2)", "bfloat16"),
        ("ds.optim.Adam(model.parameters(), 2e-3, rounding='stochastic')", "bfloat16"),
        ("ds.optim.Adam(model.parameters(), 2e-3, rounding='master')", "bfloat16"),
    ],
)
def test_steps_that_are_kept_are_healthy(
    rule: str, dtype: str, model: str, seed: int, tmp_path: Path
) -> None:
    found = watched(tmp_path, rule, dtype, model, seed, steps=400)
    assert found.root is None, str(found)


@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        ("torch.optim.SGD(model.parameters(), 1e-9)", "float64"),
        ("torch.optim.SGD(model.parameters(), 1e-5)", "float32"),
        ("ds.optim.Adam(model.parameters(), 1e-6, rounding='stochastic')", "bfloat16"),
        ("ds.optim.Adam(model.parameters(), 1e-7, rounding='master')", "bfloat16"),
    ],
)
def test_a_rate_that_is_too_low_for_any_precision_is_no_rounding(
    rule: str, dtype: str, tmp_path: Path
) -> None:
    found = watched(tmp_path, rule, dtype)
    assert told(found) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_that_vanish_and_layers_left_out_are_no_rounding(dtype: str, tmp_path: Path) -> None:
    deep = "*(each for _ in range(30) for each in (nn.Linear(10, 10), nn.Sigmoid()))"
    for model, held in (
        (f"nn.Sequential({deep}, nn.Linear(10, 4))", "model"),
        (MODELS["norms"], "model[-1]"),
    ):
        MODELS["odd"] = model
        try:
            found = watched(tmp_path, f"torch.optim.SGD({held}.parameters(), 0.1)", dtype, "odd")
        finally:
            del MODELS["odd"]
        assert told(found) is None, str(found)


@pytest.mark.parametrize("lr", [1e-9, 1e-5, 1e-4, 1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_where_steps_are_called_lost_few_weights_have_moved(dtype: torch.dtype, lr: float) -> None:
    """The share that moved is counted, beside the bound that is read off the size of the update."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(20_000, generator=draw).to(dtype)
    after = (w.float() - lr * torch.randn(20_000, generator=draw)).to(dtype)
    before = w.double()
    moved = float(before[after != w].square().sum() / before.square().sum())
    ratio = float((after.double() - before).norm() / before.norm())
    assert moved <= (2 * ratio / torch.finfo(dtype).eps) ** 2 * (1 + 1e-6)


def test_the_fact_is_read_off_what_a_task_records_and_the_rate_is_proved() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    fields: dict[str, Any] = {"objective": "cross_entropy", "train": (x, (x[:, 0] > 0).long())}
    problem = ds.Problem(model=lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)), **fields)
    found = diagnosed(problem, ds.Recipe(optimizer="adam", lr=1e-11, epochs=20))
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-low"
    assert WORDS in found.root.message
    assert "recovers 100%" in found.root.message
    assert "first guess" not in found.root.message
    assert lost(diagnosed(problem, ds.Recipe(optimizer="adam", lr=1e-2, epochs=20)).run) is None


def test_half_precision_in_a_task_is_told_with_both_remedies() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)).bfloat16(),
        objective=lambda output, target: functional.cross_entropy(output.float(), target),
        train=(x, (x[:, 0] > 0).long()),
    )
    found = diagnosed(problem, ds.Recipe(optimizer="adam", lr=1e-5, epochs=20))
    assert found.root is not None, str(found)
    assert WORDS in found.root.message
    assert [str(each).split()[0] for each in found.root.remedies] == ["lr", "rounding"]
    assert diagnosed(problem, ds.Recipe(optimizer="adam", lr=1e-2, epochs=20)).root is None
