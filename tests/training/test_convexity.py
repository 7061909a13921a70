"""What a run says of its distance from the minimum, against dense algebra and the exact solution."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_svmlight_file
from torch import nn

import downslope as ds
from downslope.reporting import console, facts
from downslope.reporting.rows import render
from downslope.training.facts.convexity import told

DATA = os.environ.get("DOWNSLOPE_DATA") or None


def cancer(l2: float = 1e-2) -> ds.Problem:
    x, y = load_breast_cancer(return_X_y=True)
    objective = ds.objectives.penalised("logistic", l2=l2) if l2 else "logistic"
    return ds.Problem(
        model="logistic", objective=objective, train=((x - x.mean(0)) / x.std(0), y.astype(float))
    )


def line(n: int = 50) -> tuple[ds.Problem, np.ndarray]:
    """Least squares without bias, and the eigenvalues of its Hessian."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 3)) * [1.0, 2.0, 4.0]
    y = x @ np.ones((3, 1)) + draw.normal(size=(n, 1))
    problem = ds.Problem(model=nn.Linear(3, 1, bias=False), objective="squared_error", train=(x, y))
    return problem, np.linalg.eigvalsh(2 * x.T @ x / n)


def recipe(**more: Any) -> ds.Recipe:
    return ds.Recipe(**{"optimizer": "gd", "batch_size": "full", "precision": "float64"} | more)


def fit(problem: ds.Problem, how: ds.Recipe, **more: Any) -> ds.Run:
    return ds.fit(problem, how, folder=more.pop("folder", False), progress=False, **more)


# -- the bars -------------------------------------------------------------------------------------------

REACHED = {
    "tumours 1e-2": (lambda: cancer(1e-2), recipe(lr=1.0, steps=500), 0.09959137548470548),
    "tumours 1e-3": (
        lambda: cancer(1e-3), recipe(optimizer="nesterov", momentum=0.95, lr=1.0, steps=1000),
        0.05982793727108945,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_descent_by_the_right_recipe_reaches_the_published_optimum_to_a_millionth(name: str) -> None:
    make, how, best = REACHED[name]
    run = fit(make(), how, observe=0)
    assert run.summary["train_objective"] == pytest.approx(best, abs=1e-6)


@pytest.mark.skipif(DATA is None, reason="DOWNSLOPE_DATA is not set: it holds the LIBSVM sets")
@pytest.mark.parametrize(("name", "best"), [("a1a", 0.3263947841423712), ("a9a", 0.3327133075461915)])
def test_descent_reaches_the_published_optima_of_the_adults_to_a_millionth(name: str, best: float) -> None:
    x, y = load_svmlight_file(str(Path(str(DATA)) / "libsvm" / f"{name}.gz"))
    objective = ds.objectives.penalised("logistic", l2=1e-3)
    adults = ds.Problem(model="logistic", objective=objective, train=(x.toarray(), (y > 0).astype(float)))
    run = fit(adults, recipe(optimizer="nesterov", momentum=0.98, lr=1.0, steps=600), observe=0)
    assert run.summary["train_objective"] == pytest.approx(best, abs=1e-6)


def test_softmax_regression_and_least_squares_reach_theirs() -> None:
    x, y = load_digits(return_X_y=True)
    objective = ds.objectives.penalised("cross_entropy", l2=1e-3)
    softmax = ds.Problem(model="softmax", objective=objective, train=(x / 16, y))
    run = fit(softmax, recipe(optimizer="nesterov", momentum=0.98, lr=1.0, steps=1000), observe=0)
    assert run.summary["train_objective"] == pytest.approx(0.26186455, abs=1e-6)
    x, y = load_diabetes(return_X_y=True)
    least = ds.Problem(model="linear", objective="squared_error", train=(x / x.std(0), y))
    run = fit(least, recipe(optimizer="nesterov", momentum=0.95, lr=0.1, steps=1500), observe=0)
    assert run.summary["train_loss"] == pytest.approx(2859.69634758675, abs=1e-6)


def test_decay_of_plain_descent_is_the_penalty() -> None:
    bare = cancer(0)
    run = fit(bare, recipe(lr=1.0, steps=500, weight_decay=1e-2))
    found = run.facts["convexity"]
    assert found["l2"] == 1e-2
    assert found["objective"] == pytest.approx(0.09959137548470548, abs=1e-6)
    assert found["optimum"] == pytest.approx(0.09959137548470548, abs=1e-12)


# -- the gap and the rate -------------------------------------------------------------------------------


def test_the_gap_is_the_objective_less_the_minimum() -> None:
    problem, _ = line()
    run = fit(problem, recipe(lr=0.005, steps=40))
    found = run.facts["convexity"]
    assert found["convex"] is True
    assert found["gap"] == pytest.approx(run.summary["train_loss"] - ds.solve(problem).objective, rel=1e-6)
    assert found["kind"] == "strictly-convex"


def test_the_rate_of_descent_is_that_of_the_flattest_direction() -> None:
    problem, bends = line()
    lr = 1 / bends[-1]
    found = fit(problem, recipe(lr=lr, steps=200)).facts["convexity"]["rate"]
    assert found["theory"] == pytest.approx((1 - lr * bends[0]) ** 2, rel=1e-10)
    assert found["condition"] == pytest.approx(bends[-1] / bends[0], rel=1e-8)
    assert found["measured"] == pytest.approx(found["theory"], rel=1e-3)
    assert found["said"] == "as theory says"


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_the_rate_with_momentum_is_that_of_the_recurrence(optimizer: str, momentum: float) -> None:
    problem, bends = line()
    lr = 0.5 / bends[-1]
    found = fit(problem, recipe(optimizer=optimizer, lr=lr, momentum=momentum, steps=150)).facts["convexity"]
    # Apart from the formula: the recurrence itself, run for each curvature.
    factors = []
    for bend in bends:
        p, b, path = 1.0, 0.0, []
        for _ in range(600):
            b = momentum * b + bend * p
            p -= lr * (bend * p + momentum * b) if optimizer == "nesterov" else lr * b
            path.append(p * p + 1e-290)
        tops = [max(path[a : a + 60]) for a in (60, 480)]
        factors.append((tops[1] / tops[0]) ** (1 / 420))
    assert found["rate"]["theory"] == pytest.approx(max(factors), rel=0.01)
    assert found["rate"]["measured"] == pytest.approx(found["rate"]["theory"], rel=0.05)


def test_a_rate_that_the_curvature_does_not_stand_is_told() -> None:
    problem, bends = line()
    run = fit(problem, recipe(lr=2.1 / bends[-1], steps=30))
    assert run.facts["convexity"]["rate"]["theory"] > 1
    assert "which is 2 over its curvature" in told(run.facts["convexity"])


@pytest.mark.parametrize(
    "how",
    [recipe(optimizer="adam", lr=0.1, steps=40), recipe(lr=0.01, steps=40, schedule="cosine"),
     recipe(lr=0.01, steps=40, clip_norm=1.0), recipe(optimizer="sgd", lr=0.01, batch_size=10, epochs=4)],
)  # fmt: skip
def test_of_other_recipes_theory_gives_no_rate_but_the_gap_is_told(how: ds.Recipe) -> None:
    found = fit(line()[0], how).facts["convexity"]
    assert "rate" not in found
    assert found["gap"] > 0


# -- what is told ---------------------------------------------------------------------------------------


def test_the_line_on_the_terminal_says_gap_and_rate() -> None:
    problem, bends = line()
    run = fit(problem, recipe(lr=1 / bends[-1], steps=60))
    text = " ".join(render(console.of_run(run)).split())
    assert "convex:" in text
    assert "above the minimum" in text
    assert "a step, as theory says" in text
    assert facts.shape(run) == "convex"
    assert render(console.header(run)).strip().endswith("convex")


def test_a_network_is_told_to_be_non_convex_and_why() -> None:
    x, y = load_digits(return_X_y=True)
    run = fit(ds.Problem(model="mlp", objective="cross_entropy", train=(x / 16, y)), ds.Recipe(steps=3))
    found = run.facts["convexity"]
    assert found["convex"] is False
    assert "bends what the weights before it make" in found["why"]
    assert facts.shape(run) == "non-convex"
    assert told(found) == ""


def test_of_an_objective_of_ones_own_nothing_is_claimed() -> None:
    x, y = load_digits(return_X_y=True)
    run = fit(
        ds.Problem(
            model="softmax", objective=lambda z, t: 1 * nn.functional.cross_entropy(z, t), train=(x, y)
        ),
        ds.Recipe(steps=3),
    )
    assert run.facts["convexity"]["convex"] is None
    assert facts.shape(run) == ""


def test_classes_that_separate_are_told_to_have_no_minimum() -> None:
    run = fit(cancer(0), recipe(lr=1.0, steps=50))
    assert run.facts["convexity"]["kind"] == "not-attained"
    assert "no minimum is attained" in told(run.facts["convexity"])


def test_a_minimum_that_would_take_long_is_left_to_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downslope.training.facts.convexity.FREE", 0.0)
    monkeypatch.setattr("downslope.training.facts.convexity.SHARE", 0.0)
    found = fit(cancer(), recipe(lr=1.0, steps=5)).facts["convexity"]
    assert found == {"convex": True, "loss": "logistic loss", "dear": True}
    assert told(found) == "convex: every minimum is the global one; solve tells it"


def test_what_was_measured_is_kept_with_the_run(tmp_path: Path) -> None:
    run = fit(cancer(), recipe(lr=1.0, steps=60), folder=tmp_path / "run")
    kept = ds.load_run(tmp_path / "run").facts["convexity"]
    assert kept["gap"] == pytest.approx(run.facts["convexity"]["gap"])
    assert math.isfinite(kept["rate"]["measured"])
    assert "Convexity" in ds.report(run).html


def test_the_model_of_the_run_is_left_as_it_was() -> None:
    problem, _ = line()
    seen = fit(problem, recipe(lr=0.01, steps=30))
    plain = fit(problem, recipe(lr=0.01, steps=30), observe=0)
    for a, b in zip(seen.model().parameters(), plain.model().parameters(), strict=True):
        assert torch.equal(a, b)
    assert "convexity" not in plain.facts


# -- what the convexity of a problem hangs on -----------------------------------------------------------


def six(**changes: Any) -> ds.Problem:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 4))
    y = x @ [1, -2, 3, 0.5] + draw.normal(size=80) / 2
    given: dict[str, Any] = {"model": "linear", "objective": "squared_error", "train": (x, y[:, None])}
    return ds.Problem(**(given | changes))


def dropped() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("changes", "convex"),
    [
        ({"constraint": "orthogonal"}, False),
        ({"constraint": "box(1, 2) | box(-2, -1)"}, None),
        ({"constraint": lambda _: None}, None),
        ({"constraint": ds.constraints.non_negative(by="parametrisation")}, None),
        ({"constraint": "l2_ball(1)"}, True),
        ({"augment": "noise(1)"}, True),
        ({"model": dropped}, True),
        ({"model": lambda: nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1))}, None),
        ({"objective": "absolute_error"}, True),
        ({"objective": nn.L1Loss()}, True),
        ({"objective": ds.objectives.penalised("squared_error", l1=0.1)}, True),
        ({"objective": ds.objectives.penalised("absolute_error", l1=0.1)}, True),
        ({"objective": "absolute_error", "model": "mlp"}, False),
        ({"objective": lambda z, y: (z - y).abs().add(1).sqrt().mean()}, None),
    ],
    ids=["orthogonal", "union", "own set", "parametrised", "ball", "augmented", "dropout", "batch norm",
         "absolute", "L1Loss", "lasso", "both l1", "deep", "own objective"],
)  # fmt: skip
def test_a_run_is_called_convex_only_where_objective_and_set_are(
    changes: dict[str, Any], convex: Any
) -> None:
    found = fit(six(**changes), recipe(lr=0.01, steps=3)).facts["convexity"]
    assert found["convex"] is convex
    assert "gap" not in found


def test_dropout_before_a_linear_layer_is_convex_for_every_draw() -> None:
    """The loss halfway between two weights is below the mean of theirs."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=draw, dtype=torch.float64)
    model = dropped().double().train()
    values: list[float] = []
    one, two = (torch.randn(4, generator=draw, dtype=torch.float64) for _ in range(2))
    for w in (one, two, (one + two) / 2):
        torch.manual_seed(0)
        with torch.no_grad():
            model[1].weight.copy_(w)
            values.append(float((model(x) - x[:, :1]).square().mean()))
    assert values[2] < (values[0] + values[1]) / 2


@pytest.mark.parametrize("constraint", ["non_negative", "box(-0.5, 0.5)"])
def test_in_a_box_the_gap_is_to_the_minimum_in_the_box(constraint: str) -> None:
    given = six(constraint=constraint)
    found = fit(given, recipe(lr=0.1, steps=300)).facts["convexity"]
    assert found["optimum"] == pytest.approx(ds.solve(given).objective, rel=1e-12)
    assert found["optimum"] > ds.solve(six()).objective + 1
    assert abs(found["gap"]) < 1e-9
    assert "rate" not in found
