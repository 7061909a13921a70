"""Probes: every statistic against a calculation by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.training import choices
from downslope.training.choices import ProbeTimes
from downslope.training.probes import Observer
from downslope.training.state import StepState
from tests.training.problems import data, regression

HOW = ds.Recipe(
    optimizer="sgd", lr=0.1, momentum=0.9, batch_size=25, epochs=3, precision="float64", clip_norm=0.1
)


@pytest.fixture(autouse=True)
def at_one_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which steps are probed hangs on what a probe costs, which a busy machine measures too high."""
    monkeypatch.setattr("downslope.training.ready.probe_price", lambda *_: 0.5)


def fit(model: Any, recipe: ds.Recipe = HOW, **changes: Any) -> ds.Run:
    return ds.fit(
        regression(model=model, metric=None, valid=None, **changes),
        recipe,
        folder=False,
        progress=False,
        observe=0.9,
    )


def value(run: ds.Run, statistic: str, module: str, step: int = 1) -> float:
    probe = run.probes[statistic]
    return float(probe.of(module)[probe.steps.tolist().index(step)])


def batch_of(run: ds.Run, step: int) -> tuple[Tensor, Tensor]:
    from downslope.core import randomness

    x, y = data()
    index = randomness.permutation(50, 0, (step - 1) // 2)[25 * ((step - 1) % 2) :][:25]
    return x[index], y[index]


def test_gradient_weight_and_update_are_measured_as_by_hand() -> None:
    run = fit(lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    model = (
        regression(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).build(0).double()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    norm = torch.linalg.vector_norm
    for step in (1, 2, 3):
        x, y = batch_of(run, step)
        optimizer.zero_grad()
        functional.mse_loss(model(x), y).backward()
        grads = {n: norm(torch.cat([p.grad.flatten() for p in model[n].parameters()])) for n in (0, 2)}
        before = {n: torch.cat([p.detach().clone().flatten() for p in model[n].parameters()]) for n in (0, 2)}
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        for n in (0, 2):
            after = torch.cat([p.detach().flatten() for p in model[n].parameters()])
            assert value(run, "grad_norm", str(n), step) == pytest.approx(float(grads[n]), rel=1e-5)
            assert value(run, "weight_norm", str(n), step) == pytest.approx(float(norm(before[n])), rel=1e-5)
            ratio = float(norm(after - before[n]) / norm(before[n]))
            assert value(run, "update_ratio", str(n), step) == pytest.approx(ratio, rel=1e-4)
        whole = float(torch.sqrt(grads[0] ** 2 + grads[2] ** 2))
        series = run.history.series("grad_norm")
        assert series.values[series.steps.tolist().index(step)] == pytest.approx(whole, rel=1e-5)


class Functional(nn.Module):
    """Activations as modules, as functions and as methods."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b, self.c = (
            nn.Conv2d(1, 3, 2),
            nn.Linear(3, 6),
            nn.Linear(6, 5),
            nn.Linear(5, 1),
        )
        self.act = nn.ReLU()
        self.seen: dict[str, Tensor] = {}
        nn.init.constant_(self.conv.bias, -0.1)
        self.conv.bias.data[1] = -100.0  # a dead channel
        self.a.bias.data[0] = -100.0  # a dead unit
        self.b.weight.data *= 20  # saturated

    def forward(self, x: Tensor) -> Tensor:
        z = functional.relu(self.conv(x.reshape(-1, 1, 2, 2)))
        h = self.act(self.a(z.flatten(1)))
        t = torch.tanh(self.b(h))
        g = self.c(t).sigmoid()
        if not self.seen:
            self.seen |= {"conv+relu": z, "act": h, "b+tanh": t, "c+sigmoid": g}
        return g


def test_activations_are_found_and_measured_wherever_they_are_called() -> None:
    models: list[Functional] = []

    def make() -> nn.Module:
        models.append(Functional())
        return models[-1]

    run = fit(make)
    activations = run.facts["activations"]
    assert {name: each["kind"] for name, each in activations.items()} == {
        "conv+relu": "relu", "act": "relu", "b+tanh": "tanh", "c+sigmoid": "sigmoid",
    }  # fmt: skip
    assert activations["act"]["after"] == "a"
    seen = {name: each.detach() for name, each in models[0].seen.items()}  # of the trial, the batch of step 1
    for name in ("conv+relu", "act"):
        out = seen[name]
        assert value(run, "zero_fraction", name) == pytest.approx(float((out == 0).double().mean()), abs=1e-6)
        units = out.movedim(1, -1).reshape(-1, out.shape[1])
        dead = float((units == 0).all(0).double().mean())
        assert dead > 0
        assert value(run, "dead_fraction", name) == pytest.approx(dead, abs=1e-6)
        assert value(run, "act_mean", name) == pytest.approx(float(out.mean()), rel=1e-5)
        assert value(run, "act_std", name) == pytest.approx(float(out.std(correction=0)), rel=1e-4)
    saturated = float((seen["b+tanh"].abs() > 0.98).double().mean())
    assert value(run, "saturated_fraction", "b+tanh") == pytest.approx(saturated, abs=1e-6)
    ends = float(((seen["c+sigmoid"] > 0.99) | (seen["c+sigmoid"] < 0.01)).double().mean())
    assert value(run, "saturated_fraction", "c+sigmoid") == pytest.approx(ends, abs=1e-6)
    assert [*run.facts["modules"]] == ["conv", "a", "b", "c"]
    assert run.facts["modules"]["conv"]["parameters"] == 3 * 4 + 3


def test_the_unit_of_a_one_dimensional_convolution_is_its_channel() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv1d(1, 5, 2), nn.ReLU(), nn.Linear(15, 1)
            self.conv.bias.data[:2] = -100.0

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.conv(x[:, None])).flatten(1))

    assert value(fit(Line), "dead_fraction", "act") == pytest.approx(0.4)


def test_outputs_of_layers_have_mean_and_deviation() -> None:
    run = fit(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
    x, _ = batch_of(run, 1)
    out = regression(model=lambda: nn.Linear(4, 8)).build(0).double()(x).detach()
    assert value(run, "out_mean", "0") == pytest.approx(float(out.mean()), rel=1e-4)
    assert value(run, "out_std", "0") == pytest.approx(float(out.std(correction=0)), rel=1e-4)


def test_names_are_those_of_the_users_model_behind_an_edit() -> None:
    problem = regression(metric=None).edit(ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets())
    run = ds.fit(problem, HOW, folder=False, progress=False, observe=0.9)
    assert run.probes["grad_norm"].modules == ("0", "3")


def test_hooks_are_gone_between_probed_steps() -> None:
    counts: list[int] = []

    def hooks(state: StepState) -> None:
        counts.append(sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in state.model.modules()))

    ds.fit(
        regression(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))), HOW,
        folder=False, progress=False, observe=0.9, on_probe=hooks,
    )  # fmt: skip
    assert set(counts) == {0}


def test_history_and_probes_agree_on_the_steps() -> None:
    run = fit(lambda: nn.Linear(4, 1), HOW.edit(epochs=20))
    steps = run.history.series("grad_norm").steps.tolist()
    assert run.probes["grad_norm"].steps.tolist() == steps
    np.testing.assert_allclose(run.probes["grad_norm"].of("model"), run.history.series("grad_norm").values)
    assert run.history.series("train_loss").steps.tolist() == list(range(1, 41))


@given(price=st.floats(0.05, 50), share=st.floats(0.001, 0.9), length=st.integers(1, 3000))
def test_probes_stay_within_their_share_of_the_time(price: float, share: float, length: int) -> None:
    times = ProbeTimes(price, share)
    taken = [step for step in range(1, length + 1) if times.due(step)]
    assert taken[0] == 1
    for count, step in enumerate(taken, start=1):
        assert max(count - times.free, 0) * price <= share * step + 1e-9


def test_a_short_run_is_seen_from_its_first_step_to_its_last() -> None:
    dear = ProbeTimes(50.0, 0.001, free=1, total=243)
    assert [step for step in range(1, 244) if dear.due(step)] == [1, 3, 9, 27, 81, 243]
    short = ProbeTimes(50.0, 0.001, total=4)
    assert [step for step in range(1, 5) if short.due(step)] == [1, 2, 3, 4]


def test_no_share_is_no_probe() -> None:
    times = ProbeTimes(1.0, 0.0)
    assert not any(times.due(step) for step in range(1, 100))


def test_a_measurement_is_made_once_and_survives_a_broken_cache(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path))
    calls: list[int] = []

    def measure() -> float:
        calls.append(1)
        return 0.5

    assert choices.remembered("tests/a", measure) == 0.5
    choices._memory.pop("tests/a")
    assert choices.remembered("tests/a", measure) == 0.5
    assert len(calls) == 1
    (tmp_path / "choices.json").write_text("[broken", encoding="utf-8")
    choices._memory.pop("tests/a")
    assert choices.remembered("tests/a", measure) == 0.5
    assert len(calls) == 2
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "choices.json" / "no folder"))
    assert choices.remembered("tests/b", measure) == 0.5


def test_units_that_are_no_numbers_are_neither_dead_nor_zero() -> None:
    x = torch.randn(40, 4)
    x[:, 2] = math.nan
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    observer = Observer(model)
    observer.attach()
    model(x)
    observer.detach()
    observer.updates()
    for statistic in ("dead_fraction", "zero_fraction"):
        assert math.isnan(observer.values[statistic]["1"])
