"""What is measured of an objective that was heard agrees with hand calculation; scripts are judged by it."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.losses import crossed
from downslope.diagnosis.measure import heard
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD, TAIL

made = torch.linspace(-1, 1, 8)[:, None]
wanted = torch.linspace(0, 3, 8)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_broadcast_loss_is_told_from_the_aligned_one() -> None:
    found = heard.measure(functional.mse_loss, made, wanted)
    everyone = ((made - wanted[None, :]) ** 2).mean()
    own = ((made[:, 0] - wanted) ** 2).mean()
    assert found["value"] == pytest.approx(float(everyone))
    assert found["aligned"] == pytest.approx(float(own))


def test_shapes_that_agree_have_nothing_to_align_and_the_slope_is_that_of_the_formula() -> None:
    found = heard.measure(functional.mse_loss, made[:, 0], wanted)
    slope = 2 * (made[:, 0] - wanted) / 8
    assert found["aligned"] is None
    assert found["growth"] == pytest.approx(1.0)
    assert found["gradient"] == pytest.approx(float(slope.square().mean().sqrt()))


def test_a_sum_grows_with_its_batch() -> None:
    def summed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(output, target, reduction="sum")

    assert heard.measure(summed, made[:, 0], wanted)["growth"] == pytest.approx(2.0)


def test_a_slope_of_zero_at_one_output_says_nothing() -> None:
    assert "gradient" not in heard.measure(functional.mse_loss, wanted, wanted)


def differences(output: torch.Tensor) -> torch.Tensor:
    return ((output - wanted) ** 2).mean()


def test_a_loss_by_hand_that_compares_all_with_all_is_seen_in_its_graph() -> None:
    layer = nn.Linear(1, 1)
    assert crossed(differences(layer(made))) == (8, 1)
    assert crossed(0.5 * differences(layer(made))) == (8, 1)
    assert crossed((layer(made)[:, 0] - wanted[:, None]).abs().mean()) == (8,)


def test_own_targets_and_pairs_on_purpose_are_not_taken_for_it() -> None:
    output = nn.Linear(1, 1)(made)
    assert crossed(differences(output[:, 0])) is None
    assert crossed(((output - wanted[:, None]) ** 2).mean()) is None
    assert crossed(((output[:, 0].unsqueeze(1) - wanted[None, :]) ** 2).mean()) is None
    assert crossed(((output - output.T) ** 2).mean()) is None
    assert crossed(((nn.Linear(1, 8)(made) - torch.eye(8)) ** 2).mean()) is None
    assert crossed(output.mean()) is None


LOOP = """
import warnings
warnings.simplefilter("ignore")
Z = Y[:, 0]
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
rule = torch.optim.RULE
for at in batches(300):
    out = model(X[at])
    loss = LOSS
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
"""
ADAM, SGD = "Adam(model.parameters(), 3e-3)", "SGD(model.parameters(), 0.05, momentum=0.9)"


def watched(folder: Path, loss: str, rule: str = ADAM) -> Diagnosis:
    path = folder / "train.py"
    path.write_text(HEAD + LOOP.replace("LOSS", loss).replace("RULE", rule) + TAIL)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(), warnings.catch_warnings():
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    assert (status, found.notes) == (0, [])
    return found


@pytest.mark.parametrize(
    "loss",
    ["F.mse_loss(out, Z[at])", "nn.L1Loss()(out, Z[at])", "((out - Z[at]) ** 2).mean()",
     "(out.squeeze(1) - Y[at]).abs().mean()"],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_the_cause(loss: str, tmp_path: Path) -> None:
    found = watched(tmp_path, loss)
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == ("objective-mismatch", "critical")
    assert "squeeze" in " ".join(str(each) for each in found.root.remedies)


@pytest.mark.parametrize(
    "loss",
    ["F.mse_loss(out, Y[at])", "F.mse_loss(out.squeeze(1), Z[at])", "((out - Y[at]) ** 2).mean()",
     "F.mse_loss(out, Y[at]) + 1e-4 * sum(p.abs().sum() for p in model.parameters())"],
)  # fmt: skip
def test_shapes_that_fit_are_none(loss: str, tmp_path: Path) -> None:
    found = watched(tmp_path, loss)
    assert found.healthy, str(found)
    assert "objective-mismatch" not in found.symptoms


def test_a_sum_that_throws_the_run_is_the_cause_and_one_that_works_is_none(tmp_path: Path) -> None:
    found = watched(tmp_path, "F.mse_loss(out, Y[at], reduction='sum')", SGD)
    assert found.root is not None, str(found)
    assert found.root.symptom == "summed-objective"
    assert "mean" in str(found.root.remedies[0])
    found = watched(tmp_path, "F.mse_loss(out, Y[at], reduction='sum')", SGD.replace("0.05", "1e-4"))
    assert found.healthy, str(found)
    assert "summed-objective" in dict(found.cleared)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_monitor_hears_it_too() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    model = nn.Linear(3, 1)
    rule = torch.optim.SGD(model.parameters(), 0.05)
    monitor = ds.watch(model, rule)
    for _ in range(100):
        loss = functional.mse_loss(model(x), x[:, 0])
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    assert "objective-mismatch" in monitor.diagnose().symptoms
