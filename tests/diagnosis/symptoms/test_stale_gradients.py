"""Gradients that no step clears are named, in any loop; loops that clear them in their own way are not."""

from __future__ import annotations

import contextlib
import copy
import io
import runpy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits import Advice
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms import stale_gradients
from tests.diagnosis.watched import HEAD, TAIL

NAME = "stale-gradients"

LOOP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 24), nn.Linear(24, 4)
    def forward(self, x):
        return self.b(F.relu(self.a(x)))
model = Net()
rule = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
for step, at in enumerate(batches(STEPS)):
    CLEAR
    loss = F.cross_entropy(model(X[at]), C[at])
    loss.backward()
    TAKE
everything = model.parameters()
"""


def loop(clear: str = "pass", take: str = "rule.step()", steps: int = 150) -> str:
    return LOOP.replace("CLEAR", clear).replace("TAKE", take).replace("STEPS", str(steps))


def watched(folder: Path, body: str) -> tuple[Diagnosis, str]:
    path = folder / "train.py"
    path.write_text(HEAD + body + TAIL)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    assert (status, found.notes) == (0, [])
    return found, output.getvalue()


def alone(folder: Path, body: str) -> str:
    path = folder / "alone.py"
    path.write_text(HEAD + body + TAIL)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    return output.getvalue()


SICK = {
    "never cleared": loop(),
    "another model's gradients cleared": loop("nn.Linear(2, 2).zero_grad()"),
    "cleared now and then": loop("if step % 30 == 0: rule.zero_grad()"),
    "a few steps": loop(steps=4),
    "cleared in part": loop("model.b.zero_grad()"),
    "adam": loop().replace("SGD(model.parameters(), 0.02, momentum=0.9)", "Adam(model.parameters(), 3e-3)"),
    "accumulated, and never cleared": loop(take="if step % 4 == 3: rule.step()", steps=300),
    "a closure": loop(take="").replace("    loss = F.", "    def closure():\n     loss = F.").replace(
        "    loss.backward()\n    ", "     loss.backward()\n     return loss\n    rule.step(closure)"),
    "gradients clipped": loop(take="nn.utils.clip_grad_norm_(model.parameters(), 1.0); rule.step()"),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_gradients_that_are_not_cleared_are_the_cause_and_the_script_goes_on_unchanged(
    name: str, tmp_path: Path
) -> None:
    found, output = watched(tmp_path, SICK[name])
    assert output == alone(tmp_path, SICK[name])
    assert found.root is not None, str(found)
    assert found.root.symptom == NAME, str(found)
    assert isinstance(found.root.remedies[0], Advice)
    assert "zero_grad" in str(found.root.remedies[0])
    assert found.root.evidence.value > 0.25


SOUND = {
    "cleared first": loop("rule.zero_grad()"),
    "cleared after the step": loop(take="rule.step(); rule.zero_grad()"),
    "filled with zeros": loop("rule.zero_grad(set_to_none=False)"),
    "cleared by the model": loop("model.zero_grad()"),
    "cleared by hand": loop("for p in model.parameters(): p.grad = None"),
    "accumulated": loop(take="if step % 4 == 3: rule.step(); rule.zero_grad()", steps=300),
    "accumulated with a remainder": loop(
        "if step % 2 == 0: rule.zero_grad()", "if step % 2 == 1: rule.step()", steps=301),
    "momentum of gradients by hand": loop(take="rule.step()\n    for p in model.parameters(): p.grad *= 0.5"),
    "gradients put in by hand": loop().replace(
        "loss.backward()",
        "for p, g in zip(model.parameters(), torch.autograd.grad(loss, [*model.parameters()])): p.grad = g"),
    "a scaler": loop("rule.zero_grad()", "scaler.step(rule); scaler.update()").replace(
        "loss.backward", "scaler.scale(loss).backward").replace(
        "model = Net()", "model = Net(); scaler = torch.amp.GradScaler('cpu', init_scale=1024.)"),
    "the first steps only": loop("if step > 3: rule.zero_grad()", steps=300),
    "two passes a step": loop("rule.zero_grad()", steps=200).replace(
        "    loss.backward()", "    (loss / 2).backward(retain_graph=True)\n    (loss / 2).backward()"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_loop_that_clears_in_its_own_way_is_sound(name: str, tmp_path: Path) -> None:
    found, output = watched(tmp_path, SOUND[name])
    assert output == alone(tmp_path, SOUND[name])
    assert NAME not in found.symptoms, str(found)
    assert NAME in dict(found.cleared) or "by hand" in name


RIVALS = """
maker = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
judge = nn.Sequential(nn.Linear(10, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
first = torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.999))
second = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
objective = nn.BCEWithLogitsLoss()
for at in batches(200):
    fake = maker(torch.randn(32, 4))
    CLEAR
    told, false = judge(X[at]), judge(fake.detach())
    (objective(told, torch.ones(32, 1)) + objective(false, torch.zeros(32, 1))).backward()
    second.step()
    EXTRA
    first.zero_grad()
    objective(judge(fake), torch.ones(32, 1)).backward()
    first.step()
everything = [*maker.parameters(), *judge.parameters()]
"""


@pytest.mark.parametrize("extra", ["pass", "second.step()"])
def test_what_a_generator_leaves_in_a_discriminator_is_cleared_in_time(extra: str, tmp_path: Path) -> None:
    # A further step before it makes the discriminator the optimizer that is judged.
    found, _ = watched(tmp_path, RIVALS.replace("CLEAR", "second.zero_grad()").replace("EXTRA", extra))
    assert NAME in dict(found.cleared)


def test_a_discriminator_whose_gradients_are_never_cleared_is_named(tmp_path: Path) -> None:
    found, _ = watched(tmp_path, RIVALS.replace("CLEAR", "pass").replace("EXTRA", "second.step()"))
    assert NAME in found.symptoms


def test_a_closure_that_clears_is_sound(tmp_path: Path) -> None:
    body = """
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
rule = torch.optim.LBFGS(model.parameters(), max_iter=5)
def closure():
    rule.zero_grad()
    loss = F.mse_loss(model(X), Y)
    loss.backward()
    return loss
for step in range(8):
    rule.step(closure)
everything = model.parameters()
"""
    assert NAME in dict(watched(tmp_path, body)[0].cleared)
    assert NAME in watched(tmp_path, body.replace("    rule.zero_grad()\n", ""))[0].symptoms


def test_clearing_cures_it(tmp_path: Path) -> None:
    sick, _ = watched(tmp_path, loop())
    cured, _ = watched(tmp_path, loop("rule.zero_grad()"))
    assert not sick.healthy
    assert cured.healthy, str(cured)


def trained(steps: int, clear: bool, compiled: bool = False) -> tuple[ds.Monitor, nn.Module]:  # type: ignore[name-defined]
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    called = torch.compile(model, backend="eager") if compiled else model
    x = torch.randn(256, 5)
    y = x[:, :1].sin()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    monitor = ds.watch(called, rule)
    for _ in range(steps):
        loss = functional.mse_loss(called(x), y)
        if clear:
            rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    return monitor, model


def test_a_watched_loop_is_told_of_it_and_its_clearing_twin_is_not() -> None:
    sick, _ = trained(80, clear=False)
    sound, _ = trained(80, clear=True)
    assert sick.diagnose().root is not None
    assert NAME in sick.diagnose().symptoms
    assert NAME in dict(sound.diagnose().cleared)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of dynamo's own
def test_a_compiled_model_is_compiled_once_and_judged_alike() -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    from torch._dynamo.utils import counters

    counters.clear()
    sick, _ = trained(30, clear=False, compiled=True)
    assert counters["stats"]["unique_graphs"] == 1
    assert NAME in sick.diagnose().symptoms


def test_no_hook_is_left_behind_and_a_model_saved_between_two_steps_warns_of_nothing(tmp_path: Path) -> None:
    monitor, model = trained(2, clear=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(model, tmp_path / "model.pt")
        copy.deepcopy(model)
    monitor.close()
    for parameter in model.parameters():
        assert not parameter._backward_hooks
        assert not parameter._post_accumulate_grad_hooks


def test_a_forgotten_monitor_leaves_no_hook_on_a_parameter() -> None:
    monitor, model = trained(2, clear=True)
    del monitor
    import gc

    gc.collect()
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_runs_of_our_own_loop_are_clear_with_that_reason() -> None:
    x = torch.randn(64, 3)
    run = ds.fit(
        ds.Problem(model=lambda: nn.Linear(3, 1), objective="mse", train=(x, x[:, :1])),
        ds.Recipe(lr=0.01, epochs=2), folder=False, progress=False,
    )  # fmt: skip
    found = stale_gradients(run)
    assert isinstance(found, Clear)
    assert "clears" in found.evidence


def test_empty_short_and_non_finite_runs_raise_nothing(tmp_path: Path) -> None:
    assert isinstance(stale_gradients(Run()), Unknown)
    one, _ = trained(1, clear=False)
    assert NAME in dict(one.diagnose().not_checked)
    lost, _ = watched(tmp_path, loop(steps=400).replace("0.02,", "50.0,"))
    assert NAME in lost.symptoms
    nothing, _ = watched(tmp_path, loop("rule.zero_grad()").replace("X[at]", "X[at] * float('nan')"))
    assert NAME not in nothing.symptoms
    assert np.isnan(nothing.run.history.series("train_loss").values).any()
