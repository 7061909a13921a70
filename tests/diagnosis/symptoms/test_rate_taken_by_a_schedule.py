"""A schedule that takes the rate away before the run is done, beside those that end in good time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from downslope.core import names
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.spent import spent
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import classes, diagnosed, net, problem, recipe
from tests.diagnosis.watched import HEAD

STEPS = 600


def scheduled(rates: Any, losses: Any = None, **facts: Any) -> Run:
    """A watched run with these rates; without losses it stands at a constant guess, in its batches' noise."""
    noise = np.random.default_rng(0).normal(0.0, 0.05, len(rates))
    made = run(2.3 + noise if losses is None else losses, **facts)
    made.recipe = None
    made.history.extend("lr", list(range(1, len(rates) + 1)), [float(each) for each in rates])
    return made


def sick(made: Run) -> bool:
    root = judge(made).root
    return root is not None and root.symptom == "learning-rate-too-low" and root.severity != "info"


T = np.arange(STEPS)
GONE = {
    "halved every 5 steps": 0.1 * 0.5 ** (T // 5),
    "by 0.95 a step": 0.1 * 0.95**T,
    "a tenth at 10 and at 15": 0.1 * np.where(T < 10, 1, np.where(T < 15, 0.1, 0.01)),
    "linear to zero in 20": 0.1 * np.clip(1 - T / 20, 0, None),
}
LASTING = {
    "constant": np.full(STEPS, 0.1),
    "cosine": 0.05 * (1 + np.cos(math.pi * T / STEPS)),
    "cosine over and over": 0.05 * (1 + np.cos(math.pi * T / 20)),
    "warm restarts": 0.05 * (1 + np.cos(math.pi * (T % 150) / 150)),
    "linear to zero": 0.1 * (1 - T / STEPS),
    "one cycle": np.interp(T, [0, 180, STEPS], [0.004, 0.1, 4e-7]),
    "warm-up of 90 %": 0.1 * np.clip(T / 540, 0, 1),
    "a step decay in the second half": 0.1 * 0.1 ** (T // 200),
    "by 0.8 an epoch": 0.1 * 0.8 ** (T // 40),
}


@pytest.mark.parametrize("name", GONE)
def test_a_run_that_stands_without_a_rate_is_told_from_when_it_was_gone(name: str) -> None:
    made = scheduled(GONE[name])
    result = judge(made)
    assert sick(made), str(result)
    assert result.root is not None
    rates = GONE[name]
    gone = int(np.flatnonzero(rates > 0.001 * (1 + 1e-9))[-1]) + 2
    assert result.root.where.steps == (gone, STEPS)
    assert result.root.evidence.value == pytest.approx((STEPS - gone + 1) / STEPS)
    assert "scheduler once an epoch" in str(result.root.remedies[0])


@pytest.mark.parametrize("name", LASTING)
def test_a_rate_that_lasts_is_not_blamed_for_a_run_that_stands(name: str) -> None:
    assert not sick(scheduled(LASTING[name]))


def test_a_warm_up_from_nothing_is_no_rate_of_nothing() -> None:
    rates = 0.1 * np.clip(T / 50, 0, 1)
    made = scheduled(rates, np.geomspace(2.3, 0.02, STEPS))
    assert judge(made).healthy
    assert sick(scheduled(0 * rates))


def test_a_rate_seen_in_some_steps_only_holds_until_the_next() -> None:
    made, seen = scheduled(GONE["by 0.95 a step"]), [*range(60), *range(60, STEPS, 9)]
    thin = run(np.full(STEPS, 2.3))
    thin.recipe = None
    thin.history.extend("lr", [at + 1 for at in seen], [0.1 * 0.95**at for at in seen])
    whole, part = spent(made), spent(thin)
    assert whole is not None
    assert part is not None
    assert part.steps == whole.steps == STEPS
    assert part.weight == pytest.approx(whole.weight, rel=0.02)
    assert whole.weight == pytest.approx(1 / (1 - 0.95), rel=1e-6)


def test_another_group_that_keeps_its_rate_clears_the_schedule() -> None:
    rates = GONE["halved every 5 steps"]
    assert sick(scheduled(rates, rates_left=[1e-30, 1e-30]))
    assert not sick(scheduled(rates, rates_left=[1e-30, 0.01]))


def test_a_run_that_waited_for_a_plateau_is_not_blamed_on_its_schedule() -> None:
    """It learnt what it could at the full rate, and stands far from the floor of the loss all the same."""
    rates = np.where(T < 120, 0.1, 1e-6)
    noise = np.random.default_rng(0).normal(0.0, 0.02, STEPS)
    made = scheduled(rates, np.maximum(2.3 - T / 30, 1.3) + noise)
    assert not sick(made)


def test_a_run_broken_off_in_its_fall_is_blamed_on_its_schedule() -> None:
    rates = 0.1 * 0.97**T
    way = np.cumsum(rates) / rates.sum()
    noise = np.random.default_rng(0).normal(0.0, 0.02, STEPS)
    assert sick(scheduled(rates, 2.3 - way + noise))
    # As far, but the fall was over by the middle of what the rates weigh.
    assert not sick(scheduled(rates, 2.3 - (1 - np.exp(-6 * way)) + noise))


LOOP = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.SGD(model.parameters(), 0.1)
schedule = torch.optim.lr_scheduler.SCHEDULE
for step, at in enumerate(batches(600)):
    rule.zero_grad()
    F.cross_entropy(model(X[at]), C[at]).backward()
    rule.step()
    if step % EVERY == 0:
        schedule.step()
"""


@pytest.mark.parametrize(
    ("schedule", "every", "ill"),
    [
        ("StepLR(rule, 5, 0.1)", 1, True),
        ("ExponentialLR(rule, 0.8)", 1, True),
        ("StepLR(rule, 5, 0.5)", 20, False),
        ("ExponentialLR(rule, 0.9)", 20, False),
        ("CosineAnnealingLR(rule, 600)", 1, False),
    ],
)
def test_a_script_that_steps_its_scheduler_too_often_is_told(
    schedule: str, every: int, ill: bool, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    loop = LOOP.replace("SCHEDULE", schedule).replace("EVERY", str(every))
    script.write_text(HEAD + loop, encoding="utf-8")
    found, _ = watch_script(script, trials=0.0)
    assert found is not None
    assert found.healthy is not ill, str(found)
    if ill:
        assert found.root is not None
        assert found.root.symptom == "learning-rate-too-low"
        assert found.root.message.startswith("The schedule took the rate from 0.1 to ")


def falling_away(total_steps: int) -> Any:
    """A schedule made for a few epochs, in a run that asks it once a step."""
    del total_steps
    return lambda t: 0.5 ** (t // 3)


def test_a_recipe_is_given_its_rate_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names.TABLE["schedule"], "falling_away", f"{__name__}:falling_away")
    task = problem(classes(), lambda: net(12, 4), "cross_entropy", "accuracy")
    ill = recipe(schedule="falling_away")
    result = diagnosed(task, ill)
    assert result.root is not None
    assert result.root.symptom == "learning-rate-too-low"
    assert str(result.root.remedies[0]) == "schedule falling_away -> constant"
    assert diagnosed(*result.root.remedies[0].apply(task, ill)).healthy
    assert diagnosed(task, recipe(schedule="cosine")).healthy


def own(rates: Any, losses: Any, **facts: Any) -> Run:
    """A watched run on a loss of its own: neither a constant guess nor a floor is known; it is negative."""
    made = scheduled(rates, losses, **facts)
    made.facts.pop("constant", None)
    made.facts.pop("output", None)
    return made


NOISE = np.random.default_rng(1).normal(0.0, 0.002, STEPS)
FALLS = {"a fast fall": 8.0, "an even fall": 0.1}


@pytest.mark.parametrize("name", FALLS)
@pytest.mark.parametrize("gamma", [0.8, 0.9, 0.95])
def test_of_a_loss_nobody_knows_a_rate_gone_too_early_is_told_and_not_called_healthy(
    name: str, gamma: float
) -> None:
    rates = 1e-3 * gamma**T
    way = np.cumsum(rates) / rates.sum()
    fall = (1 - np.exp(-FALLS[name] * way)) / (1 - np.exp(-FALLS[name]))
    found = judge(own(rates, -0.2 - 0.3 * fall + NOISE))
    assert "learning-rate-too-low" in found.symptoms, str(found)
    assert sick(found.run) is (name == "an even fall")
    assert found.root is not None or found.reserve.startswith("no fault is certain")
    assert "nothing to fix" not in " ".join(str(found).split())


@pytest.mark.parametrize("name", LASTING)
def test_of_a_loss_nobody_knows_a_rate_that_lasts_is_healthy(name: str) -> None:
    rates = LASTING[name]
    way = np.cumsum(rates) / rates.sum()
    found = judge(own(rates, -0.2 - 0.6 * (1 - np.exp(-5 * way)) + NOISE))
    assert found.healthy
    assert not found.reserve
    assert "learning-rate-too-low" not in found.symptoms


def test_of_a_loss_nobody_knows_a_rate_that_waited_for_the_end_of_learning_is_healthy() -> None:
    rates = np.where(T < 200, 0.1, 1e-7)
    found = judge(own(rates, -0.2 - 0.6 * (1 - np.exp(-T / 15)) + NOISE))
    assert found.healthy
    assert not found.reserve
