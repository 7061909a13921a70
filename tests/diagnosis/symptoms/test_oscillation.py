"""Oscillation: waves of heavy momentum, whose period has a closed form, and half waves that never end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.edits import SetRecipe
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.rates import lighter, momentum_of
from downslope.diagnosis.swing import swing, thrown_back
from downslope.diagnosis.symptom import Clear, Unknown, Verdict
from downslope.diagnosis.symptoms.learning_rate_too_high import learning_rate_too_high
from downslope.diagnosis.symptoms.oscillation import oscillation
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, diagnosed, numbers, problem, recipe


def heavy(momentum: float, lr: float = 0.03) -> tuple[ds.Problem, ds.Recipe]:
    task = problem(numbers(), lambda: Functional(6, 1), "mse", "r2")
    return task, recipe(optimizer="sgd", lr=lr, momentum=momentum)


def pendulum(momentum: float) -> tuple[ds.Problem, ds.Recipe]:
    """Least squares with one curvature in all directions, no validation data: momentum and lr alone count."""
    x = torch.linalg.qr(torch.randn(400, 4, generator=torch.Generator().manual_seed(0)))[0] * 20
    y = x.sum(1, keepdim=True)
    task = ds.Problem(
        model=lambda: nn.Linear(4, 1, bias=False), objective="mse", train=(x, y / y.std()), metric="r2"
    )
    return task, recipe(optimizer="sgd", lr=5e-3, momentum=momentum, batch_size="full", steps=285)


def test_a_pendulum_swings_with_the_period_of_its_closed_form() -> None:
    """Its roots are sqrt(b) exp(+-i a), cos a = (1 + b - lr L) / (2 sqrt(b)); the loss goes by 2 a."""
    task, how = pendulum(0.999)
    result = diagnosed(task, how)
    found = swing(result.run)
    assert found is not None
    x = task.train_source.batch[0]  # type: ignore[attr-defined]
    curvature = 2 * float(torch.linalg.eigvalsh((x.T @ x / len(x)).double()).mean())
    angle = math.acos((1 + 0.999 - 5e-3 * curvature) / (2 * math.sqrt(0.999)))
    assert found.period == pytest.approx(math.pi / angle, abs=1.5)
    assert result.root is not None
    assert result.root.symptom == "oscillation"


@pytest.mark.parametrize("made", [heavy, pendulum])
def test_a_momentum_of_0_999_is_the_root_and_0_9_cures_it(made: Any) -> None:
    task, how = made(0.999)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "oscillation"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, SetRecipe)
    assert remedy.changes["momentum"] == 0.9
    assert diagnosed(*remedy.apply(task, how)).healthy


@pytest.mark.parametrize("given", [(0.9, 0.03), (0.97, 0.01)])
def test_a_usual_momentum_and_a_heavy_one_that_works_are_healthy(given: tuple[float, float]) -> None:
    assert diagnosed(*heavy(*given)).healthy


# -- by hand ---------------------------------------------------------------------------------------------

STEPS = np.arange(200)
WAVE = 1.6 + 0.5 * np.sin(2 * math.pi * STEPS / 25)
FAR = [{"what": "a plain network", "loss": 0.1}]
TRIAL = {
    "edit": "momentum 0.99 -> 0.9",
    "steps": 200,
    "full": True,
    "longer": False,
    "loss": 0.2,
    "valid_loss": None,
}


def waving(share: float | None = None, losses: Any = WAVE, **facts: Any) -> Run:
    made = run(losses, **({"references": FAR} | facts))
    made.facts["trials"] = {} if share is None else {"oscillation": TRIAL | {"share": share}}
    return made


def found(verdict: Verdict) -> Finding:
    assert isinstance(verdict, Finding), verdict
    return verdict


def test_a_trial_settles_a_wave() -> None:
    assert found(oscillation(waving())).severity == "info"
    assert found(oscillation(waving(0.6))).severity == "warning"
    assert isinstance(oscillation(waving(0.1)), Clear)
    looked_at = waving()
    del looked_at.facts["trials"]
    assert isinstance(oscillation(looked_at), Unknown)


def test_a_wave_of_no_height_one_on_the_way_down_and_the_order_of_an_epoch_are_none() -> None:
    assert isinstance(oscillation(waving(losses=1.6 + 0.01 * (WAVE - 1.6))), Clear)
    falling = np.geomspace(2.3, 0.02, 200) * (1 + 0.2 * np.sin(2 * math.pi * STEPS / 25))
    assert isinstance(oscillation(waving(losses=falling)), Clear)
    by_epoch = waving(0.6)
    by_epoch.history.extend("epoch", [25, 50, 75, 100], [1.0, 2.0, 3.0, 4.0])
    assert isinstance(oscillation(by_epoch), Clear)


def test_a_chance_likeness_after_one_period_does_not_come_back_after_two() -> None:
    packet = 1.6 + 0.5 * np.sin(2 * math.pi * STEPS / 30) * np.exp(-(((STEPS - 100) / 30) ** 2))
    seen = swing(waving(losses=packet))
    assert seen is not None
    assert seen.strength > 0.7
    assert seen.again < 0.25
    assert isinstance(oscillation(waving(0.6, losses=packet)), Clear)
    wave = swing(waving())
    assert wave is not None
    assert wave.again > 0.9


@pytest.mark.parametrize("losses", [[], [2.0], [2.0] * 200, [math.nan] * 200, [math.inf] * 200, [0.0] * 200])
def test_no_wave_is_seen_in_runs_without_one(losses: Any) -> None:
    assert swing(run(losses)) is None
    assert not isinstance(oscillation(run(losses)), Finding)


def gone(momentum: float = 0.999, share: float | None = None) -> Run:
    """Down by step 60, and above a guess for good from step 100 on."""
    losses = np.concatenate([np.geomspace(2.3, 0.3, 60), np.geomspace(0.3, 2.6, 40), np.full(100, 2.6)])
    made = waving(share, losses=losses)
    made.recipe = ds.Recipe(optimizer="sgd", lr=0.1, momentum=momentum)
    made.facts["ending"] = {"train_loss": 2.6, "valid_loss": 2.6, "valid_metric": 0.1,
                            "best_valid_loss": 0.4, "best_valid_metric": 0.9}  # fmt: skip
    return made


def test_a_run_that_was_far_better_on_the_way_was_thrown_back() -> None:
    assert thrown_back(gone())
    stayed = gone()
    stayed.facts["ending"] |= {"valid_loss": 0.5, "valid_metric": 0.88}
    assert not thrown_back(stayed)
    for made in (Run(), run([]), run([2.3]), run([math.nan] * 60), run(np.full(200, 2.3))):
        assert not thrown_back(made)


def test_an_epoch_that_was_better_by_chance_throws_no_run_back() -> None:
    made = run(np.full(200, 2.3))
    made.facts["ending"] = {"train_loss": 2.3, "valid_loss": 2.3, "valid_metric": 0.1, "valid_n": 300,
                            "best_valid_loss": 2.29, "best_valid_metric": 0.14}  # fmt: skip
    assert not thrown_back(made)
    made.facts["ending"]["best_valid_metric"] = 0.4
    assert thrown_back(made)


def test_without_validation_the_losses_on_the_way_say_it() -> None:
    made = gone()
    made.facts["ending"] = {"train_loss": 2.6}
    assert thrown_back(made)
    never = waving(losses=np.full(200, 2.4))
    assert not thrown_back(never)


def test_half_a_wave_counts_where_the_momentum_is_heavy() -> None:
    assert found(oscillation(gone(share=0.9))).severity == "critical"
    assert isinstance(oscillation(gone(share=0.05)), Clear)
    assert isinstance(oscillation(gone(momentum=0.9, share=0.9)), Clear)


def test_a_rate_is_judged_after_a_heavy_momentum() -> None:
    assert isinstance(learning_rate_too_high(gone()), Unknown)
    light = gone(momentum=0.5)
    light.facts["rates"] = {"lr": 0.1, "control": 0.5, "start": 2.3, "tried": [(0.01, 0.6)], "steps": 60}
    assert found(learning_rate_too_high(light)).remedies[0] == SetRecipe({"lr": 0.01}, {"lr": 0.1})


def test_the_momentum_of_a_recipe_is_read_under_either_name() -> None:
    def of(**how: Any) -> Run:
        return Run(recipe=ds.Recipe(lr=0.1, **how))

    assert momentum_of(of(optimizer="sgd", momentum=0.99)) == 0.99
    assert momentum_of(of(optimizer="adam", betas=(0.98, 0.999))) == 0.98
    assert momentum_of(of(optimizer="sgd")) == momentum_of(Run()) == 0
    edit = lighter(of(optimizer="adam", betas=(0.98, 0.999)))
    assert edit is not None
    assert edit.changes == {"betas": (0.9, 0.999)}
    assert lighter(of(optimizer="sgd", momentum=0.94)) is None
    assert lighter(Run()) is None
