"""The order of targets in a watched script: sorted data is told, a series or a shuffle is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.served import Served, targets_of

_HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
"""

_LOOP = """
optimizer = {optimizer}
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle={shuffle})
slices = [(x[i:i + 32], y[i:i + 32]) for i in range(0, len(x), 32)]
for epoch in range(12):
    for inputs, target in {served}:
        optimizer.zero_grad()
        loss = objective(model(inputs), target)
        loss.backward()
        optimizer.step()
"""

_CLASSES = """
from sklearn.datasets import load_digits
digits = load_digits()
x = torch.tensor(digits.data / 16.0, dtype=torch.float32)
y = torch.tensor(digits.target)
if {sort}:
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
objective = nn.CrossEntropyLoss()
"""

_NUMBERS = """
x = torch.randn(1280, 8)
y = x[:, :1] + torch.sin(2 * x[:, 1:2])
y = (y - y.mean()) / y.std()
if {sort}:
    order = y[:, 0].argsort(stable=True)
    x, y = x[order], y[order]
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
objective = nn.MSELoss()
"""

_SERIES = """
t = torch.arange(1300.0) / 60
s = torch.sin(t) + 0.5 * torch.sin(2.7 * t) + {noise} * torch.randn(1300)
x = torch.stack([s[i:i + 12] for i in range(1280)])
y = s[12:1292, None]
model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
objective = nn.MSELoss()
"""

_SGD = "torch.optim.SGD(model.parameters(), lr={lr}, momentum={momentum})"


def watched(
    tmp_path: Path, data: str, optimizer: str, served: str = "loader", shuffle: bool = False
) -> Diagnosis:
    loop = _LOOP.format(optimizer=optimizer, shuffle=shuffle, served=served)
    (tmp_path / "train.py").write_text(_HEAD + data + loop, encoding="utf-8")
    found, _ = watch_script(tmp_path / "train.py", [], trials=0.0)
    assert found is not None
    return found


def severities(found: Diagnosis) -> dict[str, str]:
    return {each.symptom: each.severity for each in found.findings}


@pytest.mark.parametrize("served", ["loader", "slices"])
@pytest.mark.parametrize(
    ("data", "optimizer"),
    [(_CLASSES, _SGD.format(lr=0.1, momentum=0.0)), (_NUMBERS, _SGD.format(lr=0.05, momentum=0.9))],
    ids=["classes", "numbers"],
)
def test_a_script_that_follows_its_sorted_targets_is_told_so(
    tmp_path: Path, data: str, optimizer: str, served: str
) -> None:
    found = watched(tmp_path, data.format(sort=True), optimizer, served)
    assert severities(found).get("unshuffled-data") in ("warning", "critical")
    assert found.findings[0].symptom == "unshuffled-data"
    assert found.run.facts["order"]["explained"] > 0.8


@pytest.mark.parametrize(("data", "noise"), [(_CLASSES, 0), (_NUMBERS, 0)], ids=["classes", "numbers"])
@pytest.mark.parametrize(
    "optimizer", [_SGD.format(lr=0.05, momentum=0.0), "torch.optim.Adam(model.parameters())"]
)
def test_the_same_data_shuffled_is_healthy(tmp_path: Path, data: str, noise: float, optimizer: str) -> None:
    found = watched(tmp_path, data.format(sort=True), optimizer, shuffle=True)
    assert "unshuffled-data" not in severities(found)
    assert found.healthy


@pytest.mark.parametrize("noise", [0.05, 0.6])
@pytest.mark.parametrize(
    "optimizer", [_SGD.format(lr=0.01, momentum=0.0), "torch.optim.Adam(model.parameters())"]
)
def test_a_series_in_its_order_is_healthy_however_noisy(tmp_path: Path, noise: float, optimizer: str) -> None:
    found = watched(tmp_path, _SERIES.format(noise=noise), optimizer, "slices")
    assert found.run.facts["order"]["explained"] > 0.5
    assert severities(found).get("unshuffled-data") in (None, "info")
    assert found.healthy


def test_a_rate_that_moves_nothing_is_not_put_down_to_the_order(tmp_path: Path) -> None:
    found = watched(tmp_path, _SERIES.format(noise=0.05), _SGD.format(lr=1e-7, momentum=0.0), "slices")
    assert severities(found).get("unshuffled-data") in (None, "info")


_CONVOLUTIONS = """
model = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 10),
)
"""


@pytest.mark.parametrize("lr", [0.01, 0.03])
def test_a_model_that_is_driven_to_and_fro_by_batches_of_one_class_stands_for_their_order(
    tmp_path: Path, lr: float
) -> None:
    optimizer = _SGD.format(lr=lr, momentum=0.9)
    sick = watched(tmp_path, _CLASSES.format(sort=True) + _CONVOLUTIONS, optimizer)
    assert sick.findings[0].symptom == "unshuffled-data", str(sick)
    assert sick.findings[0].severity == "critical"
    assert "learning-rate-too-high" not in [each.symptom for each in sick.findings]
    assert watched(tmp_path, _CLASSES.format(sort=True) + _CONVOLUTIONS, optimizer, shuffle=True).healthy


def test_batches_of_one_class_are_not_blamed_where_no_step_moves_anything(tmp_path: Path) -> None:
    found = watched(tmp_path, _CLASSES.format(sort=True), _SGD.format(lr=1e-7, momentum=0.0))
    assert severities(found).get("unshuffled-data") in (None, "info")


def test_the_share_between_batches_is_that_of_an_analysis_of_variance() -> None:
    target = torch.randn(20, 32, dtype=torch.float64) + torch.arange(20.0)[:, None] / 10
    served = Served()
    for step, batch in enumerate(target, start=1):
        kept = targets_of(torch.zeros(32, 1), batch)
        assert kept is not None
        served.add(step, 1.0, kept)
    found = served.measured()
    assert found is not None
    between = 32 * float((target.mean(1) - target.mean()).square().sum())
    assert math.isclose(
        found["explained"], between / float((target - target.mean()).square().sum()), rel_tol=1e-9
    )


@pytest.mark.parametrize(("until", "known"), [(30, False), (120, True)])
def test_new_batches_of_the_opening_alone_do_not_say_that_a_model_follows_the_order(
    until: int, known: bool
) -> None:
    served = Served()
    for step in range(1, 401):  # classes that come by turns at first; then of one class, and learnt
        label = step % 2 if step <= until else 0
        loss = 2.0 if step <= until else 1e-3
        targets = targets_of(torch.zeros(8, 2), torch.full((8,), label))
        assert targets is not None
        served.add(step, loss, targets)
    found = served.measured()
    assert found is not None
    assert found["explained"] > 0.9
    assert (found["fresh"] is not None) == known


def test_of_class_indices_every_class_is_a_column() -> None:
    served = Served()
    for step in range(1, 31):
        kept = targets_of(torch.zeros(4, 3), torch.full((4,), (step // 4) % 3))
        assert kept is not None
        served.add(step, 2.0, kept)
    found = served.measured()
    assert found is not None
    assert math.isclose(found["explained"], 1.0)
    assert served.sorted


def test_sums_of_many_batches_at_once_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downslope.diagnosis.served.WAITING", 300)  # three batches wait at most
    batches = [torch.randn(12 if i % 7 == 6 else 32, 3) + i / 10 for i in range(40)]  # epochs end unevenly
    served = Served()
    for step, batch in enumerate(batches, start=1):
        given = batch.clone()
        kept = targets_of(torch.zeros(len(batch), 3), given)
        assert kept is not None
        served.add(step, float(step), kept)
        given.zero_()  # what is kept is a copy
    found = served.measured()
    assert found is not None
    assert found["batches"] == 40
    every = torch.cat(batches).double()
    means = [len(each) * (each.double().mean(0) - every.mean(0)).square().sum() for each in batches]
    share = float(sum(means) / (every - every.mean(0)).square().sum())
    assert math.isclose(found["explained"], share, rel_tol=1e-9)


def test_targets_of_another_kind_than_the_first_are_left_out() -> None:
    served = Served()
    made = torch.zeros(4, 3)
    for step, target in enumerate(
        [torch.tensor([0, 1, 2, 0]), torch.zeros(4, 3), torch.tensor([2, 2, 1, 0])]
    ):
        kept = targets_of(made, target)
        assert kept is not None
        served.add(step, 1.0, kept)
    assert served.measured() is None  # two batches are too few
    assert targets_of(made, torch.zeros(4, 2, dtype=torch.long)) is None
    assert targets_of(made, torch.zeros(0)) is None
    assert targets_of(made, torch.zeros(4, 2000)) is None
