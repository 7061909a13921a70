"""What fit keeps, when it stops, what it hands to model, objective and metric, and what it says."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import downslope as ds
from downslope import optim
from downslope.core.errors import InputError, NonFiniteError
from downslope.training.deadline import Deadline
from downslope.training.state import StepState
from tests.training.problems import classification, data, labels, mlp, regression, same_history, same_state

HOW = ds.Recipe(optimizer="adam", lr=0.02, batch_size=16, epochs=6, seed=0)


def fit(problem: ds.Problem, recipe: ds.Recipe = HOW, **more: Any) -> ds.Run:
    """Without probes, whose steps depend on what they cost on this machine."""
    return ds.fit(problem, recipe, **({"folder": False, "progress": False, "observe": 0.0} | more))


def overfitting(**changes: Any) -> ds.Problem:
    """Random labels: the validation loss falls, then rises."""
    x, y = data(40, seed=3)
    noise = torch.randn(40, 1, generator=torch.Generator().manual_seed(4), dtype=y.dtype)
    return regression(model=lambda: mlp(64), train=(x, y + 6 * noise), valid=data(30, seed=5), **changes)


def test_a_time_given_to_fit_ends_the_run_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    left = itertools.count(9.5 - 1, -1)
    monkeypatch.setattr(Deadline, "left", property(lambda self: next(left)))  # a second a step
    monkeypatch.setattr(Deadline, "took", lambda *_: None)
    run = fit(regression(), HOW, seconds=9.5)
    assert (run.status, run.summary["steps"]) == ("done", 10)
    assert run.facts["cut"] == {"seconds": 9.5, "steps": 10, "of": 24}
    short = fit(regression(), HOW.edit(steps=10))
    assert same_state(run.model("last").state_dict(), short.model("last").state_dict())


def test_a_time_that_suffices_cuts_nothing() -> None:
    assert "cut" not in fit(regression(), HOW.edit(steps=3), seconds=1e6).facts


@pytest.mark.parametrize("given", [0, -1.0, math.nan])
def test_a_time_that_is_not_positive_is_refused(given: float) -> None:
    with pytest.raises(InputError, match="seconds="):
        fit(regression(), HOW, seconds=given)


def test_the_best_weights_on_validation_are_handed_out() -> None:
    problem = overfitting(metric=None)
    seen: dict[int, float] = {}

    def by_hand(state: StepState) -> None:
        x, y = (each.float() for each in problem.valid.batch)
        with torch.no_grad():
            seen[state.step] = float(((state.model(x) - y) ** 2).mean())

    recipe = HOW.edit(epochs=30, lr=0.05)
    run = fit(problem, recipe, on_probe=by_hand, observe=0.9)
    series = run.history.series("valid_loss")
    for step, value in zip(series.steps, series.values, strict=True):
        if int(step) in seen:
            assert value == pytest.approx(seen[int(step)], rel=1e-5)
    best = int(series.steps[np.argmin(series.values)])
    assert 0 < best < run.summary["steps"]
    assert run.summary["model"] == "best"
    assert run.summary["best_step"] == best
    assert run.summary["valid_loss"] == pytest.approx(series.values.min(), rel=1e-6)
    stopped = fit(problem, recipe.edit(steps=best))
    assert same_state(run.model().state_dict(), stopped.model("last").state_dict())
    assert not same_state(run.model("last").state_dict(), run.model().state_dict())


def test_without_validation_the_last_model_is_handed_out_and_the_summary_says_so() -> None:
    run = fit(regression(valid=None))
    assert run.summary["model"] == "last"
    assert run.summary["valid_loss"] is None
    assert same_state(run.model().state_dict(), run.model("last").state_dict())
    x, y = (each.float() for each in data())
    with torch.no_grad():
        assert run.summary["train_loss"] == pytest.approx(float(((run.model()(x) - y) ** 2).mean()), rel=1e-5)


def test_patience_counts_epochs_without_improvement_of_the_metric() -> None:
    run = fit(overfitting(), HOW.edit(epochs=200, lr=0.05, patience=3))
    values = run.history.series("valid_metric").values
    assert run.status == "early-stopped"
    assert len(values) - 1 - int(np.argmax(values)) == 3
    assert run.history.last("epoch") < 200


def test_patience_without_validation_data_is_told_to_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ds.fit(overfitting().edit(valid=None), HOW.edit(epochs=2, patience=3), folder=False)
    assert sum("patience=3" in each and "no validation data" in each for each in caplog.messages) == 1


@pytest.mark.parametrize("name", ["mean_absolute_error", "rmse", "my_loss", "cer_of_words"])
def test_an_error_of_ones_own_is_told_to_count_as_better_where_it_is_higher(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def own(output: Tensor, target: Tensor) -> float:
        return float((output - target).abs().mean())

    own.__name__ = name
    with caplog.at_level(logging.WARNING):
        ds.fit(regression(metric=own), HOW.edit(epochs=1), folder=False)
        told = [each for each in caplog.messages if "metric_goal='min'" in each]
        assert len(told) == 1
        assert name in told[0]
        own.__name__ = "score"
        ds.fit(regression(metric=own), HOW.edit(epochs=1), folder=False)
        own.__name__ = name
        ds.fit(regression(metric=own, metric_goal="min"), HOW.edit(epochs=1), folder=False)
    assert sum("metric_goal" in each for each in caplog.messages) == 1


def test_equal_metrics_are_settled_by_the_loss_without_new_patience() -> None:
    problem = classification(metric=lambda output, target: 0.5)
    run = fit(problem, HOW.edit(epochs=50, patience=4))
    losses = run.history.series("valid_loss")
    assert run.history.last("epoch") == 4
    assert run.summary["best_step"] == losses.steps[np.argmin(losses.values)] > 0


@pytest.mark.parametrize("valid", [True, False])
def test_reaching_the_goal_stops_the_run(valid: bool) -> None:
    problem = classification(goal=0.8, **({} if valid else {"valid": None}))
    run = fit(problem, HOW.edit(epochs=200))
    assert run.status == "goal"
    assert run.summary["steps"] < 200 * 4
    assert run.summary["valid_metric" if valid else "train_metric"] >= 0.8
    if valid:
        assert (run.history.series("valid_metric").values[:-1] < 0.8).all()


def test_a_goal_of_something_small_is_reached_from_above() -> None:
    run = fit(regression(metric="mse", goal=3.0), HOW.edit(epochs=300))
    assert run.status == "goal"
    assert run.summary["valid_metric"] <= 3.0


def test_the_metric_is_called_once_in_eval_mode_on_all_outputs_in_stored_order() -> None:
    models: list[nn.Module] = []
    calls: list[tuple[Tensor, Tensor]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
            models.append(self)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    def metric(output: Tensor, target: Tensor) -> float:
        assert not models[-1].training
        assert not output.requires_grad
        calls.append((output, target))
        return float(((output - target) ** 2).mean())

    x, y = data(3000)
    problem = regression(
        model=Watched, metric=metric, metric_goal="min", train=(x, y), valid=(x.flip(0), y.flip(0))
    )
    run = fit(problem, HOW.edit(epochs=2, batch_size=500))
    evaluations = len(run.history.series("valid_metric").steps)
    assert evaluations == 3
    assert len(calls) == evaluations + 1  # and the summary's train
    assert all(len(output) == 3000 for output, _ in calls)
    assert torch.equal(calls[0][1], y.flip(0).float())
    assert torch.equal(calls[-1][1], y.float())
    with torch.no_grad():
        model = run.model()
        torch.testing.assert_close(calls[-2][0], model(x.flip(0).float()))
    assert run.summary["valid_metric"] == pytest.approx(run.summary["valid_loss"], rel=1e-5)


def test_the_trial_forward_leaves_batch_norm_as_it_was() -> None:
    problem = regression(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)))
    fresh = problem.build(0).state_dict()
    started: list[dict[str, Any]] = []

    def at_start(state: StepState) -> None:
        if not state.step:
            started.append({k: v.clone() for k, v in state.model.state_dict().items()})

    run = fit(problem, on_probe=at_start)
    assert same_state(started[0], fresh)
    assert int(run.model("last").state_dict()["1.num_batches_tracked"]) == run.summary["steps"]


def test_dropout_depends_only_on_its_address() -> None:
    masks: dict[tuple[int, int], list[Tensor]] = {}

    def masks_of(extra: int) -> list[Tensor]:
        seen: list[Tensor] = []

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lin, self.drop = nn.Linear(4, 1), nn.Dropout(0.5)

            def forward(self, x: Tensor) -> Tensor:
                if self.training:
                    torch.rand(extra)  # other draws of the model, before the dropout
                    seen.append(self.drop(torch.ones(16, 4)))
                return self.lin(x)

        fit(regression(model=Net, valid=None), HOW.edit(steps=5), observe=0.0)
        return seen[-5:]

    assert not masks
    first, second = masks_of(0), masks_of(7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


# -- what reaches model and objective -----------------------------------------------------------------------


@dataclasses.dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


class WithLoss(nn.Module):
    """A model of the Hugging Face kind: labels in, an output with a loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(outputs=2)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Output:
        logits = self.net(x)
        return Output(None if labels is None else nn.functional.cross_entropy(logits, labels), logits)


def test_a_model_that_brings_its_own_loss_trains_as_with_the_objective() -> None:
    x, y = labels(3000)
    metric = lambda output, target: float((output.logits.argmax(1) == target).double().mean())  # noqa: E731
    batch = {"x": x, "labels": y}
    own = fit(ds.Problem(model=WithLoss, objective=None, train=batch, valid=batch, metric=metric))
    plain = fit(classification(objective=nn.functional.cross_entropy, train=(x, y), valid=(x, y)))
    assert same_history(own, plain)
    assert own.summary["valid_metric"] == plain.summary["valid_metric"] > 0.8


def test_a_dict_batch_goes_to_the_model_by_keyword_and_its_labels_to_the_objective() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, *, left: Tensor, right: Tensor) -> Tensor:
            return self.a(left) + self.b(right)

    x, y = labels()
    run = fit(classification(model=Two, train={"right": x, "labels": y, "left": -x}, valid=None))
    assert run.summary["train_loss"] < run.history["train_loss"][1]


def test_several_inputs_go_to_the_model_in_their_order() -> None:
    class Ratio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 1)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.lin(x) * scale

    x, y = data()
    scale = y.abs() + 1
    run = fit(regression(model=Ratio, train=(x, scale, y), valid=None), HOW.edit(epochs=30))
    assert run.summary["train_loss"] < 0.5 * run.history["train_loss"][1]


def test_a_column_and_a_row_of_targets_train_alike() -> None:
    x, y = data()
    runs = [fit(regression(train=(x, target), valid=None)) for target in (y, y.squeeze(1))]
    assert same_history(*runs)


class Rows(Dataset[Any]):
    def __init__(self, noise: float = 0.0) -> None:
        self.x, self.y = labels()
        self.noise = noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] + self.noise * torch.randn(4), int(self.y[index])


class Flow(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(list(zip(*labels(), strict=True)))


def test_a_dataset_that_fits_trains_as_its_tensors() -> None:
    assert same_history(fit(classification(train=Rows())), fit(classification()))


def test_an_augmenting_dataset_is_drawn_anew_every_epoch_and_repeats() -> None:
    runs = [fit(classification(train=Rows(0.5)), HOW.edit(lr=0.0)) for _ in range(2)]
    assert same_history(*runs)
    losses = runs[0].history.series("train_epoch_loss").values
    assert len(set(losses)) == len(losses)


def test_an_iterable_dataset_trains_in_batches_and_a_schedule_asks_for_its_length() -> None:
    run = fit(classification(train=Flow(), valid=None))
    assert run.summary["steps"] == 6 * 4
    with pytest.raises(ValueError, match="give steps="):
        fit(classification(train=Flow()), HOW.edit(schedule="cosine"))
    assert fit(classification(train=Flow()), HOW.edit(schedule="cosine", steps=9)).summary["steps"] == 9


def test_a_dataloaders_own_batch_size_wins_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    problem = classification(train=DataLoader(TensorDataset(*labels()), batch_size=10, shuffle=True))
    with caplog.at_level(logging.WARNING, "downslope"):
        run = fit(problem, HOW)
        fit(problem, HOW)
    assert run.summary["steps"] == 6 * 5
    assert run.choices["batch_size"] == 10
    assert caplog.text.count("own batches of 10 win over the recipe's batch_size 16") == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING, "downslope"):
        fit(classification(train=DataLoader(TensorDataset(*labels()), batch_size=10)), ds.Recipe(epochs=1))
    assert not caplog.text


def test_a_csv_file_is_a_problem(tmp_path: Path) -> None:
    x, y = data(60)
    rows = "\n".join(
        ",".join(f"{v:.6f}" for v in [*a.tolist(), *b.tolist()]) for a, b in zip(x, y, strict=True)
    )
    path = tmp_path / "table.csv"
    path.write_text("a,b,c,d,quality\n" + rows, encoding="utf-8")
    problem = ds.Problem(model=mlp, objective="squared_error", train=path, target="quality")
    assert problem.valid is not None
    run = fit(problem, HOW.edit(epochs=30))
    assert run.summary["valid_loss"] < run.history.series("valid_loss").values[0]


# -- numbers that end --------------------------------------------------------------------------------------


def test_a_diverging_run_names_the_step_and_the_module() -> None:
    run = fit(regression(), ds.Recipe(optimizer="sgd", lr=1e6, batch_size=16, epochs=20))
    found = run.facts["nonfinite"]
    assert run.status == "diverged"
    assert found["step"] == run.history.series("train_loss").steps[-1]
    assert not math.isfinite(run.history.last("train_loss") or 0.0)
    assert found["module"] in {"0", "1", "3"} or found["what"] == "loss"
    assert len(run.history.series("lr").steps) == len(run.history.series("train_loss").steps) - 1
    assert run.model().state_dict() is not None


class Root(nn.Module):
    """The gradient of a root at 0 is infinite, and infinity times 0 is no number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.first, self.last, self.calls, self.at = nn.Linear(4, 1), nn.Linear(1, 1), 0, at

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if self.training:
            self.calls += 1
        if self.calls == self.at + 1:  # the trial forward is the first call
            hidden = (hidden * 0.0).abs().sqrt()
        return self.last(hidden)


@pytest.mark.parametrize("last", [False, True], ids=["within", "last step"])
def test_a_gradient_that_breaks_the_weights_is_named_with_its_step(last: bool) -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=50, steps=3 if last else 10)
    run = fit(regression(model=lambda: Root(3), metric=None), recipe, observe=0.0)
    assert run.status == "diverged"
    assert run.facts["nonfinite"]["what"] == "gradient"
    assert run.facts["nonfinite"]["step"] == 3
    assert run.facts["nonfinite"]["module"] == "first"


def _of_policy(policy: str) -> ds.Recipe:
    return ds.Recipe(
        optimizer=lambda params: optim.SGD(params, lr=0.1, nonfinite=policy), batch_size=50, steps=10
    )


def test_an_optimizer_that_stops_at_such_a_gradient_ends_the_run_with_finite_weights() -> None:
    run = fit(regression(model=lambda: Root(3), metric=None), _of_policy("stop"), observe=0.0)
    found = run.facts["nonfinite"]
    assert (run.status, found["what"], found["module"], found["step"]) == ("diverged", "gradient", "first", 3)
    assert all(bool(p.isfinite().all()) for p in run.model("last").parameters())


def test_an_optimizer_that_skips_such_a_gradient_trains_on() -> None:
    run = fit(regression(model=lambda: Root(3), metric=None), _of_policy("skip"), observe=0.0)
    assert run.status == "done"
    assert "nonfinite" not in run.facts
    assert len(run.history.series("train_loss").steps) == 10


def test_an_optimizer_that_raises_at_such_a_gradient_says_which() -> None:
    with pytest.raises(NonFiniteError, match=r"the gradient of parameter .* not finite"):
        fit(regression(model=lambda: Root(3), metric=None), _of_policy("raise"), observe=0.0)


def test_a_metric_that_takes_no_nan_does_not_hide_that_a_run_diverged() -> None:
    def strict(output: Tensor, target: Tensor) -> float:
        if not bool(torch.isfinite(output).all()):
            raise ValueError("Input contains NaN")
        return 0.0

    run = fit(regression(metric=strict, valid=None), ds.Recipe(optimizer="sgd", lr=1e6, epochs=20))
    assert run.status == "diverged"


def test_the_stateful_objective_is_not_advanced_by_what_is_measured_beside_the_run() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            return ((output - target) ** 2).mean() * (1 + 0.01 * self.calls)

    wide = 13  # no other test has this model, so the first run measures its probes and the second does not
    runs = [
        fit(
            regression(objective=Counting(), model=lambda: mlp(wide), valid=None),
            HOW.edit(steps=5),
            observe=0.5,
        )
        for _ in range(2)
    ]
    assert same_history(*runs)


def test_patience_that_ends_with_the_last_epoch_has_stopped_nothing() -> None:
    stopped = fit(overfitting(), HOW.edit(epochs=200, lr=0.05, patience=3))
    epochs = int(stopped.history.last("epoch") or 0)
    whole = fit(overfitting(), HOW.edit(epochs=epochs, lr=0.05, patience=3))
    assert (stopped.status, whole.status) == ("early-stopped", "done")
    assert same_state(whole.model().state_dict(), stopped.model().state_dict())
