"""Objectives in a run: settings kept, penalties apart from the risk, tasks, learnt weights, ascent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, RunFolderError
from downslope.objectives import composite, l2, make, penalised
from downslope.reporting import console
from downslope.training.evaluate import evaluate
from tests.training.problems import classification, data, labels, mlp, regression, same_history, same_state

HOW = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=3, seed=1)


def fit(problem: ds.Problem, recipe: ds.Recipe = HOW, **given: Any) -> ds.Run:
    return ds.fit(problem, recipe, **{"folder": False, "progress": False, **given})


class Heads(nn.Module):
    """A trunk, a head for a number and one for a class."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 8)
        self.number, self.kind = nn.Linear(8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x).tanh()
        return {"number": self.number(hidden), "kind": self.kind(hidden)}


def tasks(**given: Any) -> ds.Problem:
    x, y = data(dtype=torch.float32)
    a, b = data(20, torch.float32, seed=1)
    return ds.Problem(
        model=Heads,
        objective=composite({"number": "squared_error", "kind": "cross_entropy"}, **given),
        train=(x, {"number": y, "kind": (y[:, 0] > 0).long()}),
        valid=(a, {"number": b, "kind": (b[:, 0] > 0).long()}),
    )


def test_losses_are_risks_and_penalties_stand_beside_them() -> None:
    run = fit(classification(objective=penalised("cross_entropy", l1=0.01, l2=0.1)))
    risk, whole = (run.history.series(f"train_{key}").values for key in ("loss", "objective"))
    parts = [run.history.series(f"train_{key}").values for key in ("l1", "l2")]
    assert whole == pytest.approx(risk + parts[0] + parts[1], rel=1e-5)
    model = run.model()
    plain = evaluate(classification(), model)
    assert run.summary["train_loss"] == pytest.approx(plain.loss, rel=1e-6)
    assert run.summary["valid_loss"] == pytest.approx(
        evaluate(classification(), model, classification().valid_source).loss, rel=1e-6
    )
    squares = sum(float(model[i].weight.detach().square().sum()) for i in (0, 3))
    assert run.summary["train_l2"] == pytest.approx(0.05 * squares, rel=1e-5)
    assert run.summary["train_objective"] == pytest.approx(
        plain.loss + run.summary["train_l1"] + run.summary["train_l2"], rel=1e-6
    )


def test_an_l2_penalty_on_all_weights_is_weight_decay_under_plain_descent() -> None:
    decayed = fit(classification(), HOW.edit(weight_decay=0.1))
    penalty = fit(classification(objective=penalised("cross_entropy", l2=0.1)))
    for a, b in zip(decayed.model().parameters(), penalty.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_penalty_counts_once_for_a_batch_in_parts(accumulate: int) -> None:
    problem = classification(objective=penalised("cross_entropy", l2=0.5))
    whole, parts = fit(problem), fit(problem, HOW.edit(accumulate=accumulate))
    for a, b in zip(whole.model().parameters(), parts.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    for key in ("train_loss", "train_l2", "train_objective"):
        assert whole.history.series(key).values == pytest.approx(parts.history.series(key).values, rel=1e-4)


def test_settings_are_kept_with_the_run_and_found_again(tmp_path: Path) -> None:
    own = classification(objective="cross_entropy", task="digits").edit(
        **{"objective.label_smoothing": 0.1, "objective.l2": 1e-3}
    )
    run = fit(own, folder=tmp_path / "run")
    said = "penalised(cross_entropy(label_smoothing=0.1), l2=0.001)"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["problem"]["objective"] == said
    assert repr(ds.load_run(run.folder).the_problem().objective) == said


def test_a_run_goes_on_only_under_the_same_settings(tmp_path: Path) -> None:
    own = classification(objective=make("cross_entropy", label_smoothing=0.1))
    fit(own, folder=tmp_path / "run")
    other = own.edit(**{"objective.label_smoothing": 0.2})
    with pytest.raises(RunFolderError, match=r"smoothing=0.1\) there and .*smoothing=0.2\) here"):
        ds.fit(other, HOW, folder=tmp_path / "run", resume=True, progress=False)


def test_an_edit_of_the_objective_goes_to_a_file_and_back(tmp_path: Path) -> None:
    edit = ds.edits.SetObjective(penalised("cross_entropy", l2(0.1, only="0.*")))
    ds.edits.save(tmp_path / "fixed.toml", HOW, [edit])
    _, (again,) = ds.edits.load(tmp_path / "fixed.toml")
    assert str(again) == str(edit) == "objective -> penalised(cross_entropy, l2(0.1, only='0.*'))"
    assert repr(classification().edit(again).objective) == repr(edit.objective)


def test_several_tasks_are_trained_and_logged_one_by_one() -> None:
    run = fit(tasks(weights={"kind": 0.5}), HOW.edit(epochs=30))
    number, kind = (run.history.series(f"train_{key}").values for key in ("number", "kind"))
    assert run.history.series("train_loss").values == pytest.approx(number + 0.5 * kind, rel=1e-5)
    assert number[-5:].mean() < 0.5 * number[:5].mean()
    assert run.summary["valid_loss_stderr"] > 0
    held = {key: run.history.series(f"valid_{key}").values for key in ("loss", "number", "kind")}
    assert held["loss"] == pytest.approx(held["number"] + 0.5 * held["kind"], rel=1e-5)


def test_learnt_weights_train_beside_the_model_and_every_run_has_its_own() -> None:
    problem = tasks(weights="uncertainty")
    first, second = fit(problem), fit(problem)
    assert same_history(first, second)
    s = first.history.series("train_number_log_variance").values
    assert s[0] == 0
    # One step of plain descent by hand: ds = 1/2 - exp(0) / 2 L.
    first_loss = first.history.series("train_number").values[0]
    assert s[1] == pytest.approx(-0.05 * (0.5 - 0.5 * first_loss), rel=1e-5)
    assert problem.objective.log_variance.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("surgery", [None, "pcgrad"])
def test_learnt_weights_and_surgery_are_resumed_exactly(surgery: Any, tmp_path: Path) -> None:
    problem = tasks(weights="uncertainty", surgery=surgery)
    recipe = HOW.edit(optimizer="adam", epochs=4)
    whole = fit(problem, recipe)
    fit(problem, recipe.edit(epochs=2), folder=tmp_path / "run")
    resumed = ds.fit(problem, recipe, folder=tmp_path / "run", resume=True, progress=False)
    assert same_state(whole.state("last"), resumed.state("last"))
    for key in ("train_number_log_variance", "train_loss"):
        assert whole.history.series(key).values.tolist() == resumed.history.series(key).values.tolist()


def test_learnt_weights_follow_a_batch_in_parts() -> None:
    problem = tasks(weights="uncertainty")
    whole, parts = fit(problem), fit(problem, HOW.edit(accumulate=2))
    key = "train_kind_log_variance"
    assert whole.history.series(key).values == pytest.approx(parts.history.series(key).values, abs=1e-6)


def test_surgery_takes_the_step_that_the_projected_gradients_make() -> None:
    problem = tasks(surgery="pcgrad")
    run = fit(problem, ds.Recipe(optimizer="gd", lr=0.1, batch_size="full", steps=1, seed=0))
    model = problem.build(0)
    x, y = problem.train.batch
    output = model(x)
    rows = []
    for loss in (
        nn.functional.mse_loss(output["number"], y["number"]),
        nn.functional.cross_entropy(output["kind"], y["kind"]),
    ):
        found = torch.autograd.grad(loss, list(model.trunk.parameters()), retain_graph=True)
        rows.append(torch.cat([each.flatten() for each in found]))
    a, b = rows
    dot = torch.minimum(a @ b, torch.tensor(0.0))
    wanted = (a - dot / (b @ b) * b) + (b - dot / (a @ a) * a)
    start = torch.cat([p.detach().flatten() for p in model.trunk.parameters()])
    after = torch.cat([p.detach().flatten() for p in run.model("last").trunk.parameters()])
    torch.testing.assert_close(after, start - 0.1 * wanted, rtol=1e-4, atol=1e-6)


def test_ascent_on_minus_the_objective_is_descent_and_penalties_go_down_in_both() -> None:
    how = HOW.edit(epochs=5)
    down = fit(regression(objective=penalised("squared_error", l2=0.3)), how)
    up = fit(
        regression(
            objective=penalised(lambda o, t: -(o - t).square().mean(), l2=0.3), maximize=True, metric="r2"
        ),
        how,
    )
    assert same_state(down.state("last"), up.state("last"))
    assert up.summary["train_loss"] == pytest.approx(-down.summary["train_loss"], rel=1e-6)
    assert up.summary["train_objective"] == pytest.approx(-down.summary["train_objective"], rel=1e-6)
    assert up.summary["train_l2"] == pytest.approx(down.summary["train_l2"], rel=1e-6)


def test_ascent_with_tasks_and_surgery() -> None:
    x, y = data(dtype=torch.float32)
    names = {"near": lambda o, t: -(o - t).square().mean(), "small": lambda o, t: -o.abs().mean()}
    plain = {"near": "squared_error", "small": lambda o, t: o.abs().mean()}
    up = ds.Problem(
        model=mlp, objective=composite(names, surgery="pcgrad"), train=(x, y), valid=(x, y), maximize=True
    )
    down = ds.Problem(model=mlp, objective=composite(plain, surgery="pcgrad"), train=(x, y), valid=(x, y))
    a, b = fit(up), fit(down)
    for p, q in zip(a.model("last").parameters(), b.model("last").parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    assert a.summary["valid_loss"] == pytest.approx(-b.summary["valid_loss"], rel=1e-5)


def test_a_pattern_that_fits_nothing_stops_a_fit_before_it_begins(tmp_path: Path) -> None:
    problem = classification(objective=penalised("cross_entropy", l2(0.1, only="head.*")))
    with pytest.raises(InputError, match="only='head"):
        fit(problem, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_penalty_that_overflows_ends_the_run_as_any_loss_would() -> None:
    run = fit(classification(objective=penalised("cross_entropy", l2=1e30)), HOW.edit(lr=1e10))
    assert run.status == "diverged"


def test_a_term_of_ones_own_called_loss_leaves_the_loss_alone() -> None:
    def own(output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(output, target), "size": output.square().mean()}

    run = fit(classification(objective=own))
    losses = run.history.series("train_loss").values
    assert (losses > run.history.series("train_size").values).all()
    x, y = labels()
    output = run.model("last")(x)
    assert run.summary["train_loss"] == pytest.approx(
        float(sum(own(output, y).values()).detach()), rel=0.5
    )  # of the best model
    assert math.isfinite(run.summary["train_loss"])


def test_what_the_objective_learnt_is_with_the_run_and_in_its_folder(tmp_path: Path) -> None:
    problem = tasks(weights="uncertainty")
    run = ds.fit(problem, HOW, folder=tmp_path / "run", progress=False)
    kept = ds.load_run(tmp_path / "run", problem)
    # Logged are the weights before each step, so that one step more logs those at the end.
    more = fit(problem, HOW.edit(steps=run.summary["steps"] + 1, epochs=None))
    s = {key: more.history.last(f"train_{key}_log_variance") for key in ("number", "kind")}
    wanted = {"number": 0.5 * math.exp(-s["number"]), "kind": math.exp(-s["kind"])}
    for each in (run, kept):
        assert each.objective.factors == pytest.approx(wanted, rel=1e-5)
        assert each.facts["task_weights"] == pytest.approx(wanted, rel=1e-5)
        assert "weights of the tasks, as learnt: number 0." in str(console.of_run(each))
    assert problem.objective.factors == {"number": 0.5, "kind": 1.0}
    assert fit(tasks(weights={"kind": 0.5})).objective.factors == {"number": 1.0, "kind": 0.5}


def test_the_report_calls_objective_and_metric_by_their_names(tmp_path: Path) -> None:
    page = ds.report(fit(classification())).save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "objectives.cross_entropy:cross_entropy" not in page
    assert '<th scope="row">objective</th><td>cross_entropy</td>' in page
