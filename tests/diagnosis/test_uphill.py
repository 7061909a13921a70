"""Losses turned round by a minus, or 0 whatever the answers are, beside those that are so on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.losses import signed
from downslope.diagnosis.monitor import watch
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.uphill import turned_round
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.watched import HEAD

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def root(folder: Path, loss: str, before: str = "") -> Finding | None:
    """The cause that is told of a script with this loss of `out` and the rows `at`."""
    body = f"""
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, WIDTH))
{before}
rule = torch.optim.SGD(model.parameters(), 0.05)
for at in batches(200):
    out = model(X[at])
    loss = {loss}
    rule.zero_grad(); loss.backward(); rule.step()
"""
    body = body.replace("WIDTH", "1" if "[:, :1]" in loss or "float()" in loss else "4")
    (path := folder / "train.py").write_text(HEAD + body)
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    return found.root


@pytest.mark.parametrize(
    ("loss", "name"),
    [("-F.cross_entropy(out, C[at])", "cross_entropy"), ("-1 * F.mse_loss(out, Y[at][:, :1])", "mse_loss")],
)
def test_a_minus_before_a_loss_that_has_a_floor_is_the_cause(loss: str, name: str, tmp_path: Path) -> None:
    found = root(tmp_path, loss)
    assert found is not None
    assert (found.symptom, found.severity) == ("objective-mismatch", "critical")
    assert f"minus {name}" in found.message
    assert "take the minus away" in str(found.remedies[0])


@pytest.mark.parametrize(
    "loss",
    [
        "-out.log_softmax(1).gather(1, C[at][:, None]).mean()",
        "(F.cross_entropy(out, C[at], reduction='none') * torch.ones(len(at))).mean()",
        "F.cross_entropy(out, C[at]) - 5.0",
        "-(-F.cross_entropy(out, C[at]))",
        "F.cross_entropy(out, C[at]) - 0.1 * torch.distributions.Categorical(logits=out).entropy().mean()",
    ],
)
def test_losses_that_have_a_minus_and_lead_down_are_sound(loss: str, tmp_path: Path) -> None:
    assert root(tmp_path, loss) is None


MODEL = {"0": {"parameters": 9, "norm": False}}


def test_advantages_of_either_sign_and_an_adversary_are_none() -> None:
    made = run(
        np.geomspace(2.3, 300, 200),
        modules=MODEL,
        turned={"name": "cross_entropy", "steps": 9, "minus": 9, "nil": 0},
    )
    assert turned_round(made) == ("cross_entropy", False)
    for changes in ({"foreign": True}, {"rivals": 1}, {"start": {"loss": 0.2, "layers": []}}):
        other = run(np.geomspace(2.3, 300, 200), modules=MODEL, turned=made.facts["turned"], **changes)
        assert (
            turned_round(other) is None
        )  # another model's output, a player against it, forgetting on purpose
    for minus in (8, 0):
        assert (
            turned_round(
                run(
                    np.geomspace(2.3, 300, 200), modules=MODEL, turned=made.facts["turned"] | {"minus": minus}
                )
            )
            is None
        )
    bare = run(np.geomspace(2.3, 300, 200), turned=made.facts["turned"])
    assert turned_round(bare) is None  # an input that is trained to fool a model
    assert turned_round(run(turned=made.facts["turned"])) is None  # it stands: nothing was driven up


def test_the_sign_is_read_off_the_graph() -> None:
    out = torch.randn(8, 3, requires_grad=True)
    ce = functional.cross_entropy(out, torch.zeros(8, dtype=torch.long))
    assert signed(ce) == ("cross_entropy", 1)
    assert signed(-ce) == signed(ce / -4) == signed(1 - ce) == ("cross_entropy", -1)
    assert signed(0 * ce) == ("cross_entropy", 0)
    assert signed(3 - (1 - ce)) == ("cross_entropy", 1)
    assert signed(ce + out.mean()) is None


def test_a_monitor_is_told_of_the_minus() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    rule = torch.optim.SGD(model.parameters(), 0.1)
    monitor = watch(model, rule)
    for step in range(150):
        at = torch.arange(40) + 40 * (step % 5)
        loss = -functional.cross_entropy(model(X[at]), Y[at])
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    found = monitor.diagnose()
    monitor.close()
    assert found.root is not None, str(found)
    assert "minus cross_entropy" in found.root.message


def _minus(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -functional.cross_entropy(output, target)


def test_diagnose_is_told_of_the_minus_without_a_metric() -> None:
    fields: dict[str, Any] = {"model": lambda: nn.Linear(6, 2), "train": (X, Y)}
    found = diagnosed(ds.Problem(objective=_minus, **fields), ds.Recipe(optimizer="sgd", lr=0.5, epochs=40))
    assert found.root is not None, str(found)
    assert "minus cross_entropy" in found.root.message


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        ("nn.CrossEntropyLoss()(out, (Y[at] > 0).float())", "one column"),
        ("0 * F.cross_entropy(out, C[at])", "times 0"),
        ("F.mse_loss(out, out.detach())", "compares what is the same"),
    ],
)
def test_a_loss_of_0_has_its_cause(loss: str, why: str, tmp_path: Path) -> None:
    found = root(tmp_path, loss)
    assert found is not None
    assert (found.symptom, found.severity) == ("objective-mismatch", "critical")
    assert why in found.message


def test_a_margin_that_is_kept_from_the_start_is_no_fault(tmp_path: Path) -> None:
    far = "model[2].weight.data.zero_(); model[2].bias.data.copy_(torch.tensor([9., 0., 0., 0.]))"
    found = root(tmp_path, "F.multi_margin_loss(out, torch.zeros(len(at), dtype=torch.long))", far)
    assert found is None or found.symptom == "constant-target"


def test_a_sure_model_that_was_trained_before_is_no_fault() -> None:
    made: Run = run(np.zeros(200))
    made.facts["output"]["shape"] = [10]
    assert "objective-mismatch" not in judge(made).symptoms


def test_a_loss_by_hand_that_is_0_from_the_start_is_told_and_blamed_for_nothing(tmp_path: Path) -> None:
    loss = "(out.log_softmax(1)[:, 0] * (C[at] - C[at])).mean()"
    assert root(tmp_path, loss) is None
    found, _ = watch_script(tmp_path / "train.py", (), trials=0.0)
    assert found is not None
    told = next(each for each in found.findings if each.symptom == "objective-mismatch")
    assert told.severity == "info"
    assert "advantages" in told.message
