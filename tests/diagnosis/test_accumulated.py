"""Whatever way a loop accumulates its gradients, the loss of a step is that of the whole batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.accumulated import Heard, Part
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

SCRIPT = """
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
rule = torch.optim.SGD(model.parameters(), 0.02)
for at in batches(150):
    rule.zero_grad()
    WAY
    rule.step()
everything = model.parameters()
"""

EIGHTS = "for i in at.split(8):"
WAYS = {
    "a function divided": f"{EIGHTS} (F.mse_loss(model(X[i]), Y[i]) / 4).backward()",
    "multiplied": f"{EIGHTS} (0.25 * F.mse_loss(model(X[i]), Y[i])).backward()",
    "by hand": f"{EIGHTS} (((model(X[i]) - Y[i]) ** 2).mean() / 4).backward()",
    "unequal parts": "for i in at.split(24): (F.mse_loss(model(X[i]), Y[i]) * len(i) / 32).backward()",
    "unequal by hand": "for i in at.split(24): (((model(X[i]) - Y[i]) ** 2).mean() * len(i) / 32).backward()",
    "sums divided": f"{EIGHTS} (F.mse_loss(model(X[i]), Y[i], reduction='sum') / 32).backward()",
    "one by one": f"{EIGHTS} (F.mse_loss(model(X[i]), Y[i], reduction='none').sum() / 32).backward()",
    "one sum": "(F.mse_loss(model(X[at]), Y[at], reduction='sum') / len(at)).backward()",
}
WHOLE = "F.mse_loss(model(X[at]), Y[at]).backward()"


def watched(tmp_path: Path, way: str) -> Diagnosis:
    (path := tmp_path / "train.py").write_text(HEAD + SCRIPT.replace("WAY", way))
    found, status = watch_script(path, (), trials=0.0)
    assert found is not None
    assert status == 0
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_loss_of_a_step_is_that_of_its_whole_batch(way: str, tmp_path: Path) -> None:
    found, whole = watched(tmp_path, WAYS[way]), watched(tmp_path, WHOLE)
    mine, theirs = (each.run.history.series("train_loss") for each in (found, whole))
    same = np.intersect1d(mine.steps, theirs.steps)
    assert len(same) > 100
    np.testing.assert_allclose(
        mine.values[np.isin(mine.steps, same)], theirs.values[np.isin(theirs.steps, same)], rtol=1e-5
    )
    assert found.healthy
    assert "summed-objective" not in found.symptoms


def test_losses_that_are_not_shared_out_are_averaged_as_before(tmp_path: Path) -> None:
    """Their gradients add up to four times that of the mean: the level is that of one."""
    found = watched(tmp_path, f"{EIGHTS} F.mse_loss(model(X[i]), Y[i]).backward()")
    whole = watched(tmp_path, WHOLE)
    first = [each.run.history.series("train_loss").values[0] for each in (found, whole)]
    assert first[0] == pytest.approx(first[1], rel=1e-6)


def test_a_factor_of_the_loss_itself_stays(tmp_path: Path) -> None:
    """Half of the squares, in one pass: nothing was shared out."""
    found = watched(tmp_path, "(0.5 * ((model(X[at]) - Y[at]) ** 2).mean()).backward()")
    whole = watched(tmp_path, WHOLE)
    values = [each.run.history.series("train_loss").values for each in (found, whole)]
    assert values[0][0] == pytest.approx(0.5 * values[1][0], rel=1e-6)


def test_a_sum_that_is_not_divided_is_still_a_sum(tmp_path: Path) -> None:
    way = "F.mse_loss(model(X[at]), Y[at], reduction='sum').backward()"
    found, whole = watched(tmp_path, way), watched(tmp_path, WHOLE)
    values = [each.run.history.series("train_loss").values for each in (found, whole)]
    assert values[0][0] == pytest.approx(32 * values[1][0], rel=1e-5)


def test_a_step_that_lacks_a_part_is_told_on_the_same_scale() -> None:
    heard = Heard()
    for step, parts in ((1, 4), (2, 4), (3, 1)):
        for i in range(parts):
            heard.add(step, Part(0.25 * (2.0 + i), 0.25, bare=False), 0.1)
    assert [(step, value) for step, value, _ in heard.rows] == [(1, 3.5), (2, 3.5), (3, 2.0)]


def test_one_that_is_not_finite_counts_for_nothing_beside_others() -> None:
    heard = Heard()
    for value in (math.nan, 1.0, 3.0):
        heard.add(1, Part(value), 0.1)
    heard.add(2, Part(math.inf), 0.1)
    assert heard.rows[0][1] == 2.0
    assert heard.rows[1][1] == math.inf


def test_tensors_are_joined_as_numbers_are() -> None:
    heard = Heard()
    for value, share in ((2.0, 0.75), (6.0, 0.25)):
        heard.add(1, Part(torch.tensor(value), share), 0.1)
    assert float(heard.rows[0][1]) == 3.0


def looped(told: str) -> Run:
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    y = x.sum(1, keepdim=True).sin()
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    monitor = ds.watch(model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        for i in torch.arange(64).split(48 if told == "unequal" else 16):
            loss = F.mse_loss(model(x[i]), y[i]) * len(i) / 64
            if told == "bare":
                monitor.step(F.mse_loss(model(x[i]), y[i]))
            else:
                monitor.step(loss)
            loss.backward()
        optimizer.step()
    return monitor.run


def test_a_loop_may_hand_over_losses_before_or_after_they_are_divided() -> None:
    runs = [looped(told) for told in ("bare", "divided", "unequal")]
    losses = [each.history.series("train_loss").values for each in runs]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)
    levels = [each.facts["constant"]["loss"] for each in runs[:2]]
    assert levels[1] == pytest.approx(levels[0], rel=1e-4)
