"""Fit does what a plain torch loop does, step by step."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from tests.training.problems import by_hand, data, regression

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def recipe(**changes: Any) -> ds.Recipe:
    given: dict[str, Any] = {
        "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "batch_size": 16, "epochs": 4, "seed": 3,
        "precision": "float64",
    } | changes  # fmt: skip
    return ds.Recipe(**given)


def fit(problem: ds.Problem, how: ds.Recipe, **more: Any) -> ds.Run:
    return ds.fit(problem, how, folder=False, progress=False, **more)


def agree(run: ds.Run, model: nn.Module, losses: list[float]) -> None:
    np.testing.assert_allclose(run.history.series("train_loss").values, losses, **EXACT)
    for ours, theirs in zip(run.model("last").parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.05, momentum=0.9)


def test_momentum_on_batches_in_the_order_of_their_address() -> None:
    problem, how = regression(), recipe()
    agree(fit(problem, how), *by_hand(problem, how, sgd))


def test_the_full_batch() -> None:
    problem, how = regression(), recipe(batch_size="full")
    agree(fit(problem, how), *by_hand(problem, how, sgd))


def test_a_number_of_steps_that_ends_within_an_epoch() -> None:
    problem, how = regression(), recipe(epochs=None, steps=7)
    run = fit(problem, how)
    agree(run, *by_hand(problem, how, sgd))
    assert run.summary["steps"] == 7
    assert run.history.series("epoch").values.tolist() == [1.0, 1.0]


def test_steps_that_end_with_an_epoch_complete_it() -> None:
    run = fit(regression(), recipe(epochs=None, steps=8))
    assert run.history.series("epoch").values.tolist() == [1.0, 2.0]


def test_a_factory_with_groups_trains_with_its_groups() -> None:
    def grouped(params: Any) -> torch.optim.Optimizer:
        params = list(params)
        return torch.optim.Adam([{"params": params[:2], "lr": 0.01}, {"params": params[2:], "lr": 0.002}])

    problem, how = regression(), ds.Recipe(optimizer=grouped, batch_size=16, epochs=3, precision="float64")
    agree(fit(problem, how), *by_hand(problem, how, grouped))

    def tenth(params: Any) -> torch.optim.Optimizer:
        optimizer = grouped(params)
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
        return optimizer

    agree(fit(problem, how.edit(lr=0.001)), *by_hand(problem, how, tenth))


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
        (torch.optim.AdamW, {"lr": 0.01}),
        (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9}),
        (torch.optim.RAdam, {"lr": 0.01}),
    ],
)
def test_a_recognised_factory_decays_everything_as_torch_does(
    optimizer: Any, settings: dict[str, Any]
) -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        return optimizer(params, **settings)

    problem, how = regression(), ds.Recipe(optimizer=make, batch_size=16, epochs=3, precision="float64")
    assert not how.opaque
    agree(fit(problem, how), *by_hand(problem, how, make))


def test_a_named_optimizer_spares_biases_and_norms_from_decay() -> None:
    def make(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        weights, biases = [p for p in params if p.dim() > 1], [p for p in params if p.dim() < 2]
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.5)

    problem = regression(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)))
    how = ds.Recipe(
        optimizer="adamw", lr=0.01, weight_decay=0.5, batch_size=16, epochs=3, precision="float64"
    )
    agree(fit(problem, how), *by_hand(problem, how, make))


def test_a_schedule_with_warm_up_spans_the_run() -> None:
    problem, how = regression(), recipe(schedule="cosine", warmup=4, epochs=5)
    total = 5 * math.ceil(50 / 16)

    def factor(step: int) -> float:
        return (step + 1) / 4 if step < 4 else (1 + math.cos(math.pi * (step - 4) / (total - 4))) / 2

    optimizers: list[torch.optim.Optimizer] = []

    def make(params: Any) -> torch.optim.Optimizer:
        optimizers.append(sgd(params))
        return optimizers[0]

    def set_rate(model: nn.Module, step: int) -> None:
        optimizers[0].param_groups[0]["lr"] = 0.05 * factor(step - 1)

    run = fit(problem, how)
    agree(run, *by_hand(problem, how, make, before_step=set_rate))
    rates = run.history.series("lr").values
    np.testing.assert_allclose(rates, [0.05 * factor(t) for t in range(total)], rtol=1e-12)
    assert rates[-1] < 0.05 * 0.05


def test_the_gradient_is_clipped_by_norm_then_by_value() -> None:
    problem, how = regression(), recipe(clip_norm=0.5, clip_value=0.2)

    def clip(model: nn.Module, step: int) -> None:
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None))
        for p in model.parameters():
            assert p.grad is not None
            p.grad = (p.grad * min(1.0, 0.5 / (norm + 1e-6))).clamp(-0.2, 0.2)

    agree(fit(problem, how), *by_hand(problem, how, sgd, before_step=clip))


def test_the_average_of_the_weights_is_what_is_validated_and_handed_out() -> None:
    problem, how = regression(valid=None), recipe(average="ema")
    averages: list[nn.Module] = []
    taken: list[int] = []

    def average(model: nn.Module) -> None:
        if not averages:
            averages.append(copy.deepcopy(model))
            return
        taken.append(1)
        decay = min(0.999, (1 + len(taken)) / (10 + len(taken)))
        for kept, p in zip(averages[0].parameters(), model.parameters(), strict=True):
            kept.data = decay * kept.data + (1 - decay) * p.data

    run = fit(problem, how)
    _, losses = by_hand(problem, how, sgd, after_step=average)
    agree(run, averages[0], losses)
    x, y = data()
    with torch.no_grad():
        loss = float(((averages[0].eval()(x) - y) ** 2).mean())
    assert run.summary["train_loss"] == pytest.approx(loss, rel=1e-9)


def test_a_constraint_is_imposed_after_every_step() -> None:
    def project(model: nn.Module) -> None:
        for p in model.parameters():
            p.clamp_(-0.3, 0.3)

    def by_data(model: nn.Module) -> None:
        for p in model.parameters():
            p.data.clamp_(-0.3, 0.3)

    problem, how = regression(constraint=project), recipe()
    run = fit(problem, how)
    agree(run, *by_hand(problem, how, sgd, after_step=by_data))
    assert max(float(p.detach().abs().max()) for p in run.model("last").parameters()) <= 0.3


def test_maximising_climbs_and_reports_what_the_user_wrote() -> None:
    def negative(output: Any, target: Any) -> Any:
        return -((output - target) ** 2).mean()

    problem = regression(objective=negative, maximize=True, metric=None)
    run = fit(problem, recipe())
    _, losses = by_hand(regression(), recipe(), sgd)
    np.testing.assert_allclose(run.history.series("train_loss").values, [-each for each in losses], **EXACT)
    values = run.history.series("valid_loss")
    assert run.summary["best_step"] == values.steps[np.argmax(values.values)]
    assert run.summary["valid_loss"] == pytest.approx(values.values.max(), rel=1e-12)


def test_single_precision_is_what_a_double_model_becomes_when_asked() -> None:
    problem = regression(model=lambda: nn.Linear(4, 1).double())
    assert fit(problem, recipe(precision="auto")).choices["precision"] == "float64"
    run = fit(problem, recipe(precision="float32"))
    assert run.weights["last"]["weight"].dtype == torch.float32


def test_double_precision_is_kept_in_the_model_handed_out() -> None:
    run = fit(regression(), recipe())
    assert all(p.dtype == torch.float64 for p in run.model().parameters())


def test_named_terms_are_added_and_logged_at_every_step() -> None:
    def terms(output: Any, target: Any, inputs: Any) -> dict[str, Any]:
        return {
            "error": ((output - target) ** 2).mean(),
            "size": 0.1 * (inputs**2).mean() * (output**2).mean(),
        }

    def total(model: nn.Module, x: Any, y: Any) -> Any:
        return sum(terms(model(x), y, x).values())

    problem, how = regression(objective=terms), recipe()
    run = fit(problem, how, observe=0.0)
    agree(run, *by_hand(problem, how, sgd, loss_of=total))
    parts = run.history.series("train_error").values + run.history.series("train_size").values
    np.testing.assert_allclose(parts, run.history.series("train_loss").values, rtol=1e-12)
