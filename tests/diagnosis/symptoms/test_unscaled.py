"""Inputs and targets out of scale: measured where the first layer, and the objective, meet them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import StandardiseInputs, StandardiseTargets
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import start
from downslope.training.facts import data, output
from tests.diagnosis.runs import layer, learnt, run
from tests.diagnosis.symptoms.problems import classes, diagnosed, found, numbers

FAR = {"max_rms": 150.0, "rms": 130.0, "offset_ratio": 1.0, "std_ratio": 1.0}
NEAR = {"max_rms": 1.0, "rms": 1.0, "offset_ratio": 0.0, "std_ratio": 1.0}
FRESH = classes()


def raw(times: float = 3000.0, plus: float = 5000.0) -> tuple[Any, Any]:
    """The clouds in other units."""
    (x, y), (xv, yv) = FRESH
    return (times * x + plus, y), (times * xv + plus, yv)


class Own(nn.Module):
    """Brings its inputs to scale in its own forward, by numbers that somebody wrote into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first((x - 5000) / 4000)))


class Recurrent(nn.Module):
    """Its first matrix of weights is inside a GRU, which bounds what the head is given."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(12, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unsqueeze(1))[0][:, -1])


def bare(*first: nn.Module) -> nn.Module:
    return nn.Sequential(*first, nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))


def normed() -> nn.Module:
    return bare(nn.BatchNorm1d(12))


def problem(model: Any, pair: Any = None) -> ds.Problem:
    train, valid = raw() if pair is None else pair
    return ds.Problem(model=model, objective="cross_entropy", train=train, valid=valid, metric="accuracy")


def recipe(lr: float) -> ds.Recipe:
    return ds.Recipe(optimizer="sgd", lr=lr, epochs=8, batch_size=32)


def of_run(task: ds.Problem, lr: float) -> list[str]:
    """Symptoms of a finished run, at which nothing can be tried."""
    return ds.diagnose(ds.fit(task, recipe(lr), folder=False, progress=False)).symptoms


# -- inputs -----------------------------------------------------------------------------------------------


def test_the_first_layer_of_a_bare_model_is_given_the_data() -> None:
    x = raw()[0][0].double()
    told = start.measure(problem(bare), recipe(0.1))["layers"][0]["entry"]
    assert told["max_rms"] == pytest.approx(float(x.square().mean(0).sqrt().max()), rel=1e-5)
    assert told["offset_ratio"] == pytest.approx(
        float((x.mean(0) / x.std(0, correction=0)).abs().median()), rel=0.3
    )


@pytest.mark.parametrize("model", [normed, Own])
def test_the_first_layer_behind_a_scaling_of_the_model_is_given_what_is_scaled(model: Any) -> None:
    layers = start.measure(problem(model), recipe(0.1))["layers"]
    assert 0.5 < layers[0]["entry"]["max_rms"] < 3
    assert "entry" not in layers[1]


def test_standardised_inputs_are_measured_as_they_arrive() -> None:
    task = problem(bare).edit(StandardiseInputs())
    for told in (data.features(task), start.measure(task, recipe(0.1))["layers"][0]["entry"]):
        assert told is not None
        assert told["max_rms"] == pytest.approx(1.0, rel=1e-3)
        assert told["offset_ratio"] < 1e-2


@pytest.mark.parametrize("model", [normed, Own])
@pytest.mark.parametrize("lr", [1e-6, 300.0])
def test_a_model_that_scales_its_inputs_itself_is_sick_of_something_else(model: Any, lr: float) -> None:
    names = of_run(problem(model), lr)
    assert "unscaled-inputs" not in names
    assert names[0] == f"learning-rate-too-{'low' if lr < 1 else 'high'}"


@pytest.mark.parametrize("lr", [1e-6, 300.0])
def test_a_problem_whose_inputs_were_standardised_is_sick_of_something_else(lr: float) -> None:
    assert "unscaled-inputs" not in of_run(problem(bare).edit(StandardiseInputs()), lr)


@pytest.mark.parametrize(("model", "lr"), [(bare, 0.3), (Recurrent, 1e-6)])
def test_a_model_that_takes_them_raw_is_sick_of_them(model: Any, lr: float) -> None:
    assert of_run(problem(model), lr)[0] == "unscaled-inputs"


def test_what_a_head_is_given_behind_a_recurrence_is_not_what_comes_in() -> None:
    layers = start.measure(problem(Recurrent), recipe(0.1))["layers"]
    assert layers[0]["name"] == "head"
    assert layers[0]["entry"]["max_rms"] <= 1


def test_a_model_that_learns_behind_its_own_scaling_is_healthy() -> None:
    result = diagnosed(problem(normed), recipe(0.1))
    assert result.healthy
    assert found(result, "unscaled-inputs") is None


def seen(entry: Any, **modules: Any) -> dict[str, Any]:
    """Facts of a standing run whose data is far out of scale, and whose first layer is given `entry`."""
    known = {name: {"parameters": 9, "norm": False} | said for name, said in modules.items()}
    return {
        "features": FAR, "modules": known,
        "start": {"loss": 2.35, "layers": [layer("a", entry=entry), layer("b"), layer("c")], "norms": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "modules", "blamed"),
    [
        (NEAR, {"a": {}, "b": {}}, False),
        (NEAR, {"n": {"norm": True}, "a": {}}, False),
        (FAR, {"a": {}, "b": {}}, True),
        (NEAR | {"offset_ratio": 60.0}, {"a": {}}, True),
        (NEAR, {"r": {}, "a": {}}, True),
        (None, {"a": {}}, True),
        (NEAR, {}, True),
    ],
    ids=["scaled", "after a norm", "raw", "offset left", "after another module", "not seen", "no order"],
)
def test_inputs_are_blamed_unless_the_very_first_layer_is_given_scaled_ones(
    entry: Any, modules: Any, blamed: bool
) -> None:
    result = judge(run(**seen(entry, **modules)))
    assert ("unscaled-inputs" in result.symptoms) == blamed
    if not blamed:
        assert "the model brings it to 1 before any layer" in dict(result.cleared)["unscaled-inputs"]


def test_what_a_trial_says_counts_more_than_what_the_first_layer_is_given() -> None:
    facts = seen(NEAR, a={}, b={})
    trial = {"edit": "standardise the inputs", "share": 0.9, "valid_share": 0.9, "steps": 200}
    assert judge(run(**facts, trials={"unscaled-inputs": trial})).symptoms[0] == "unscaled-inputs"
    assert judge(run(**facts, trials={})).root is None  # it may be tried, and is no warning before


def test_a_smaller_step_is_the_second_remedy_by_the_square_of_the_scale() -> None:
    found = judge(run(features=FAR)).root
    assert found is not None
    assert isinstance(found.remedies[0], StandardiseInputs)
    # The curvature of the first layer grows by 150 ** 2 = 22500: 0.1 / 22500 = 4.4e-6, to one digit.
    assert [each.changes for each in found.remedies[1:]] == [{"lr": 4e-6}]  # type: ignore[attr-defined]


def test_inputs_that_are_too_small_get_no_smaller_step() -> None:
    found = judge(run(features=FAR | {"max_rms": 1e-3})).root
    assert found is not None
    assert found.symptom == "unscaled-inputs"
    assert len(found.remedies) == 1


# -- targets ----------------------------------------------------------------------------------------------


def real(activation: str | None, clipped: float | None, **target: float) -> dict[str, Any]:
    """Facts of a standing regression whose targets are far out of scale."""
    return {
        "data": {"non_finite": {"count": 0},
                 "target": {"kind": "real", "rms": 300.0, "std": 80.0, "mean": 290.0} | target},
        "output": {"tensors": 1, "expects": "real", "objective": "mse", "activation": activation,
                   "module": "5", "min": 0.0, "max": 1.0, "dead": False, "units": 1, "clipped": clipped},
    }  # fmt: skip


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softmax", "hardtanh"])
def test_behind_a_bounded_output_the_scale_of_the_targets_is_not_to_blame(activation: str) -> None:
    result = judge(run(**real(activation, 0.9)))
    assert "unscaled-targets" not in result.symptoms
    assert f"the {activation} at the end bars the way" in dict(result.cleared)["unscaled-targets"]


@pytest.mark.parametrize(("activation", "clipped"), [(None, None), ("relu", 0.9), ("sigmoid", 0.01)])
def test_an_output_that_reaches_the_targets_leaves_the_scale_to_blame(
    activation: str | None, clipped: float | None
) -> None:
    assert "unscaled-targets" in judge(run(**real(activation, clipped))).symptoms


def test_a_sigmoid_before_large_targets_is_the_cause_and_not_the_targets() -> None:
    (x, y), (xv, yv) = numbers()
    task = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()),
        objective="mse", train=(x, 100 * y + 500), valid=(xv, 100 * yv + 500), metric="r2",
    )  # fmt: skip
    how = ds.Recipe(optimizer="adam", lr=3e-3, epochs=10, batch_size=32)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "output-activation"
    assert result.root.severity == "critical"
    assert "unscaled-targets" not in result.symptoms
    # What is offered first frees the output and scales the targets, and answers them.
    mended = ds.fit(task.edit(result.root.remedies[0]), how, folder=False, progress=False)
    assert mended.summary["valid_metric"] > 0.5


def test_an_output_is_held_to_the_targets_that_it_is_trained_on(tmp_path: Path) -> None:
    (x, y), (xv, yv) = numbers()
    tame, held = y.clamp(-0.9, 0.9), yv.clamp(-0.9, 0.9)
    task = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh()),
        objective="mse", train=(x, 10 * tame + 500), valid=(xv, 10 * held + 500), metric="r2",
    ).edit(StandardiseTargets())  # fmt: skip
    z = (tame - tame.mean()) / tame.std(correction=0)
    want = float((z - z.clamp(-1, 1)).square().mean())  # their variance is 1
    how = ds.Recipe(optimizer="adam", lr=3e-3, epochs=1, batch_size=32)
    short = ds.fit(task, how, folder=tmp_path / "run", progress=False)
    for facts in (short.facts["output"], output.measure(task, how)):
        assert facts["clipped"] == pytest.approx(want, rel=1e-3)
    assert ds.diagnose(short).root is None  # 15 steps, and most targets within reach: nothing to blame yet


def test_targets_that_the_objective_sees_standardised_are_cleared() -> None:
    (x, y), (xv, yv) = numbers()
    task = ds.Problem(
        model=lambda: nn.Linear(6, 1), objective="mse", train=(x, 100 * y + 500), valid=(xv, 100 * yv + 500)
    )
    how = ds.Recipe(optimizer="sgd", lr=1e-7, epochs=5, batch_size=32)
    assert of_targets(task, how) is None
    told = of_targets(task.edit(StandardiseTargets()), how)
    assert told == "the objective sees standardised targets"


def of_targets(task: ds.Problem, how: ds.Recipe) -> str | None:
    """Why the targets were cleared in a finished run; None where they were not."""
    result = ds.diagnose(ds.fit(task, how, folder=False, progress=False))
    return dict(result.cleared).get("unscaled-targets")


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_classes_have_no_scale(kind: str) -> None:
    facts = real(None, None)
    facts["data"]["target"]["kind"] = kind
    assert "unscaled-targets" in dict(judge(run(**facts)).cleared)


def test_a_run_that_does_well_with_its_scales_is_left_in_peace() -> None:
    facts = real(None, None) | {"features": FAR}
    result = judge(learnt(**facts))
    assert result.healthy
    assert math.isfinite(float(result.run.facts["features"]["max_rms"]))
    assert {"unscaled-inputs", "unscaled-targets"} <= set(dict(result.cleared))


def two(n: int, seed: int, unit: float) -> tuple[Tensor, Tensor]:
    """A yes or no, which is what counts, and a sum of money beside it."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=draw)
    back = ((x[:, 0] * x[:, 1] + 0.3 * x[:, 4]) > 0).float()
    return x, torch.stack([back, unit * (3 + x[:, 2] + x[:, 3].abs())], dim=1)


def of_both(output: Tensor, target: Tensor) -> Tensor:
    money = nn.functional.mse_loss(output[:, 1], target[:, 1])
    return nn.functional.binary_cross_entropy_with_logits(output[:, 0], target[:, 0]) + money


def rightly(output: Tensor, target: Tensor) -> float:
    return float(((output[:, 0] > 0) == (target[:, 0] > 0.5)).double().mean())


@pytest.mark.parametrize("unit", [1500.0, 0.7])
def test_a_sum_of_money_that_drowns_a_yes_or_no_is_brought_to_scale_by_itself(unit: float) -> None:
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 2)), objective=of_both,
        train=two(480, 0, unit), valid=two(300, 1, unit), metric=rightly,
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=1e-2, batch_size=40, epochs=12)
    result = ds.diagnose(problem, recipe, budget="500 steps", folder=False, progress=False)
    if unit < 1:
        assert result.healthy, str(result)
        return
    assert result.root is not None
    assert result.root.symptom == "unscaled-targets", str(result)
    assert result.root.remedies[0] == StandardiseTargets()
    assert result.run.facts["trials"]["unscaled-targets"]["valid_metric"] > 0.85


def spread(seed: int, unit: float) -> tuple[Tensor, Tensor]:
    """A linear target of ten inputs in units up to `unit` apart: the rate has to suit the largest."""
    draw = torch.Generator().manual_seed(seed)
    x, w = torch.randn(150, 10, generator=draw), torch.linspace(-1, 1, 10)[:, None]
    y = x @ w + 0.1 * torch.randn(150, 1, generator=draw)
    return x * torch.logspace(0, math.log10(unit), 10), y


@pytest.mark.parametrize(("unit", "lr", "sick"), [(1e4, 7e-9, True), (1.0, 0.1, False)])
def test_a_rate_that_the_inputs_held_down_goes_up_again_with_their_scale(
    unit: float, lr: float, sick: bool
) -> None:
    task = ds.Problem(model="linear", objective="squared_error", train=spread(0, unit), valid=spread(1, unit))
    how = ds.Recipe(optimizer="gd", lr=lr, steps=200)
    told = ds.diagnose(task, how, progress=False, budget="1500 steps")
    assert [each.symptom for each in told.findings][:1] == (["unscaled-inputs"] if sick else [])
    if sick:
        first = told.findings[0].remedies[0]
        assert ds.fit(*first.apply(task, how), folder=False, progress=False).summary["train_loss"] < 0.02
        assert not any("e-1" in str(each) for each in told.findings[0].remedies)  # no smaller rate still
