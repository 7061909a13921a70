"""Models that return more than a tensor: each trains, is measured and predicts as the tensor alone does."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import ModelError, ObjectiveError
from tests.training.problems import labels

X, Y = labels(60)
HOW = ds.Recipe(optimizer="sgd", lr=0.5, batch_size=20, epochs=3, seed=1)


@dataclass
class Fields:
    loss: Tensor | None
    logits: Tensor


class Both(OrderedDict[str, Any]):
    """Entries that are attributes, None left out, as transformers' ModelOutput has them."""

    def __init__(self, **entries: Any) -> None:
        super().__init__({key: each for key, each in entries.items() if each is not None})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


KINDS = {"namespace": SimpleNamespace, "dataclass": Fields, "both": Both, "dict": dict}


class Head(nn.Module):
    def __init__(self, kind: str = "namespace", outputs: int = 2) -> None:
        super().__init__()
        self.kind = kind
        self.map = nn.Linear(4, outputs)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        made = self.map(x)
        loss = None if labels is None else functional.cross_entropy(made, labels)
        return KINDS[self.kind](loss=loss, logits=made)


class Plain(Head):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        return self.map(x)


def problem(kind: str = "", **changes: Any) -> ds.Problem:
    """Two classes; `kind` says what is returned, none for a tensor."""
    model, arguments = (Head, {"kind": kind}) if kind else (Plain, {})
    given: dict[str, Any] = {
        "model": model, "arguments": arguments, "objective": "cross_entropy", "metric": "accuracy",
        "train": {"x": X, "labels": Y}, "valid": {"x": X[:33], "labels": Y[:33]},
    }  # fmt: skip
    return ds.Problem(**given | changes)


def numbers(run: ds.Run) -> dict[str, Any]:
    return {key: each for key, each in run.summary.items() if key.startswith(("train_", "valid_"))}


def fitted(given: ds.Problem, recipe: ds.Recipe = HOW) -> ds.Run:
    return ds.fit(given, recipe, folder=False, progress=False)


@pytest.mark.parametrize("objective", ["cross_entropy", nn.CrossEntropyLoss(), functional.cross_entropy])
@pytest.mark.parametrize("kind", KINDS)
def test_named_objectives_and_metrics_take_the_logits(kind: str, objective: Any) -> None:
    run, wanted = fitted(problem(kind, objective=objective)), fitted(problem(objective=objective))
    assert numbers(run) == numbers(wanted)
    assert math.isfinite(run.summary["valid_metric_stderr"])
    assert all(torch.equal(each, wanted.state("last")[key]) for key, each in run.state("last").items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_metric_takes_the_logits_beside_a_loss_of_the_model(kind: str) -> None:
    run, wanted = fitted(problem(kind, objective=None)), fitted(problem())
    for key in ("train_loss", "valid_loss", "train_metric", "valid_metric"):
        assert run.summary[key] == pytest.approx(wanted.summary[key], rel=1e-6)


def test_functions_of_ones_own_get_the_output_whole() -> None:
    seen: list[type] = []

    def objective(output: Any, target: Tensor) -> Tensor:
        seen.append(type(output))
        return functional.cross_entropy(output["logits"], target)

    def metric(output: Any, target: Tensor) -> float:
        seen.append(type(output))
        return float((output["logits"].argmax(1) == target).double().mean())

    run, wanted = fitted(problem("both", objective=objective, metric=metric)), fitted(problem())
    assert set(seen) == {Both}
    for key in ("train_loss", "valid_loss", "valid_metric"):
        assert run.summary[key] == pytest.approx(wanted.summary[key], rel=1e-6)
    mixed = fitted(problem("both", metric=metric))
    assert mixed.summary["valid_metric"] == wanted.summary["valid_metric"]


def test_in_parts_the_gradient_is_that_of_the_whole_batch() -> None:
    cut, whole = fitted(problem("both"), HOW.edit(accumulate=3)), fitted(problem())
    for key, each in cut.state("last").items():
        torch.testing.assert_close(each, whole.state("last")[key])


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_standardised_and_the_logits_taken_back(kind: str) -> None:
    train = {"x": X, "labels": 100 + 5 * X[:, :1]}

    def made(kind: str) -> ds.Problem:
        given = problem(kind, objective="squared_error", metric="r2", train=train, valid=train)
        return given.edit(ds.edits.StandardiseTargets(), **{"model.outputs": 1})

    assert numbers(fitted(made(kind))) == numbers(fitted(made("")))


def test_bias_and_variance_and_a_diagnosis_are_those_of_the_tensor() -> None:
    run, wanted = fitted(problem("namespace")), fitted(problem())
    assert str(ds.bias_variance(run)) == str(ds.bias_variance(wanted))
    own = ds.bias_variance(fitted(problem("namespace", objective=None)))
    assert str(own) == str(ds.bias_variance(wanted))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(2, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        steps, states = self.cells(x)
        return self.head(steps[:, -1]), states


def first(output: Any, target: Tensor) -> Tensor:
    return functional.cross_entropy(output[0], target)


def reading(**changes: Any) -> ds.Problem:
    x = torch.randn(60, 5, 2, generator=torch.Generator().manual_seed(2))
    train = (x, (x.sum((1, 2)) > 0).long())
    return ds.Problem(**{"model": Reader, "objective": first, "metric": "accuracy", "train": train} | changes)


def test_beside_states_a_named_metric_takes_what_is_by_example() -> None:
    run = fitted(reading())
    x, y = run.the_problem().train_source.batch  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = (run.model()(x)[0].argmax(1) == y).double().mean()
    assert run.summary["train_metric"] == float(wanted)


def test_a_named_objective_still_refuses_several_parts() -> None:
    with pytest.raises(ObjectiveError, match="cross_entropy: the output is tuple, and must be a tensor"):
        fitted(reading(objective="cross_entropy"))


@pytest.mark.parametrize("objective", ["cross_entropy", None])
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_logits(kind: str, objective: Any) -> None:
    run = fitted(problem(kind, objective=objective))
    found = run.predict({"x": X})
    with torch.no_grad():
        wanted = run.model()(X)
    made = wanted["logits"] if isinstance(wanted, dict) else wanted.logits
    assert torch.equal(found.output, made)
    assert found.values == made.argmax(1).tolist()
    assert torch.allclose(found.probabilities, made.softmax(1))
    assert found.told == ()


def test_numbers_of_a_model_with_a_loss_of_its_own_stay_numbers() -> None:
    train = {"x": X, "labels": X[:, :1] * 3}

    class Line(Head):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            made = self.map(x)
            return Both(loss=None if labels is None else functional.mse_loss(made, labels), logits=made)

    given = problem(
        model=Line, objective=None, metric="r2", train=train, valid=train, arguments={"outputs": 1}
    )
    run = fitted(given)
    assert run.predict({"x": X}).values == run.predict({"x": X}).output.squeeze(1).tolist()


@pytest.mark.parametrize("count", [1, 3, 1030])
def test_beside_states_the_prediction_is_what_is_by_example(count: int) -> None:
    run = fitted(reading())
    x = torch.randn(count, 5, 2, generator=torch.Generator().manual_seed(4))
    found = run.predict(x)
    with torch.no_grad():
        wanted = run.model()(x)[0]
    assert torch.allclose(found.output, wanted, atol=1e-6)
    assert found.values == found.output.tolist()
    shape = (1, count, 3)
    assert found.told == (f"left out, not example by example: 2 outputs of shapes {shape}, {shape}",)


class Several(nn.Module):
    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        self.form = form
        self.kind, self.size = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Any:
        kind, size = self.kind(x), self.size(x)
        return {"logits": kind, "size": size} if self.form == "dict" else (kind, size)


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_of_several_tasks_each_is_predicted_by_its_own_objective(form: str) -> None:
    tasks = ds.objectives.composite({"logits": "cross_entropy", "size": "squared_error"})
    target = {"logits": Y, "size": X[:, :1]}
    run = fitted(ds.Problem(model=Several, arguments={"form": form}, objective=tasks, train=(X, target)))
    found = run.predict(X[:7])
    with torch.no_grad():
        made = run.model()(X[:7])
    kind, size = made.values() if form == "dict" else made
    wanted = zip(kind.argmax(1).tolist(), size.squeeze(1).tolist(), strict=True)
    assert found.values == [{"logits": a, "size": b} for a, b in wanted]
    assert found.probabilities is None
    assert type(found.output) is type(made)


def test_of_several_outputs_under_an_objective_of_ones_own_all_are_given() -> None:
    def own(output: Any, target: Tensor) -> Tensor:
        return functional.cross_entropy(output["logits"], target) + output["size"].square().mean()

    run = fitted(ds.Problem(model=Several, objective=own, train=(X, Y)))
    found = run.predict(X[:4])
    assert list(found.output) == ["logits", "size"]
    assert found.values[2] == {
        "logits": found.output["logits"][2].tolist(), "size": float(found.output["size"][2, 0]),
    }  # fmt: skip


def test_an_output_without_examples_is_told() -> None:
    class Lost(Reader):
        def forward(self, x: Tensor) -> Any:
            return {"state": self.cells(x)[1][0]}

    def own(output: Any, target: Tensor) -> Tensor:
        return functional.cross_entropy(headed(output["state"][-1]), target)

    def headed(state: Tensor) -> Tensor:
        return state[:, :2]

    run = fitted(reading(model=Lost, objective=own, metric=None))
    with pytest.raises(
        ModelError, match=r"returns tensors of shapes \(1, 3, 3\): none has the examples on its"
    ):
        run.predict(torch.zeros(3, 5, 2))
