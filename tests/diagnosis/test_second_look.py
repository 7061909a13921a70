"""A model asked again in both modes: where a script scores nothing but a measure of its own in eval mode."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as torch_module

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.shown import _sure  # pyright: ignore[reportPrivateUsage]
from tests.diagnosis.watched import HEAD

SCORED = """
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32, momentum={momentum}), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.Adam(model.parameters(), 1e-2)
X = 5 * X + 8
for epoch in range(6):
    model.train()
    for at in batches(40):
        loss = F.cross_entropy(model(X[at]), C[at])
        rule.zero_grad(); loss.backward(); rule.step()
    {mode}
    with torch.no_grad():
        print((model(X[:200]).argmax(1) == C[:200]).float().mean())
"""


def watched(folder: Path, **said: object) -> Diagnosis:
    path = folder / "train.py"
    path.write_text(HEAD + SCORED.format(**said), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        found, _ = watch_script(path)
    assert found is not None
    return found


def test_statistics_that_never_move_are_told_though_no_loss_is_scored(tmp_path: Path) -> None:
    found = watched(tmp_path, momentum=0.0, mode="model.eval()")
    assert found.root is not None
    assert found.root.symptom == "mode-gap"


@pytest.mark.parametrize(
    ("momentum", "mode"), [(0.1, "model.eval()"), (0.0, "pass")], ids=["moving", "no eval"]
)
def test_statistics_that_move_or_that_nobody_uses_are_no_fault(
    tmp_path: Path, momentum: float, mode: str
) -> None:
    found = watched(tmp_path, momentum=momentum, mode=mode)
    assert found.root is None
    assert "mode-gap" not in found.symptoms


def test_losses_of_many_sizes_are_told_by_their_ratios() -> None:
    """A log-normal draw of deviation 2: by differences 12 examples are 1.6 errors from none, by ratios 9."""
    generator = torch.Generator().manual_seed(0)
    trained = 0.01 * torch.exp(torch.randn(12, generator=generator, dtype=torch.float64))
    ratio = torch.exp(5 + 2 * torch.randn(12, generator=generator, dtype=torch.float64))
    lost = trained * ratio - trained
    assert float(lost.mean() / lost.std() * 12**0.5) < 3
    assert _sure(trained, trained * ratio) > 5


def test_one_example_that_loses_all_is_not_many_that_lose_a_little() -> None:
    trained = torch.full((12,), 0.5, dtype=torch.float64)
    resting = 0.501 * torch.ones(12, dtype=torch.float64)
    resting[3] = 60.0
    assert _sure(trained, resting) < 4


CUT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2)), nn.Linear(2, 4)
    def forward(self, x):
        return self.head(self.body(x).detach())
model = Net()
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(300):
    loss = (F.cross_entropy(model(X[at]), C[at], reduction='none') ** 1.5).mean()
    rule.zero_grad(); loss.backward(); rule.step()
"""


def test_a_run_that_stays_far_beside_a_body_that_never_changes_is_not_called_healthy(tmp_path: Path) -> None:
    """By a loss of the script's own, of which no constant guess is known."""
    path = tmp_path / "train.py"
    path.write_text(HEAD + CUT, encoding="utf-8")
    found, _ = watch_script(path)
    assert found is not None
    assert found.symptoms[0] == "frozen-parameters"
    assert found.root is None
    assert "most of the model never changes" in found.reserve


@pytest.mark.parametrize(
    "body",
    [
        "model.eval()",
        "model.eval()\nrule = torch.optim.SGD(model.parameters(), 0.1)\nmodel.eval()",
        "raise SystemExit",
    ],
    ids=["no optimizer", "no step", "ended"],
)
def test_a_script_that_ends_in_eval_mode_leaves_nothing_behind(tmp_path: Path, body: str) -> None:
    path = tmp_path / "train.py"
    path.write_text(HEAD + "model = nn.Linear(2, 2)\n" + body, encoding="utf-8")
    watch_script(path)
    assert not torch_module._has_any_global_hook()  # else torch warns of it when a compiled model is called
