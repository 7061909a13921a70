"""Weights that decay alone took away, in scripts and by hand, and decays that let a model learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from downslope.core.run import Run
from downslope.diagnosis.decayed import decayed
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

LOOP = """
torch.manual_seed(SEED)
Y = Y + 0.3
model = nn.Sequential(nn.Linear(10, 32), NORM nn.ReLU(), nn.Linear(32, 32), NORM nn.ReLU(), nn.Linear(32, 1))
rule = torch.optim.RULE
for at in batches(400):
    rule.zero_grad()
    F.mse_loss(model(X[at]), TARGETS[at]).backward()
    rule.step()
"""


def watched(folder: Path, rule: str, *, seed: int = 0, norm: str = "", targets: str = "Y") -> Diagnosis:
    made = {"RULE": rule, "SEED": str(seed), "NORM": norm, "TARGETS": targets}
    body = LOOP
    for name, value in made.items():
        body = body.replace(name, value)
    script = folder / "train.py"
    script.write_text(HEAD + body, encoding="utf-8")
    found, _ = watch_script(script, trials=0.0)
    assert found is not None
    return found


SICK = [
    "SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=1.0)",
    "SGD(model.parameters(), 0.02, momentum=0.9, nesterov=True, weight_decay=1.0)",
    "SGD(model.parameters(), 0.1, weight_decay=2.0)",
    "Adam(model.parameters(), 3e-3, weight_decay=2.0)",
    "AdamW(model.parameters(), 3e-3, weight_decay=300.0)",
]


@pytest.mark.parametrize("rule", SICK)
@pytest.mark.parametrize("seed", range(2))
def test_weights_that_decay_alone_took_away_are_its_fault_without_a_trial(
    rule: str, seed: int, tmp_path: Path
) -> None:
    found = watched(tmp_path, rule, seed=seed)
    assert found.root is not None, str(found)
    assert found.root.symptom == "over-regularised", str(found)
    assert found.root.severity == "critical"
    assert [each.symptom for each in found.findings if each.severity != "info"] == ["over-regularised"]
    assert found.root.remedies[0].provable or "weight_decay" in str(found.root.remedies[0])


ODD = [
    ("SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)", ""),
    ("AdamW(model.parameters(), 1e-3, weight_decay=0.5)", ""),
    ("AdamW(model.parameters(), 3e-3, weight_decay=5.0)", ""),
    ("SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=0.1)", "nn.BatchNorm1d(32),"),
    ("Adam(model.parameters(), 3e-3, weight_decay=0.1)", "nn.BatchNorm1d(32),"),
]


@pytest.mark.parametrize(("rule", "norm"), ODD)
def test_decays_with_which_a_model_learns_are_no_fault(rule: str, norm: str, tmp_path: Path) -> None:
    found = watched(tmp_path, rule, norm=norm)
    assert found.healthy, str(found)


def test_a_usual_decay_is_not_blamed_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    rule = "SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-3)"
    found = watched(tmp_path, rule, targets="torch.randn(640, 1)")
    assert "over-regularised" not in [each.symptom for each in found.findings]


def shrinking(
    shares: list[float], *, decay: float = 0.5, gradient: float = 0.5, lr: float = 0.02, **settings: Any
) -> Run:
    """A run of three layers whose first two keep these shares of their norms at steps 1, 100, 200, ..."""
    made = Run(status="done")
    rule = {"name": "momentum", "lr": lr, "momentum": 0.9, "weight_decay": decay} | settings
    made.facts = {
        "optimizer": rule,
        "modules": {name: {"parameters": 100, "norm": False} for name in ("0", "2", "4")},
    }
    made.history.extend("lr", list(range(1, 401)), [lr] * 400)
    for at, each in enumerate(shares):
        step = max(1, 100 * at)
        made.probes.log(step, "weight_norm", {"0": 2.0 * each, "2": 3.0 * each, "4": 1.0})
        made.probes.log(step, "grad_norm", dict.fromkeys(("0", "2", "4"), gradient))
    return made


GONE = [1.0, 1e-2, 1e-4, 1e-6]


def test_what_is_left_and_what_the_decay_takes_are_told() -> None:
    found = decayed(shrinking(GONE))
    assert found is not None
    assert found.left == pytest.approx(1e-6)
    assert found.modules == ("0", "2")
    assert found.step == 100
    assert found.outweighs == pytest.approx(2.5)  # 0.5 * (2, 3) in 0.5


@pytest.mark.parametrize(
    "made",
    [
        shrinking([1.0, 0.1, 0.05, 0.03]),
        shrinking([1.0, 1e-2, 1e-4, 0.3]),
        shrinking([1.0, 3.0, 1e-2, 1e-4]),
        shrinking(GONE, decay=0.0),
        shrinking(GONE, decay=5e-4),
        shrinking(GONE, gradient=2.0),
        shrinking(GONE, gradient=0.0),
        shrinking(GONE[:1]),
    ],
    ids=["a part left", "came back", "thrown first", "no decay", "too slow", "outweighed", "cut off", "one"],
)
def test_weights_that_another_cause_shrank_or_that_are_there_were_not_decayed(made: Run) -> None:
    assert decayed(made) is None


@pytest.mark.parametrize(
    ("name", "lr", "momentum", "decay"),
    [("momentum", 0.02, 0.9, 0.5), ("momentum", 0.02, 0.92, 2.0), ("momentum", 0.2, 0.5, 0.2),
     ("nesterov", 0.02, 0.9, 0.5), ("nesterov", 0.02, 0.9, 4.0), ("sgd", 0.1, 0.0, 0.5)],
)  # fmt: skip
def test_the_rate_of_the_decay_is_that_of_torchs_optimizer(
    name: str, lr: float, momentum: float, decay: float
) -> None:
    p = nn.Parameter(torch.ones(1, dtype=torch.float64))
    rule = torch.optim.SGD([p], lr, momentum=momentum, weight_decay=decay, nesterov=name == "nesterov")
    sizes: list[float] = []
    for _ in range(600):
        p.grad = torch.zeros_like(p)
        rule.step()
        sizes.append(abs(p.item()))
    fall = math.log(max(sizes[100:150]) / max(sizes[500:550])) / 400
    found = decayed(shrinking(GONE, decay=decay, name=name, momentum=momentum, lr=lr))
    assert found is not None
    assert found.rate == pytest.approx(1 - math.exp(-fall), rel=0.05)
