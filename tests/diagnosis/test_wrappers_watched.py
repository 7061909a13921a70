"""Wrappers of `ds.optim` are named with what is inside, and their steps, rates and losses are those of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import downslope as ds
from downslope import optim
from downslope.core.run import Run
from downslope.diagnosis.script import watch_script
from downslope.reporting import facts
from tests.diagnosis.watched import HEAD

MADE: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "lookahead(adam)": lambda p: optim.Lookahead(p, lr=3e-3),
    "lookahead(nadam)": lambda p: optim.Lookahead(torch.optim.NAdam(p, lr=3e-3)),
    "sam(sgd)": lambda p: optim.SAM(p, lr=3e-3),
    "sam(lookahead(adam))": lambda p: optim.SAM(optim.Lookahead(optim.Adam(p, lr=3e-3))),
    "cautious_adamw": lambda p: optim.CautiousAdamW(p, lr=3e-3),
}


def data() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), x, x.sum(1, keepdim=True).sin()


def monitored(make: Callable[[Any], torch.optim.Optimizer], steps: int = 20, halves: bool = False) -> Run:
    model, x, y = data()
    optimizer = make(model.parameters())
    monitor = ds.watch(model, optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        if halves:
            assert isinstance(optimizer, optim.SAM)
            loss = closure()
            optimizer.first_step()
            closure()
            optimizer.second_step()
        elif isinstance(optimizer, optim.SAM):
            loss = optimizer.step(closure)
        else:
            loss = closure()
            optimizer.step()
        monitor.step(loss)
    return monitor.run


@pytest.mark.parametrize("name", MADE)
def test_a_loop_names_what_is_inside_and_its_rate(name: str) -> None:
    found = monitored(MADE[name])
    assert facts.recipe(found) == f"{name} lr 0.003"
    assert found.summary["steps"] == 20


def test_the_halves_of_sam_are_steps_too() -> None:
    found = monitored(MADE["sam(sgd)"], halves=True)
    assert found.summary["steps"] == 20
    assert facts.recipe(found) == "sam(sgd) lr 0.003"
    whole = monitored(MADE["sam(sgd)"])
    assert found.history.series("train_loss").values.tolist() == pytest.approx(
        whole.history.series("train_loss").values.tolist()
    )


SCRIPT = """
from downslope import optim
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
rule = RULE
losses = []
for at in batches(100):
    def closure():
        rule.zero_grad()
        loss = F.mse_loss(model(X[at]), Y[at])
        loss.backward()
        return loss
    LOOP
torch.save(losses, PATH)
"""

WHOLE = "losses.append(rule.step(closure).item())"
HALVES = """losses.append(closure().item()); rule.first_step()
    closure(); rule.second_step()"""


def scripted(tmp_path: Path, rule: str, loop: str) -> tuple[Run, list[float]]:
    kept = tmp_path / "losses.pt"
    path = tmp_path / "train.py"
    path.write_text(
        HEAD + SCRIPT.replace("RULE", rule).replace("LOOP", loop).replace("PATH", repr(str(kept)))
    )
    found, status = watch_script(path, (), trials=0.0)
    assert found is not None
    assert status == 0
    return found.run, torch.load(kept)


@pytest.mark.parametrize("loop", [WHOLE, HALVES])
def test_the_loss_of_a_step_of_sam_is_that_before_the_climb(loop: str, tmp_path: Path) -> None:
    found, losses = scripted(tmp_path, "optim.SAM(model.parameters(), lr=0.05, rho=0.5)", loop)
    assert facts.recipe(found) == "sam(sgd) lr 0.05"
    np.testing.assert_allclose(found.history.series("train_loss").values, losses, rtol=1e-6)


def test_a_schedule_inside_a_wrapper_is_read(tmp_path: Path) -> None:
    rule = "optim.Lookahead(model.parameters(), lr=0.01, schedules={'lr': lambda t: 1 - t / 200})"
    found, _ = scripted(tmp_path, rule, WHOLE)
    assert facts.recipe(found) == "lookahead(adam) lr 0.00505 to 0.01"


@pytest.mark.parametrize("told", ["before", "after"])
@pytest.mark.parametrize("outside", [False, True])
def test_a_loop_reads_the_rate_that_its_step_took(told: str, outside: bool) -> None:
    """Of a warm-up, whose first rate is far from the one that the optimizer was made with."""
    model, x, y = data()
    warm: Callable[[int], float] = lambda t: min(1.0, (t + 1) / 10)  # noqa: E731
    optimizer = optim.SGD(model.parameters(), lr=0.1, schedules={} if outside else {"lr": warm})
    later = torch.optim.lr_scheduler.LambdaLR(optimizer, warm) if outside else None
    monitor = ds.watch(model, optimizer)
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        if told == "before":
            monitor.step(loss)
        optimizer.step()
        if later is not None:
            later.step()
        if told == "after":
            monitor.step(loss)
    rates = monitor.run.history.series("lr").values
    np.testing.assert_allclose(rates, [0.1 * warm(t) for t in range(15)], rtol=1e-6)
