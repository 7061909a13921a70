"""A metric for each of several tasks: their mean, each by its name in a run, and what is refused."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ModelError, ObjectiveError
from downslope.objectives.metrics import accuracy, by_task, r2
from downslope.reporting.curves import metric_figure
from downslope.reporting.facts import result

DIGITS = ds.data.digits(scale=16)
HOW = ds.Recipe(lr=3e-3, epochs=2)
BOTH = ds.objectives.composite({"digit": "cross_entropy", "odd": "logistic"})


def parts(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return pair[0], {"digit": pair[1], "odd": (pair[1] % 2).float()}


def problem(**changes: Any) -> ds.Problem:
    return ds.Problem(**{
        "model": "multi_task", "objective": BOTH, "train": parts(DIGITS.train), "valid": parts(DIGITS.valid),
        "metric": {"digit": "accuracy", "odd": "accuracy"}, **changes,
    })  # fmt: skip


def test_a_run_tells_each_metric_by_its_name_and_their_mean() -> None:
    run = ds.fit(problem(), HOW, folder=False, progress=False)
    x, y = parts(DIGITS.valid)
    with torch.no_grad():
        out = run.model()(x)
    digit = accuracy_score(y["digit"], out["digit"].argmax(1))
    odd = accuracy_score(y["odd"], (out["odd"][:, 0] > 0).float())
    assert run.summary["valid_digit_accuracy"] == pytest.approx(digit, abs=1e-9)
    assert run.summary["valid_odd_accuracy"] == pytest.approx(odd, abs=1e-9)
    assert run.summary["valid_metric"] == pytest.approx((digit + odd) / 2, abs=1e-9)
    rows = [run.history.series(f"valid_{name}").values for name in ("digit_accuracy", "odd_accuracy")]
    assert (run.history.series("valid_metric").values == pytest.approx((rows[0] + rows[1]) / 2)) is True
    assert run.history.series("valid_digit").values[0] == pytest.approx(2.3, abs=0.2)  # the loss of the task


def test_standard_errors_are_those_of_the_examples() -> None:
    run = ds.fit(problem(), HOW, folder=False, progress=False)
    x, y = parts(DIGITS.valid)
    with torch.no_grad():
        out = run.model()(x)
    right = torch.stack(
        [out["digit"].argmax(1) == y["digit"], (out["odd"][:, 0] > 0).float() == y["odd"]]
    ).double()
    n = len(x)
    assert run.summary["valid_metric_stderr"] == pytest.approx(float(right.mean(0).std()) / n**0.5)
    assert run.summary["valid_digit_accuracy_stderr"] == pytest.approx(float(right[0].std()) / n**0.5)


TASK = """
import downslope as ds
x, y = ds.data.digits(scale=16).train
def problem():
    both = ds.objectives.composite({"digit": "cross_entropy", "odd": "logistic"})
    return ds.Problem(model="multi_task", objective=both, train=(x, {"digit": y, "odd": (y % 2).float()}))
"""


def test_it_is_shown_in_the_report_and_read_back_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    given = problem(task=str(tmp_path / "task.py"))
    run = ds.fit(given, HOW, folder=tmp_path / "run", progress=False)
    value = run.summary["valid_odd_accuracy"]
    page = ds.report(run).save(tmp_path / "report.html").read_text(encoding="utf-8")
    for said in ("validation mean accuracy", "validation digit accuracy", "training odd accuracy"):
        assert said in page
    assert f"{value:.2f}" in page
    again = ds.load_run(tmp_path / "run")
    assert again.the_problem().metric == by_task({"digit": "accuracy", "odd": "accuracy"})
    assert again.metric_up
    (choice,) = metric_figure(run, "run").choices
    lines = {each["name"]: list(each["y"]) for each in choice.traces}
    assert lines["valid odd accuracy"][-1] == value
    assert list(lines)[:3] == ["valid mean accuracy", "valid digit accuracy", "valid odd accuracy"]


def test_terminal_lines_name_every_task(tmp_path: Path) -> None:
    run = ds.fit(problem(), HOW, folder=False, progress=False)
    assert re.search(
        r"valid mean accuracy 0\.\d\d.*\(digit accuracy 0\.\d\d, odd accuracy 0\.\d\d\)", result(run)
    )
    mixed = ds.fit(problem(metric={"digit": "accuracy", "odd": "auc"}), HOW, folder=False, progress=False)
    assert re.search(r"valid mean metric 0\.\d\d.*\(digit accuracy 0\.\d\d, odd auc 0\.\d\d\)", result(mixed))


def test_the_best_model_and_the_goal_go_by_the_mean() -> None:
    run = ds.fit(problem(goal=0.6), HOW.edit(epochs=50), folder=False, progress=False)
    assert run.status == "goal"
    assert run.summary["valid_metric"] >= 0.6
    with pytest.raises(InputError, match="lies between 0 and 1"):
        problem(goal=1.5)


def test_tasks_of_a_tuple_go_by_their_place_in_the_objective() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 10), nn.Linear(64, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.one(x), self.two(x)

    def both(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return pair[0], (pair[1], (pair[1] % 2).float())

    given = problem(
        model=Pair, metric={"odd": "accuracy"}, train=both(DIGITS.train), valid=both(DIGITS.valid)
    )
    run = ds.fit(given, HOW, folder=False, progress=False)
    with torch.no_grad():
        odd = run.model()(DIGITS.valid[0])[1][:, 0] > 0
    assert run.summary["valid_metric"] == pytest.approx(
        accuracy_score(DIGITS.valid[1] % 2, odd.long()), abs=1e-9
    )


def test_its_text_makes_it_again() -> None:
    own = by_task({"digit": "accuracy", "mass": r2})
    assert repr(own) == "by_task({'digit': 'accuracy', 'mass': 'r2'})"
    assert problem(metric="by_task({'digit': 'accuracy'})").metric == by_task({"digit": accuracy})
    assert own.bounds == (float("-inf"), 1.0)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({}, "needs tasks"),
        ({"digits": "accuracy"}, "no task 'digits'; did you mean 'digit'"),
        ({"digit": "accuracyy"}, "did you mean 'accuracy'"),
        ({"digit": 3}, "'digit' has 3: must be a name or"),
        ({"digit": "accuracy", "odd": "error"}, "'digit' is better when higher, that of 'odd' when lower"),
        ("by_task(digit='accuracy')", "of several tasks write by_task"),
        (3, "of several tasks a dict"),
    ],
)
def test_what_is_no_metric_of_tasks_is_refused_in_one_line(metric: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        problem(metric=metric)
    assert "\n" not in str(told.value)


def test_one_metric_for_an_output_of_several_tasks_says_what_to_write() -> None:
    with pytest.raises(ObjectiveError, match=r"metric=\{'digit': 'accuracy', 'odd': 'accuracy'\}") as told:
        ds.fit(problem(metric="accuracy"), HOW, folder=False, progress=False)
    assert "give a metric of your own" in str(told.value)
    assert "objective of" not in str(told.value)
    with pytest.raises(ObjectiveError, match=r"composite\(\{'digit': 'cross_entropy'"):
        ds.fit(problem(objective="cross_entropy", metric=None, arguments={"heads": {"digit": 10}}), HOW,
               folder=False, progress=False)  # fmt: skip


# -- the model, its sizes from the data -------------------------------------------------------------------


def test_heads_and_trunk_are_sized_by_the_data() -> None:
    model = problem().build()
    assert {task: head.out_features for task, head in model.heads.items()} == {"digit": 10, "odd": 1}
    assert model.trunk[0][1].in_features == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"trunk": "cnn", "width": 4}},
        {"model": ds.models.multi_task, "arguments": {"trunk": "cnn", "heads": {"digit": 10, "odd": 1}}},
    ],
)
def test_a_trunk_of_images_gets_their_channels_and_size(changes: dict[str, Any]) -> None:
    images = ds.data.digits(images=True, scale=16)
    given = problem(train=parts(images.train), valid=parts(images.valid), **changes)
    out = given.build()(images.train[0][:3])
    assert {task: tuple(z.shape) for task, z in out.items()} == {"digit": (3, 10), "odd": (3, 1)}


def test_a_factory_of_the_catalogue_that_lacks_sizes_gets_them_from_the_data() -> None:
    for model in (ds.models.mlp, partial(ds.models.mlp, width=7), partial(ds.models.mlp, 64)):
        found = ds.Problem(model=model, objective="cross_entropy", train=DIGITS.train).build()
        assert (found[1].in_features, found[-1].out_features) == (64, 10)
    own = problem(model=partial(ds.models.multi_task, "mlp", {"digit": 10, "odd": 2})).build()
    assert own.heads["odd"].out_features == 2


def test_what_the_data_cannot_tell_is_asked_for_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"heads are missing: give each task its head, such as heads=\{"):
        problem(objective=lambda out, y: out["digit"].mean(), metric=None).build()
    with pytest.raises(ModelError, match=r"'inputs'; give it beside the heads, such as inputs=64"):
        ds.models.multi_task("mlp", {"a": 2})
