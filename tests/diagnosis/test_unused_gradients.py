"""Gradients that are cleared before a step uses them: a step outside of the loop, and what looks like it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

NAME = "too-few-steps"

OUTSIDE = """
model = nn.Sequential(nn.Linear(10, 32), nn.LAYER(), nn.Linear(32, OUTPUTS))
rule = RULE
for epoch in range(EPOCHS):
    for at in batches(20):
        rule.zero_grad()
        loss = LOSS
        loss.backward()
        INSIDE
    BEHIND
"""

SOUND = {
    "LAYER": "ReLU", "OUTPUTS": "4", "EPOCHS": "40", "LOSS": "F.cross_entropy(model(X[at]), C[at])",
    "RULE": "torch.optim.Adam(model.parameters(), 3e-3)", "INSIDE": "pass", "BEHIND": "rule.step()",
}  # fmt: skip
SLOW = {"RULE": "torch.optim.SGD(model.parameters(), 0.1)"}
FAULTS = {
    "SGD": SLOW,
    "of few epochs": SLOW | {"EPOCHS": "9"},
    "Adam": {"RULE": "torch.optim.Adam(model.parameters(), 1e-3)"},
    "clipped": SLOW | {"BEHIND": "nn.utils.clip_grad_norm_(model.parameters(), 0.05); rule.step()"},
    "a regression, RMSprop": {
        "RULE": "torch.optim.RMSprop(model.parameters(), 1e-5)", "OUTPUTS": "1", "LAYER": "Tanh",
        "LOSS": "F.mse_loss(model(X[at]), Y[at])",
    },
}  # fmt: skip

STEPS = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.SGD(model.parameters(), 0.002)
parameters = list(model.parameters())
for step, at in enumerate(batches(120)):
    x, y = X[at], C[at]
    rule.zero_grad()
    BEFORE
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    rule.step()
"""
EACH = "F.cross_entropy(model(x[i:i + 1]), y[i:i + 1]).backward()"
MEANT = {
    "accumulated": f"for i in range(20): {EACH}",
    "adversarial examples": """
    for i in range(10):
        x = x.detach().requires_grad_()
        F.cross_entropy(model(x), y).backward()
        x = x + 0.01 * x.grad.sign()
        rule.zero_grad()
    x = x.detach()
""",
    "a norm for each of several losses": """
    made = model(x)
    for i in range(8):
        F.cross_entropy(made[4 * i:4 * i + 4], y[4 * i:4 * i + 4]).backward(retain_graph=True)
        norm = sum(p.grad.norm() for p in parameters)
        rule.zero_grad()
""",
    "examples clipped one by one": f"""
    total = [torch.zeros_like(p) for p in parameters]
    for i in range(16):
        rule.zero_grad()
        {EACH}
        for sum_, p in zip(total, parameters):
            sum_ += p.grad.clamp(-0.1, 0.1) / 16
    for sum_, p in zip(total, parameters):
        p.grad = sum_
    rule.step()
    continue
""",
    "steps of an inner loop by hand": """
    kept = [p.detach().clone() for p in parameters]
    for i in range(8):
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in parameters:
                p -= 0.01 * p.grad
        rule.zero_grad()
    with torch.no_grad():
        for p, old in zip(parameters, kept):
            p.copy_(old)
""",
}

GAN = """
judge, maker = nn.Linear(10, 1), nn.Linear(3, 10)
first, second = torch.optim.Adam(judge.parameters(), 1e-5), torch.optim.Adam(maker.parameters(), 1e-5)
for at in batches(60):
    for turn in range(8):
        second.zero_grad()
        F.softplus(-judge(maker(torch.randn(32, 3)))).mean().backward()
        second.step()
        first.zero_grad() if turn < 7 else None
    first.zero_grad()
    loss = F.softplus(judge(maker(torch.randn(32, 3)).detach())).mean() + F.softplus(-judge(X[at])).mean()
    loss.backward()
    first.step()
"""


def watched(folder: Path, body: str, **changed: str) -> Diagnosis:
    for name, value in changed.items():
        body = body.replace(name, value)
    path = folder / "train.py"
    path.write_text(HEAD + body)
    plain = torch.autograd.backward
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    assert torch.autograd.backward is plain
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_step_behind_the_loop_over_the_batches_is_named(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, OUTSIDE, **(SOUND | FAULTS[name]))
    assert found.root is not None, str(found)
    assert found.root.symptom == NAME
    assert "20 backward passes for one step, and 95% of them cleared unused" in found.root.message
    assert "inside the loop" in str(found.root.remedies[0])


def test_a_step_in_the_loop_is_healthy(tmp_path: Path) -> None:
    found = watched(tmp_path, OUTSIDE, **(SOUND | {"INSIDE": "rule.step()", "BEHIND": "pass"}))
    assert found.healthy, str(found)
    assert "unused" not in found.run.facts or not found.run.facts["unused"]["share"]


def test_a_run_that_did_well_with_few_steps_is_left_alone(tmp_path: Path) -> None:
    rule = "torch.optim.Adam(model.parameters(), 3e-2)"
    found = watched(tmp_path, OUTSIDE, **(SOUND | {"RULE": rule, "EPOCHS": "150"}))
    assert found.healthy, str(found)
    assert NAME not in found.symptoms


@pytest.mark.parametrize("name", MEANT)
def test_passes_that_are_no_matter_of_a_step_are_no_fault(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, STEPS, BEFORE=MEANT[name])
    assert NAME not in found.symptoms, str(found)


def test_what_another_loss_leaves_in_a_judge_is_no_gradient_unused(tmp_path: Path) -> None:
    found = watched(tmp_path, GAN)
    assert NAME not in found.symptoms, str(found)


def test_a_watched_loop_is_told_of_it_too_and_gets_its_backward_back() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(640, 10), torch.randint(4, (640,))
    model = torch.nn.Linear(10, 4)
    rule, plain = torch.optim.SGD(model.parameters(), 1e-3), torch.autograd.backward
    monitor = ds.watch(model, rule, torch.nn.functional.cross_entropy, (x, y))
    for _ in range(30):
        for at in torch.randperm(640).split(64):
            rule.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x[at]), y[at])
            loss.backward()
            monitor.step(loss)
        rule.step()
    assert NAME in monitor.diagnose().symptoms
    monitor.close()
    assert torch.autograd.backward is plain
