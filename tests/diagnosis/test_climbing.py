"""Optimizers with maximize=True: on losses that are to fall, and on what is to rise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.monitor import watch
from downslope.diagnosis.script import watch_script
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.watched import HEAD

OURS = "__import__('downslope').optim.AdamW"


def watched(folder: Path, loss: str, seed: int = 0, **how: Any) -> Diagnosis:
    """What is told of a script whose optimizer has maximize=True."""
    rule, rate = how.get("rule", "torch.optim.Adam"), how.get("rate", 1e-2)
    body = f"""
torch.manual_seed({seed})
L = (Y > 0).float()
model = nn.Sequential(nn.Linear(10, 32), nn.{how.get("bend", "ReLU")}(), nn.Linear(32, {how.get("width", 4)}))
rule = {rule}(model.parameters(), lr={rate}, maximize=True)
for at in batches({how.get("steps", 200)}):
    out = model(X[at])
    loss = {loss}
    rule.zero_grad(); loss.backward(); rule.step()
"""
    (path := folder / "train.py").write_text(HEAD + body)
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("loss", "how"),
    [
        ("F.cross_entropy(out, C[at])", {"rule": "torch.optim.SGD", "rate": 0.05}),
        ("F.cross_entropy(out, C[at])", {"rule": OURS, "bend": "Tanh"}),
        ("nn.CrossEntropyLoss(label_smoothing=0.1)(out, C[at])", {"rate": 1e-3}),
        ("F.cross_entropy(out, C[at]) + 1e-3 * out.square().mean()", {"rate": 1e-3, "bend": "GELU"}),
        ("F.mse_loss(out, Y[at])", {"width": 1, "rule": "torch.optim.SGD", "rate": 0.5}),
        ("F.mse_loss(out, Y[at], reduction='none').mean()", {"width": 1, "rate": 1e-3}),
        ("(out - Y[at]).square().mean()", {"width": 1, "bend": "Tanh", "rate": 1e-3}),
        ("nn.BCEWithLogitsLoss()(out, L[at])", {"width": 1, "rate": 1e-3}),
        ("-out.log_softmax(1).gather(1, C[at][:, None]).mean()", {"rule": "torch.optim.SGD", "rate": 0.1}),
    ],
)
def test_climbing_on_a_loss_that_is_to_fall_is_the_cause(
    loss: str, how: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    root = watched(tmp_path, loss, seed, **how).root
    assert root is not None
    assert (root.symptom, root.severity) == ("objective-mismatch", "critical")
    assert "maximize=True" in root.message
    assert str(root.remedies[0]) == "maximize True -> False"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("loss", "how"),
    [
        ("-F.cross_entropy(out, C[at])", {}),
        ("2.0 - F.cross_entropy(out, C[at]) - 0.01 * out.square().mean()", {}),
        ("-(torch.rand(32) * F.cross_entropy(out, C[at], reduction='none')).mean()", {}),
        ("-(out - Y[at]).square().mean()", {"width": 1, "bend": "Tanh"}),
        ("torch.distributions.Categorical(logits=out).log_prob(C[at]).mean()", {"rule": OURS}),
        ("out.log_softmax(1).gather(1, C[at][:, None]).mean()", {"rule": "torch.optim.SGD", "rate": 0.1}),
        ("(L[at] * F.logsigmoid(out) + (1 - L[at]) * F.logsigmoid(-out)).mean()", {"width": 1}),
        ("torch.distributions.Normal(out, 0.5).log_prob(Y[at]).mean()", {"width": 1}),
    ],
)
def test_an_objective_that_rises_as_it_is_to_is_learning(
    loss: str, how: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    found = watched(tmp_path, loss, seed, **how)
    assert found.root is None, str(found)
    assert found.verdict.startswith("Learn"), found.verdict


def test_who_climbs_to_fool_or_to_forget_is_at_no_fault(tmp_path: Path) -> None:
    fooled = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4)).requires_grad_(False)
delta = nn.Parameter(torch.zeros(640, 10))
rule = torch.optim.Adam([delta], 1e-2, maximize=True)
for at in batches(100):
    loss = F.cross_entropy(model(X[at] + delta[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""
    forgot = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
for step in range(200):
    made = torch.autograd.grad(F.cross_entropy(model(X), C), list(model.parameters()))
    with torch.no_grad():
        for p, g in zip(model.parameters(), made):
            p -= 0.5 * g
rule = torch.optim.SGD(model.parameters(), 1e-2, maximize=True)
for at in batches(150):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""
    player = """
body, head = nn.Sequential(nn.Linear(10, 16), nn.ReLU()), nn.Linear(16, 4)
first = torch.optim.Adam(body.parameters(), 1e-3, maximize=True)
second = torch.optim.Adam(head.parameters(), 1e-2)
for at in batches(200):
    loss = F.cross_entropy(head(body(X[at])), C[at])
    first.zero_grad(); second.zero_grad(); loss.backward(); first.step(); second.step()
"""
    for body in (fooled, forgot, player):
        (path := tmp_path / "train.py").write_text(HEAD + body)
        found, _ = watch_script(path, (), trials=0.0)
        assert found is not None
        assert found.root is None, str(found)


@pytest.mark.parametrize("minus", [False, True])
def test_a_monitor_tells_who_climbs_on_what(minus: bool) -> None:
    torch.manual_seed(0)
    x, model = torch.randn(200, 6), nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    y, rule = (x[:, 0] > 0).long(), torch.optim.SGD(model.parameters(), 0.1, maximize=True)
    monitor = watch(model, rule)
    for step in range(150):
        at = torch.arange(40) + 40 * (step % 5)
        loss = functional.cross_entropy(model(x[at]), y[at]) * (-1 if minus else 1)
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    found = monitor.diagnose()
    monitor.close()
    assert (found.root is None) == minus, str(found)
    assert found.root is None or "maximize=True" in found.root.message


def _log_likelihood(output: Tensor, target: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=output).log_prob(target).mean()


@pytest.mark.parametrize(
    ("objective", "up", "rule", "said"),
    [
        ("cross_entropy", False, ds.optim.SGD, "cross_entropy, which is to fall: it rose"),
        (_log_likelihood, False, torch.optim.SGD, "the objective, which the problem wants low: it rose"),
        (_log_likelihood, True, torch.optim.SGD, "goes down by itself: the objective fell"),
    ],
)
def test_of_a_task_it_is_what_the_problem_says_that_tells_the_way(
    objective: Any, up: bool, rule: Callable[..., Any], said: str
) -> None:
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    problem = ds.Problem(
        model=lambda: nn.Linear(6, 2), objective=objective, train=(x, (x[:, 0] > 0).long()), maximize=up
    )
    climbing = ds.Recipe(optimizer=lambda p: rule(p, lr=0.1, maximize=True), epochs=20)
    found = diagnosed(problem, climbing)
    assert found.root is not None, str(found)
    assert said in found.root.message
    assert "Tried: maximize True -> False recovers 100%" in found.root.message
    if up or objective == "cross_entropy":
        assert diagnosed(problem, climbing.settled(problem.build(0)).edit(maximize=False)).root is None
