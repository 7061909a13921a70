"""`watch` leaves a loop's results as they are, sees what happens in it, and goes away without a trace."""

from __future__ import annotations

import gc
import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

import downslope as ds
from downslope.core.errors import InputError, ModelError
from downslope.diagnosis.monitor import Monitor

X = torch.randn(256, 10, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.linspace(-1, 1, 10)[:, None]).tanh()

cross_entropy = functional.cross_entropy
"""Imported by name, as many do: such a call cannot be heard."""

Make = Callable[[], nn.Module]
Optimizer = Callable[[Any], torch.optim.Optimizer]


def noisy_net() -> nn.Module:
    hidden = [nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 32), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(32, 1))


@pytest.fixture(autouse=True)
def _nobody_else_watches() -> None:
    gc.collect()


class Functional(nn.Module):
    """Two inputs, two outputs, activations and dropout called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 16), nn.Linear(10, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        h = functional.dropout(functional.relu(self.a(x) + self.b(z)), 0.2, self.training)
        return self.c(h), h


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.r = nn.LSTM(2, 12, num_layers=2, dropout=0.2, batch_first=True)
        self.o = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.r(x.reshape(len(x), 5, 2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.TransformerEncoder(nn.TransformerEncoderLayer(2, 2, 8, batch_first=True), 2)
        self.o = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.e(x.reshape(len(x), 5, 2)).mean(1))


def trained(
    make: Make, optimizer: Optimizer, *, watched: bool, steps: int = 40, before: bool = False, **given: Any
) -> tuple[dict[str, Tensor], Tensor, Monitor | None]:
    """Weights after a loop with an evaluation in it, a random number drawn after it, and the monitor."""
    torch.manual_seed(3)
    model = make()
    rule = optimizer(model.parameters())
    monitor = ds.watch(model, rule, **given) if watched else None
    for step in range(steps):
        at = torch.randint(256, (32,))
        inputs = (X[at], X[at]) if isinstance(model, Functional) else (X[at],)
        output = model(*inputs)
        loss = functional.mse_loss(output[0] if isinstance(output, tuple) else output, Y[at])
        rule.zero_grad()
        loss.backward()
        if before and monitor is not None:
            monitor.step(loss)
        rule.step()
        if not before and monitor is not None:
            monitor.step(loss)
        if step % 10 == 0:
            model.eval()
            with torch.no_grad():
                model(*((X, X) if isinstance(model, Functional) else (X,)))
            model.train()
            if monitor is not None:
                monitor.diagnose()
    return model.state_dict(), torch.rand(3), monitor


@pytest.mark.parametrize("make", [noisy_net, Functional, Recurrent, Attention])
@pytest.mark.parametrize("fused", [False, True])
def test_results_are_bit_identical_to_those_without_watching(make: Make, fused: bool) -> None:
    def adam(params: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, lr=1e-2, fused=fused)

    alone, drawn, _ = trained(make, adam, watched=False)
    watched, drawn_too, monitor = trained(make, adam, watched=True, objective="squared_error")
    assert monitor is not None
    assert all(torch.equal(alone[key], watched[key]) for key in alone)
    assert torch.equal(drawn, drawn_too)
    assert len(monitor.run.probes["grad_norm"].steps) >= 3
    assert len(monitor.run.probes["out_std"].steps) >= 3


def test_looking_at_data_from_a_loader_draws_nothing_from_the_users_generators() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=32, shuffle=True)
    model = noisy_net()
    monitor = ds.watch(model, torch.optim.SGD(model.parameters(), 0.1), "squared_error", loader)
    before, numbers = torch.get_rng_state(), random.getstate()
    run = monitor.run
    assert torch.equal(before, torch.get_rng_state())
    assert numbers == random.getstate()
    assert run.facts["features"]["features"] == 10
    assert run.facts["constant"]["loss"] == pytest.approx(float(Y.var(correction=0)), rel=0.02)


def sgd(lr: float) -> Optimizer:
    return lambda params: torch.optim.SGD(params, lr=lr, momentum=0.5)


def test_a_sound_loop_is_healthy_and_a_far_too_large_rate_is_named() -> None:
    _, _, sound = trained(
        noisy_net, sgd(0.02), watched=True, steps=150, objective="squared_error", data=(X, Y)
    )
    _, _, sick = trained(noisy_net, sgd(1e5), watched=True, steps=150, objective="squared_error", data=(X, Y))
    assert sound is not None
    assert sick is not None
    assert sound.diagnose().healthy
    found = sick.diagnose()
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert json.loads(found.to_json())["healthy"] is False


def test_the_run_holds_losses_rate_optimizer_and_probes_at_the_steps_they_belong_to() -> None:
    weights, _, monitor = trained(noisy_net, sgd(0.02), watched=True)
    assert monitor is not None
    run = monitor.run
    losses = run.history.series("train_loss")
    assert losses.steps.tolist() == list(range(1, 41))
    assert set(run.history.series("lr").values) == {0.02}
    rule = run.facts["optimizer"]
    assert (rule["name"], rule["lr"], rule["momentum"]) == ("momentum", 0.02, 0.5)
    assert list(run.facts["modules"]) == ["0", "1", "4", "6"]
    assert run.facts["activations"]["2"]["kind"] == "relu"
    assert run.facts["output"]["expects"] == "real"
    assert run.facts["start"]["loss"] == pytest.approx(float(losses.values[0]))
    assert all(math.isfinite(layer["grad_rms"]) for layer in run.facts["start"]["layers"])
    assert run.summary["steps"] == 40
    assert weights


def test_the_gradient_and_the_update_are_those_of_the_step() -> None:
    model = nn.Linear(10, 1)
    rule = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = ds.watch(model, rule)
    loss = functional.mse_loss(model(X), Y)
    loss.backward()
    grads = [p.grad.double() for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
    size = math.sqrt(sum(float(p.detach().double().square().sum()) for p in model.parameters()))
    rule.step()
    monitor.step(loss)
    probes = monitor.run.probes
    assert probes["grad_norm"].values[0, 0] == pytest.approx(norm, rel=1e-5)
    assert probes["update_ratio"].values[0, 0] == pytest.approx(0.5 * norm / size, rel=1e-5)
    assert monitor.run.history["grad_norm"][0] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("before", [False, True])
def test_a_loss_noted_before_or_after_the_step_belongs_to_the_same_step(before: bool) -> None:
    _, _, monitor = trained(noisy_net, sgd(0.02), watched=True, before=before, steps=5)
    assert monitor is not None
    assert monitor.run.history.series("train_loss").steps.tolist() == [1, 2, 3, 4, 5]


def test_losses_of_accumulated_gradients_are_averaged_within_a_step() -> None:
    model = noisy_net()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    monitor = ds.watch(model, rule)
    for _ in range(3):
        for part in (1.0, 2.0, 6.0):
            functional.mse_loss(model(X), Y).backward()
            monitor.step(torch.tensor(part))
        rule.step()
        rule.zero_grad()
    series = monitor.run.history.series("train_loss")
    assert series.steps.tolist() == [1, 2, 3]
    assert series.values.tolist() == [3.0, 3.0, 3.0]


def test_two_optimizers_of_one_model_count_as_one_step() -> None:
    model = noisy_net()
    parts = list(model.children())
    first = torch.optim.SGD(parts[0].parameters(), 0.01)
    rest = torch.optim.Adam([p for part in parts[1:] for p in part.parameters()], 0.01)
    monitor = ds.watch(model, [first, rest])
    for _ in range(4):
        loss = functional.mse_loss(model(X), Y)
        first.zero_grad()
        rest.zero_grad()
        loss.backward()
        first.step()
        rest.step()
        monitor.step(loss)
    run = monitor.run
    assert run.history.series("train_loss").steps.tolist() == [1, 2, 3, 4]
    assert (run.probes["update_ratio"].values > 0).all()


def test_a_closure_is_watched() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
    rule = torch.optim.LBFGS(model.parameters(), lr=0.5)
    monitor = ds.watch(model, rule)

    def closure() -> Tensor:
        rule.zero_grad()
        loss = functional.mse_loss(model(X), Y)
        loss.backward()
        return loss

    for _ in range(4):
        monitor.step(rule.step(closure))  # type: ignore[arg-type]
    run = monitor.run
    assert run.history.series("train_loss").steps.tolist() == [1, 2, 3, 4]
    assert {"grad_norm", "update_ratio", "out_std"} <= set(run.probes)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_under_a_scaler_are_told_in_their_own_units(fused: bool) -> None:
    def norms(scale: float) -> np.ndarray[Any, Any]:
        torch.manual_seed(0)
        model = nn.Linear(10, 1)
        rule = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
        monitor = ds.watch(model, rule)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1.0)
        for _ in range(3):
            rule.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.mse_loss(model(X).float(), Y)
            scaler.scale(loss).backward()
            scaler.step(rule)
            scaler.update()
            monitor.step(loss)
        return monitor.run.probes["grad_norm"].values

    assert norms(1024.0) == pytest.approx(norms(1.0), rel=1e-2)


def test_a_compiled_model_is_looked_into_without_compiling_again() -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    model = noisy_net()

    def go(watched: bool) -> tuple[dict[str, Tensor], int, Any]:
        dynamo.reset()
        dynamo.utils.counters.clear()
        torch.manual_seed(0)
        model = noisy_net()
        compiled = torch.compile(model, backend="eager")
        rule = torch.optim.SGD(model.parameters(), 0.05)
        monitor = ds.watch(compiled, rule) if watched else None  # type: ignore[arg-type]
        for _ in range(20):
            at = torch.randint(256, (32,))
            loss = functional.mse_loss(compiled(X[at]), Y[at])
            rule.zero_grad()
            loss.backward()
            rule.step()
            if monitor is not None:
                monitor.step(loss)
        return model.state_dict(), dynamo.utils.counters["stats"]["unique_graphs"], monitor

    alone, graphs, _ = go(False)
    watched, graphs_too, monitor = go(True)
    assert all(torch.equal(alone[key], watched[key]) for key in alone)
    assert graphs == graphs_too == 1
    assert {"out_std", "dead_fraction", "grad_norm"} <= set(monitor.run.probes)
    assert list(monitor.run.facts["modules"]) == ["0", "1", "4", "6"]
    assert model is not None


def test_forwards_in_eval_mode_or_without_gradients_are_not_looked_at() -> None:
    model = noisy_net()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    monitor = ds.watch(model, rule)
    model.eval()
    model(X * 1e3)
    model.train()
    with torch.no_grad():
        model(X * 1e3)
    loss = functional.mse_loss(model(X), Y)
    loss.backward()
    rule.step()
    monitor.step(loss)
    assert monitor.run.facts["start"]["layers"][0]["in_rms"] == pytest.approx(
        float(X.square().mean().sqrt()), rel=1e-4
    )


def test_hooks_exist_only_in_sampled_steps_and_none_after_close() -> None:
    model = noisy_net()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    hooked: list[bool] = []
    with ds.watch(model, rule) as monitor:
        for _ in range(12):
            hooked.append(bool(torch_module._global_forward_pre_hooks))
            loss = functional.mse_loss(model(X), Y)
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
            loss.backward()
            rule.step()
            monitor.step(loss)
    assert hooked[0]
    assert not all(hooked)
    assert not torch_module._global_forward_pre_hooks
    assert not rule._optimizer_step_pre_hooks
    assert not rule._optimizer_step_post_hooks
    taken = len(monitor.run.history["train_loss"])
    monitor.step(loss)
    assert len(monitor.run.history["train_loss"]) == taken


def test_a_parameter_that_was_asked_for_its_gradient_is_left_as_one_that_never_had_a_hook() -> None:
    model = nn.Linear(X.shape[1], Y.shape[1])
    rule = torch.optim.SGD(model.parameters(), 0.01)
    kept: list[bool] = []
    ours = model.bias.register_hook(lambda gradient: kept.append(True))
    asked = 0
    with ds.watch(model, rule) as monitor:
        for _ in range(60):
            loss = functional.mse_loss(model(X), Y)
            asked += bool(model.weight._backward_hooks or model.weight._post_accumulate_grad_hooks)
            rule.zero_grad()
            loss.backward()
            rule.step()
            monitor.step(loss)
    assert asked > 2
    assert model.weight._backward_hooks is None
    assert model.weight._post_accumulate_grad_hooks is None
    assert len(kept) == 60  # a hook of the user's stays
    ours.remove()


def test_a_monitor_that_nobody_keeps_leaves_nothing_behind() -> None:
    model = noisy_net()
    ds.watch(model, torch.optim.SGD(model.parameters(), 0.1))
    gc.collect()
    assert not torch_module._global_forward_pre_hooks


def test_a_model_that_raises_in_a_sampled_step_leaves_no_hook_behind() -> None:
    class Raises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(10, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.a(x)
            raise ValueError("of the model")

    model = Raises()
    monitor = ds.watch(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ValueError, match="of the model"):
        model(X)
    monitor.close()
    assert not any(m._forward_hooks for m in model.modules())
    assert not torch.overrides._get_current_function_mode_stack()


def test_what_was_not_given_is_not_checked_and_says_why() -> None:
    _, _, monitor = trained(noisy_net, sgd(0.02), watched=True, steps=5)
    assert monitor is not None
    reasons = monitor.run.facts["not_measured"]
    assert reasons["ending"] == "no validation loss was seen: call monitor.validate(loss)"
    assert "monitor.validate" in reasons["valid_loss"]


def test_nothing_seen_is_said_so() -> None:
    model = nn.Linear(3, 1)
    found = ds.watch(model, torch.optim.SGD(model.parameters(), 0.1)).diagnose()
    assert found.verdict == "No optimizer step was seen."
    assert found.not_checked


def test_the_first_non_finite_loss_is_named_with_the_module_that_broke() -> None:
    model = nn.Sequential(nn.Linear(10, 4), nn.Linear(4, 1))
    rule = torch.optim.SGD(model.parameters(), 0.1)
    monitor = ds.watch(model, rule)
    for step in range(4):
        if step == 2:
            with torch.no_grad():
                model[1].weight.fill_(math.nan)  # type: ignore[union-attr]
        loss = functional.mse_loss(model(X), Y)
        rule.zero_grad()
        loss.backward()
        monitor.step(loss)
        rule.step()
    run = monitor.run
    assert run.status == "diverged"
    assert run.facts["nonfinite"].items() >= {"step": 3, "what": "weight", "module": "1"}.items()


def test_validation_lands_at_the_step_it_was_made() -> None:
    _, _, monitor = trained(noisy_net, sgd(0.02), watched=True, steps=7)
    assert monitor is not None
    monitor.validate(0.5, metric=torch.tensor(0.75))
    series = monitor.run.history.series("valid_metric")
    assert (series.steps.tolist(), series.values.tolist()) == ([7], [0.75])


def test_wrong_arguments_are_refused_in_one_line() -> None:
    model = nn.Linear(3, 1)
    rule = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match=r"must be a torch\.optim\.Optimizer"):
        ds.watch(model, "sgd")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        ds.watch("model", rule)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="holds no parameter"):
        ds.watch(nn.Linear(3, 1), rule)
    with pytest.raises(InputError, match="must hold one number"):
        ds.watch(model, rule).step(torch.ones(3))


def inflated(lr: float, objective: Callable[[Tensor, Tensor], Tensor]) -> Monitor:
    """The README's loop, on a model whose first outputs are far too large."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    with torch.no_grad():
        model[2].weight.mul_(20)
    y = (X @ torch.randn(10, 4)).argmax(1)
    rule = torch.optim.Adam(model.parameters(), lr)
    monitor = ds.watch(model, rule)
    for _ in range(400):
        at = torch.randint(256, (32,))
        rule.zero_grad()
        loss = objective(model(X[at] if lr < 1 else torch.zeros(32, 10)), y[at])
        loss.backward()
        rule.step()
        monitor.step(loss)
    return monitor


@pytest.mark.parametrize("named", [True, False])
def test_an_inflated_first_loss_is_no_yardstick_where_that_of_a_guess_is_known(named: bool) -> None:
    def heard(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target)

    objective = cross_entropy if named else heard
    sound, sick = inflated(0.01, objective), inflated(1.0, objective)
    assert sound.diagnose().healthy
    guess = sick.run.facts["constant"]["loss"]
    assert guess == pytest.approx(math.log(4)) if named else 1.2 < guess < math.log(4)
    assert not sick.diagnose().healthy


def test_losses_are_heard_in_sampled_steps_only_and_put_back_whatever_happens() -> None:
    original = functional.mse_loss
    model, wrapped = noisy_net(), list[bool]()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    monitor = ds.watch(model, rule)

    def go(steps: int) -> None:
        for _ in range(steps):
            loss = functional.mse_loss(model(X), Y)
            wrapped.append(functional.mse_loss is not original)
            loss.backward()
            rule.step()
            monitor.step(loss)
        raise ValueError("of the loop")

    with pytest.raises(ValueError, match="of the loop"), monitor:
        go(12)
    assert wrapped[0]
    assert not all(wrapped)
    assert functional.mse_loss is original
    assert monitor.run.facts["constant"]["loss"] == pytest.approx(float(Y.var(correction=0)), rel=0.02)


def test_two_monitors_hear_side_by_side_and_forgotten_ones_leave_the_losses_alone() -> None:
    original = functional.mse_loss
    nets = [noisy_net(), noisy_net()]
    rules = [torch.optim.SGD(each.parameters(), 0.01) for each in nets]
    monitors = [ds.watch(*pair) for pair in zip(nets, rules, strict=True)]
    for _ in range(3):
        for model, rule, monitor in zip(nets, rules, monitors, strict=True):
            loss = functional.mse_loss(model(X), Y)
            loss.backward()
            rule.step()
            monitor.step(loss)
    assert all(each.run.facts["output"]["objective"] == "mse_loss" for each in monitors)
    monitors[0].close()
    ds.watch(noisy_net_with := noisy_net(), torch.optim.SGD(noisy_net_with.parameters(), 0.01))
    del monitors, monitor, rules, rule, nets, model
    gc.collect()
    assert functional.mse_loss is original


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of the compiler's own
def test_a_model_compiled_by_inductor_is_watched_to_the_last_bit() -> None:
    pytest.importorskip("torch._inductor")

    def go(watched: bool) -> tuple[list[Tensor], Monitor | None]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1))
        fast = torch.compile(model)
        rule = torch.optim.SGD(model.parameters(), 0.05)
        monitor = ds.watch(fast, rule) if watched else None  # type: ignore[arg-type]
        for _ in range(8):
            loss = functional.mse_loss(fast(X), Y)
            rule.zero_grad()
            loss.backward()
            rule.step()
            if monitor is not None:
                monitor.step(loss)
        return [p.detach().clone() for p in model.parameters()], monitor

    try:
        alone, _ = go(False)
    except Exception as error:  # noqa: BLE001 (no compiler on this machine)
        pytest.skip(f"inductor does not work here: {type(error).__name__}")
    seen, monitor = go(True)
    assert all(torch.equal(a, b) for a, b in zip(alone, seen, strict=True))
    assert monitor is not None
    assert {"out_std", "grad_norm"} <= set(monitor.run.probes)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of dynamo's own
def test_a_compiled_objective_is_left_alone_once_it_is_compiled() -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    original, heard = functional.mse_loss, list[bool]()
    before = dynamo.utils.counters["stats"]["unique_graphs"]

    @torch.compile(backend="eager")
    def objective(output: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(output, target)

    model = noisy_net()
    rule = torch.optim.SGD(model.parameters(), 0.01)
    with ds.watch(model, rule) as monitor:
        for _ in range(60):
            loss = objective(model(X), Y)
            heard.append(functional.mse_loss is not original)
            rule.zero_grad()
            loss.backward()
            rule.step()
            monitor.step(loss)
    assert heard == [True] + [False] * 59
    assert dynamo.utils.counters["stats"]["unique_graphs"] - before <= 2


def test_a_loop_that_hands_over_no_loss_is_not_called_healthy() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    rule = torch.optim.SGD(model.parameters(), 0.1)
    with ds.watch(model, rule) as monitor:
        for _ in range(50):
            rule.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            rule.step()
        found = monitor.diagnose()
    assert not found.healthy
    assert "NO LOSS in 50 steps: hand it over by monitor.step(loss)" in found.verdict
    assert "Healthy" not in str(found)
    assert "no loss was handed over" in str(found).lower()
