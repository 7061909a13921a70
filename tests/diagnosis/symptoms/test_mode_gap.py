"""Train-eval gap: by hand, and batches so small that batch statistics are chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import Advice, Combined, LessDropout, OneMode
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.mode_gap import mode_gap
from tests.diagnosis.runs import problem as problem_of
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Pair, diagnosed, numbers, problem, recipe
from tests.diagnosis.symptoms.trying import FAR, finding, tried

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


def normed() -> nn.Module:
    def block(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, 32), nn.BatchNorm1d(32), nn.ReLU()]

    return nn.Sequential(*block(64), *block(32), nn.Linear(32, 10))


def batches(size: int) -> Any:
    task = problem(PARTS, normed, "cross_entropy", "accuracy")
    return task, recipe(steps=300, batch_size=size)


def test_batches_of_two_under_batch_norm_are_the_root_and_group_norm_helps() -> None:
    task, how = batches(2)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "mode-gap"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, Combined)
    assert "GroupNorm" in str(remedy)
    cured = diagnosed(*remedy.apply(task, how))
    assert cured.run.summary["valid_metric"] > result.run.summary["valid_metric"] + 0.2


@pytest.mark.parametrize("size", [16, 64])
def test_batches_of_16_and_64_under_batch_norm_are_healthy(size: int) -> None:
    task, how = batches(size)
    assert diagnosed(task, how.edit(lr=1e-2) if size == 16 else how).healthy


# -- by hand: a guess has 2.3 ----------------------------------------------------------------------------


def modes(train: float, evaluated: float, share: float | None = None, final: float = 0.3, **said: Any) -> Run:
    given = {"train": train, "eval": evaluated, "drawn": 0.0, "norms": [], "dropouts": [], "batch": 32}
    return tried(run(np.geomspace(2.3, final, 200), references=FAR, modes=given | said), "mode-gap", share)


def test_a_quarter_of_what_training_mode_gained_is_a_gap() -> None:
    assert isinstance(mode_gap(modes(0.3, 0.79)), Clear)
    told = finding(mode_gap(modes(0.3, 0.81)))
    assert told.severity == "warning"
    assert told.evidence.value == pytest.approx(0.51 / 2.0)
    assert finding(mode_gap(modes(0.3, 2.4))).severity == "critical"


def test_a_better_eval_mode_and_a_run_that_learnt_nothing_have_no_gap() -> None:
    assert isinstance(mode_gap(modes(0.8, 0.3)), Clear)  # dropout
    assert isinstance(mode_gap(modes(2.25, 9.0, final=2.25)), Clear)
    made = modes(0.3, 0.9)
    made.facts["constant"]["loss"] = None
    assert isinstance(mode_gap(made), Unknown)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_eval_mode_that_gives_no_number_has_lost_everything(value: float) -> None:
    assert finding(mode_gap(modes(0.3, value))).severity == "critical"
    assert isinstance(mode_gap(modes(value, value)), Unknown)


def test_a_maximised_objective_has_its_gap_the_other_way_round() -> None:
    made = run(np.full(200, -0.3), constant=-2.3, modes=modes(-0.3, -0.9).facts["modes"])
    made.problem = problem_of(objective=lambda output, target: -output.square().mean(), maximize=True)
    assert finding(mode_gap(made)).evidence.value == pytest.approx(0.3)


def test_random_answers_in_eval_mode_count_where_the_run_ended_far() -> None:
    told = finding(mode_gap(modes(1.5, 1.5, final=1.5, drawn=0.3)))
    assert [type(each) for each in told.remedies] == [LessDropout, Advice]
    assert isinstance(mode_gap(modes(0.2, 0.2, final=0.1, drawn=0.3)), Clear)


class Forgetful(nn.Module):
    """Centres by the batch in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = 4 * x + 4
        return self.inner((x - x.mean(0)) / x.std(0) if self.training else x)


def test_a_branch_on_the_mode_is_repaired_by_taking_one_of_its_ways_in_both() -> None:
    task, how = problem(numbers(), Forgetful, "mse", "r2"), recipe(lr=1e-2, epochs=5)
    found = ds.repair(task, how, budget="1000000 steps", progress=False, folder=False)
    assert found.diagnosis.root is not None
    assert found.diagnosis.root.symptom == "mode-gap"
    assert any(isinstance(each, OneMode) for each in found.edits)
    assert found.before is not None
    assert found.after is not None
    assert found.after > found.before + 0.3
    model = found.problem.build()
    with torch.no_grad():
        torch.testing.assert_close(model.train()(numbers()[0][0]), model.eval()(numbers()[0][0]))


def few(batch: int = 2, share: float | None = None, final: float = 1.5) -> Run:
    made = modes(1.5, 1.5, share, final, norms=["1"], batch=batch)
    made.problem = problem_of(
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    )
    return made


def test_statistics_of_a_few_examples_are_put_to_a_trial() -> None:
    assert finding(mode_gap(few())).severity == "info"
    assert finding(mode_gap(few(share=0.5))).severity == "warning"
    for other in (few(share=0.05), few(batch=5), few(final=0.1)):
        assert isinstance(mode_gap(other), Clear)
    watched = few()
    del watched.facts["trials"]
    assert isinstance(mode_gap(watched), Clear)


class Dropping(nn.Module):
    """An MLP for digits that drops values, in eval mode too unless it heeds the mode."""

    def __init__(self, *, heeds: bool) -> None:
        super().__init__()
        self.heeds, self.first, self.last = heeds, nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 64) to (n, 10)."""
        x = torch.relu(self.first(x))
        return self.last(nn.functional.dropout(x, 0.8, training=self.training or not self.heeds))


@pytest.mark.parametrize("heeds", [False, True])
def test_dropout_that_goes_on_in_eval_mode_is_told_by_what_silence_gains(heeds: bool) -> None:
    result = diagnosed(
        problem(PARTS, lambda: Dropping(heeds=heeds), "cross_entropy", "accuracy"), recipe(steps=300)
    )
    modes = result.run.facts["modes"]
    assert ("mode-gap" in result.symptoms) is not heeds
    assert (modes["quiet"] is None) is heeds
    if not heeds:
        assert modes["quiet"] < 0.6 * modes["eval"]


def test_what_dropout_costs_in_eval_mode_is_held_against_the_same_limit() -> None:
    def noisy(quiet: float | None, sure: float = 9.0) -> Run:
        return modes(1.0, 1.0, final=0.9, drawn=0.3, quiet=quiet, quiet_sure=sure)

    assert finding(mode_gap(noisy(0.5))).evidence.value == pytest.approx(0.5 / 1.8)
    assert "silenced" in finding(mode_gap(noisy(0.1))).message
    for calm in (noisy(0.9), noisy(0.5, sure=2.0), noisy(None)):
        found = mode_gap(calm)
        assert isinstance(found, Clear) or "silenced" not in found.message  # type: ignore[union-attr]
