from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.budget import Budget
from downslope.core.errors import InputError
from downslope.data import digits
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.symptom import registry

STEPS = "1000000 steps"  # so that no clock decides
X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + X[:, 1] > 0).long()
REAL = X[:, :1] - X[:, 1:2]


def mlp(outputs: int = 2, **after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs), *after.values())


def problem(**changes: Any) -> ds.Problem:
    fields: dict[str, Any] = {
        "model": mlp, "objective": "cross_entropy", "train": (X[:150], Y[:150]), "valid": (X[150:], Y[150:]),
        "metric": "accuracy",
    }  # fmt: skip
    return ds.Problem(**(fields | changes))


def recipe(**changes: Any) -> ds.Recipe:
    return ds.Recipe(**({"optimizer": "adam", "lr": 0.01, "epochs": 30, "batch_size": 32} | changes))


def diagnosed(p: ds.Problem, r: ds.Recipe, **options: Any) -> Diagnosis:
    found = ds.diagnose(p, r, progress=False, **({"folder": False, "budget": STEPS} | options))
    json.loads(found.to_json())
    assert not [why for _, why in found.not_checked if "the check failed" in why]
    return found


def test_a_healthy_run_is_told_healthy_and_what_was_cleared() -> None:
    found = diagnosed(problem(), recipe())
    assert found.healthy
    assert not found.findings
    assert len(found.cleared) > 6
    assert "Healthy" in str(found)


def test_a_value_that_is_not_finite_is_named_by_row_and_column_and_nothing_is_trained() -> None:
    x = X[:150].clone()
    x[17, 3] = torch.nan
    found = diagnosed(problem(train=(x, Y[:150])), recipe())
    assert found.root is not None
    assert found.root.symptom == "non-finite-data"
    assert "row 17, column 3" in found.root.message
    assert not len(found.run.history.series("train_loss").steps)


def test_a_rate_that_is_too_high_is_named_with_the_stable_limit() -> None:
    found = diagnosed(problem(), recipe(optimizer="sgd", lr=300.0))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert found.root.severity == "critical"
    assert "x the stable limit" in found.root.message
    assert found.root.remedies[0].changes["lr"] < 30  # type: ignore[attr-defined]


def test_inputs_and_targets_that_hide_one_another_are_tried_together() -> None:
    x = torch.linspace(0, 100, 128).reshape(-1, 1)
    model = lambda: nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 1))  # noqa: E731
    made = ds.Problem(model=model, objective="mse", train=(x, 10 * x**2))
    found = diagnosed(made, ds.Recipe(optimizer="sgd", lr=0.01, epochs=100, batch_size=32))
    assert found.root is not None
    assert found.root.symptom == "unscaled-inputs"
    assert "unscaled-targets" in found.symptoms
    proved = found.run.facts["trials"]["unscaled-inputs"]["edit"]
    assert str(found.root.remedies[0]) == proved == "standardise the inputs and standardise the targets"


def test_noise_that_nothing_can_learn_is_put_down_to_the_inputs_and_to_nothing_else() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200, 1, generator=generator)
    made = problem(model=lambda: mlp(1), objective="mse", metric="r2", train=(X[:150], noise[:150]),
                   valid=(X[150:], noise[150:]))  # fmt: skip
    findings = diagnosed(made, recipe(epochs=15)).findings
    serious = [each.symptom for each in findings if each.severity != "info"]
    assert serious == ["uninformative-inputs"]


def test_a_loss_that_is_nan_from_the_first_step_is_told() -> None:
    def own(output: Tensor, target: Tensor) -> Tensor:
        return (output - 1e6).log().mean() + 0 * target.sum()

    found = diagnosed(problem(objective=own, metric=None), recipe(epochs=1))
    assert found.run.status == "diverged"
    assert "LOST" in found.verdict


def test_a_single_step_and_a_rate_of_zero_are_judged() -> None:
    assert diagnosed(problem(), recipe(epochs=None, steps=1)).healthy
    found = diagnosed(problem(), recipe(lr=0.0))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-low"


def test_a_missing_sigmoid_before_a_likelihood_is_found_before_torch_refuses() -> None:
    y = Y.float().unsqueeze(1)
    made = problem(model=lambda: mlp(1), objective=nn.BCELoss(), train=(X[:150], y[:150]), valid=None)
    found = diagnosed(made, recipe())
    assert found.root is not None
    assert found.root.symptom == "output-activation"
    mended = made.edit(found.root.remedies[0])
    assert ds.fit(mended, recipe(), folder=False, progress=False).summary["train_metric"] > 0.9


class Whole(nn.Module):
    """Carries its own loss, and takes its inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(self.layer(x), labels)}


def negative(output: Tensor, target: Tensor) -> Tensor:
    return -(output.squeeze() * (2 * target - 1)).tanh().mean()


@pytest.mark.parametrize(
    "made",
    [
        ds.Problem(model=Whole, objective=None, train={"x": X, "labels": Y}),
        problem(train=torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 16), valid=None),
        problem(model=lambda: nn.Linear(6, 6), train=(X, X), valid=None, objective="mse", metric=None),
        problem(model=lambda: mlp(1), objective=negative, metric=None),
    ],
    ids=["own loss", "loader", "autoencoder", "negative"],
)  # fmt: skip
def test_problems_of_every_form_are_diagnosed(made: ds.Problem) -> None:
    assert diagnosed(made, recipe(epochs=20)).healthy


def vector(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="none")


class Evaluated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("only in training")
        return self.layer(x)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": vector}, "one number"),
        ({"model": nn.Identity}, "no parameters"),
        ({"model": lambda: nn.Linear(5, 2)}, "cannot be put through"),
        ({"model": Evaluated}, "only in training"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ds.diagnose(problem(**changes), recipe(), progress=False, folder=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", ["soon", "-1", 0, "2 parsecs", True])
def test_a_budget_that_is_none_is_refused(budget: Any) -> None:
    with pytest.raises(InputError, match="budget"):
        ds.diagnose(problem(), recipe(), budget=budget)


def test_budgets_are_read_as_people_write_them() -> None:
    assert [Budget(b).seconds for b in ("2m", "90s", 90, "1.5 min")] == [120, 90, 90, 90]
    assert Budget("500 steps").steps == 500


def test_a_budget_of_steps_cuts_the_run_and_says_so() -> None:
    found = diagnosed(problem(), recipe(epochs=200), budget="60 steps")
    assert found.run.summary["steps"] == 60
    assert any("cut to 60" in note for note in found.notes)


def test_the_folder_keeps_run_and_diagnosis_and_gives_the_same_verdict_again(tmp_path: Path) -> None:
    made, how = problem(), recipe(optimizer="sgd", lr=300.0)
    found = diagnosed(made, how, folder=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "diagnosis.json").read_text())["healthy"] is False
    again = ds.diagnose(ds.load_run(tmp_path / "run", problem=made))
    assert again.root is not None
    assert again.root.symptom == found.root.symptom if found.root is not None else False


def test_a_finished_run_is_diagnosed_without_training() -> None:
    run = ds.fit(problem(), recipe(), folder=False, progress=False)
    steps = run.summary["steps"]
    found = ds.diagnose(run)
    assert found.healthy
    assert found.run.summary["steps"] == steps
    assert {n for n, _ in found.cleared} | {n for n, _ in found.not_checked} == set(registry())


def test_the_same_diagnosis_twice() -> None:
    table = digits(scale=16.0)
    made = problem(
        model=lambda: nn.Sequential(nn.Linear(64, 10), nn.Softmax(1)), train=table.train, valid=table.valid
    )
    how = ds.Recipe(optimizer="sgd", lr=0.05, epochs=5)
    first, second = (diagnosed(made, how) for _ in range(2))
    assert first.symptoms == second.symptoms
    assert first.root is not None
    assert first.root.symptom == "output-activation"
    assert not first.healthy


def test_the_narrow_layer_of_an_autoencoder_is_meant() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.tanh(torch.randn(900, 6, generator=g) @ torch.randn(6, 20, generator=g) / 2)

    def narrow() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 2), nn.Linear(2, 48), nn.ReLU(),
                             nn.Linear(48, 20))  # fmt: skip

    task = ds.Problem(model=narrow, objective="mse", train=(x[:700], x[:700]), valid=(x[700:], x[700:]))
    how = ds.Recipe(optimizer="adam", lr=3e-3, batch_size=50, epochs=30)
    found = ds.diagnose(task, how, progress=False, folder=False)
    assert found.healthy, str(found)
    assert "high-bias" not in found.symptoms


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ("2m", "(twice the run plus 10 s, of the 1"),
        ("9s", "s in all (the budget)"),
        (STEPS, "(twice the run plus 10 s)"),
    ],
)
def test_the_price_says_what_limits_it(budget: str, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    ds.diagnose(problem(), recipe(epochs=2), budget=budget, folder=False)
    priced = [line for line in capsys.readouterr().err.splitlines() if "s for the run" in line]
    assert len(priced) == 1
    assert limit in priced[0]
