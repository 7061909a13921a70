"""A watched loop that learns nothing: whether its data have anything to learn is asked of the data."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script

LOOP = """
import torch
from torch import nn
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
torch.manual_seed({seed})
{data}
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / (X.std(0) + 1e-6)
model = nn.Sequential(nn.Linear(X.shape[1], 24), nn.{activation}(), nn.Linear(24, {outputs}))
{before}
optimizer = torch.optim.{optimizer}
for epoch in range({epochs}):
    order = torch.randperm(len(X))
    other = {other}
    for rows, labels in zip(order.split(32), other.split(32)):
        optimizer.zero_grad()
        loss = {loss}(model(X[rows]), Y[labels])
        loss.backward()
        optimizer.step()
"""

CLASSES = {
    "data": "X, Y = load_digits(return_X_y=True); Y = torch.tensor(Y)", "outputs": 10,
    "loss": "nn.functional.cross_entropy", "epochs": 12,
}  # fmt: skip
YES_NO = {
    "data": "X, Y = load_breast_cancer(return_X_y=True); Y = torch.tensor(Y).float()[:, None]", "outputs": 1,
    "loss": "nn.BCEWithLogitsLoss()", "epochs": 15,
}  # fmt: skip
NUMBERS = {
    "data": "X, Y = load_diabetes(return_X_y=True); Y = torch.tensor(Y / 77 - 2).float()[:, None]",
    "outputs": 1, "loss": "nn.MSELoss()", "epochs": 15,
}  # fmt: skip


def watched(tmp_path: Path, **changes: object) -> Diagnosis:
    said = {"seed": 0, "activation": "ReLU", "before": "", "other": "torch.randperm(len(X))",
            "optimizer": "Adam(model.parameters(), lr=1e-3)"} | changes  # fmt: skip
    path = tmp_path / "train.py"
    path.write_text(LOOP.format(**said), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("task", [CLASSES, YES_NO, NUMBERS], ids=["classes", "yes or no", "numbers"])
@pytest.mark.parametrize(
    "optimizer", ["SGD(model.parameters(), lr=0.02)", "Adam(model.parameters(), lr=1e-3)"]
)
def test_inputs_and_targets_that_are_shuffled_apart_are_named(
    tmp_path: Path, task: dict[str, object], optimizer: str
) -> None:
    found = watched(tmp_path, **task, optimizer=optimizer)
    assert found.root is not None
    assert found.root.symptom == "uninformative-inputs"
    assert found.root.severity == "warning"


@pytest.mark.parametrize("task", [CLASSES, YES_NO, NUMBERS], ids=["classes", "yes or no", "numbers"])
@pytest.mark.parametrize(
    "fault",
    [
        {"optimizer": "Adam(model.parameters(), lr=1e-9)"},
        {"before": "[p.data.zero_() for p in model.parameters()]", "activation": "Tanh"},
        {"before": "[p.data.fill_(-9.0) for p in model[0].parameters()]"},
    ],
    ids=["a rate of nothing", "zero weights", "dead units"],
)
def test_data_that_have_something_to_learn_are_not_blamed(
    tmp_path: Path, task: dict[str, object], fault: dict[str, object]
) -> None:
    found = watched(tmp_path, **(task | {"other": "order"} | fault))
    assert "uninformative-inputs" not in found.symptoms
