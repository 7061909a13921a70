"""A fault that is certain by the code is told before any scale of the data, whatever the loop was fed."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

LARGE = """
X = 100 * X
Y = 500 * Y
"""

LOOP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 1)
    def forward(self, x):
        return self.b(torch.tanh(self.a(x / SCALE)))
model, other = Net(), Net()
rule = RULE
for at in batches(400):
    output, target = model(X[at]), Y[at]
    CLEAR
    loss = LOSS
    loss.backward()
    rule.step()
"""

SOUND = {
    "WIDTH": "32", "SCALE": "100", "RULE": "torch.optim.Adam(model.parameters(), 3e-2)",
    "CLEAR": "rule.zero_grad()", "LOSS": "F.mse_loss(output, target) / 25e4",
}  # fmt: skip


def watched(folder: Path, **changed: str) -> Diagnosis:
    body = LOOP
    for name, value in (SOUND | changed).items():
        body = body.replace(name, value)
    path = folder / "train.py"
    path.write_text(HEAD + LARGE + body)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    return found


RAW = {
    "SCALE": "1",
    "LOSS": "F.mse_loss(output, target)",
    "RULE": "torch.optim.SGD(model.parameters(), 1e-7)",
}
BROADCAST = {
    "of torch, RMSprop": {
        "LOSS": "F.mse_loss(output, target[:, 0])", "RULE": "torch.optim.RMSprop(model.parameters(), 1e-2)",
    },
    "absolute, Adam": {
        "LOSS": "F.l1_loss(output[:, 0], target)", "RULE": "torch.optim.Adam(model.parameters(), 1e-3)",
    },
    "written out, momentum": {
        "LOSS": "((output - target[:, 0]) ** 2).mean()",
        "RULE": "torch.optim.SGD(model.parameters(), 1e-8, momentum=0.9)",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BROADCAST)
def test_an_output_compared_with_every_target_is_the_root_whatever_the_scale(
    name: str, tmp_path: Path
) -> None:
    found = watched(tmp_path, **(RAW | BROADCAST[name]))
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == ("objective-mismatch", "critical")
    assert not {"unscaled-inputs", "unscaled-targets"} & set(found.symptoms)
    open_ = dict(found.not_checked)
    assert "every output is compared with every target" in open_["unscaled-targets"]


def test_an_optimizer_of_another_model_is_the_root_whatever_the_scale(tmp_path: Path) -> None:
    found = watched(tmp_path, **(RAW | {"RULE": "torch.optim.Adam(other.parameters(), 1e-3)"}))
    assert found.root is not None, str(found)
    assert found.root.symptom == "frozen-parameters"
    assert "unscaled-inputs" not in found.symptoms


def test_gradients_that_are_never_cleared_stand_before_the_scale(tmp_path: Path) -> None:
    found = watched(tmp_path, **(RAW | {"CLEAR": "pass"}))
    assert found.root is not None, str(found)
    assert found.root.symptom == "stale-gradients"


def test_without_such_a_fault_the_scale_is_named_and_a_model_that_mends_it_is_healthy(tmp_path: Path) -> None:
    found = watched(tmp_path, **RAW)
    assert found.root is not None, str(found)
    assert found.root.symptom == "unscaled-inputs"
    assert watched(tmp_path).healthy
