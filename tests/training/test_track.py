"""The ground under a run: the same training bits, rows within the share, and the edge of stability."""

from __future__ import annotations

import json
import logging
import math
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.cli.main import main
from downslope.core.errors import InputError
from downslope.reporting import ground
from downslope.training import checkpoint, choices, track
from downslope.training.fit import resume
from downslope.training.track import BESIDE
from tests.terrain.test_stability import dense_in_training
from tests.training.problems import after_steps, same_history, same_state

ROWS = (
    "sharpness",
    "sharpness_residual",
    "stable_limit",
    "stability_ratio",
    "noise_scale",
    "terrain_products",
)


PRICE = 0.2


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that cost a fifth of a step a product, so that what is measured hangs on no clock."""

    def price(key: str, measure: Any) -> Any:
        return PRICE if key.startswith("terrain/") else measure()

    monkeypatch.setattr(choices, "remembered", price)


class Net(nn.Module):
    """Everything that a look could disturb: dropout, batch norm, and a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)
        )
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.body(x + 0.01 * torch.randn_like(x) * self.training)


def data(n: int = 96) -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=draw)
    return TensorDataset(x, (x @ torch.randn(4, 3, generator=draw)).argmax(1))


def problem(loader: bool = False) -> ds.Problem:
    train: Any = data().tensors
    if loader:
        train = DataLoader(data(), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(3))
    return ds.Problem(model=Net, objective="cross_entropy", train=train, valid=data(32).tensors)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("loader", [False, True], ids=["in memory", "loader"])
def test_training_takes_the_same_bits_with_and_without(optimizer: str, loader: bool) -> None:
    how = ds.Recipe(optimizer=optimizer, lr=0.05, batch_size=16, epochs=4, weight_decay=0.01)
    plain = ds.fit(problem(loader), how, folder=False, progress=False)
    seen = ds.fit(problem(loader), how, folder=False, progress=False, terrain=0.5)
    assert len(seen.history.series("sharpness").steps) > 4
    assert same_state(plain.state("last"), seen.state("last"))
    for name in ("train_loss", "valid_loss"):
        assert plain.history[name][~np.isnan(plain.history[name])].tolist() == (
            seen.history[name][~np.isnan(seen.history[name])].tolist()
        )


@pytest.mark.usefixtures("cheap")
def test_the_limit_at_the_start_is_that_of_the_first_step_of_a_warm_up() -> None:
    how = ds.Recipe(
        optimizer="sgd", lr=0.1, batch_size=16, epochs=4, warmup=8, schedule="cosine", layer_decay=0.5
    )
    plain = ds.fit(problem(), how, folder=False, progress=False, observe=0.0)
    run = ds.fit(problem(), how, folder=False, progress=False, observe=0.0, terrain=0.5)
    first = float(plain.history.series("lr").values[0])
    assert first < 0.1
    assert run.history["stable_limit"][0] == pytest.approx(2 / (0.5 * first))  # of the group that holds most
    for name in [each for each in plain.history if each.startswith("lr")]:
        assert run.history.series(name).values.tolist() == plain.history.series(name).values.tolist()


class Fading:
    """An objective with a state: every call counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(output, target) * (1 + 1 / self.calls)


@pytest.mark.usefixtures("cheap")
def test_an_objective_with_a_state_is_left_alone() -> None:
    how = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=3)
    runs = [
        ds.fit(
            ds.Problem(model=Net, objective=Fading(), train=data().tensors), how,
            folder=False, progress=False, observe=0.0, terrain=share,
        )
        for share in (0.0, 0.5)
    ]  # fmt: skip
    assert len(runs[1].history.series("sharpness").steps) > 2
    assert same_state(runs[0].state("last"), runs[1].state("last"))


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_the_cost_stays_under_the_share_and_both_ends_are_measured(share: float) -> None:
    how = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=20)
    run = ds.fit(problem(), how, folder=False, progress=False, terrain=share)
    products = run.history.series("terrain_products")
    assert products.steps[0] == 0
    assert products.steps[-1] == 120
    spent = PRICE * (products.values + BESIDE).sum()
    assert spent / (spent + 120) <= share
    # And what it allows is used, down to one measurement more.
    more = spent + 3 * PRICE * (products.values.max() + BESIDE)
    assert more / (more + 120) > min(share, 0.4)
    assert run.facts["terrain"]["examples"] == 96


def test_a_run_too_short_for_its_share_is_measured_at_both_ends_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choices, "remembered", lambda key, measure: 40.0 if "terrain" in key else measure())
    how = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=4)
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem(), how, folder=False, progress=False, terrain=0.01)
    assert run.history.series("sharpness").steps.tolist() == [0, 24]
    assert "only its start and end are measured" in caplog.text
    assert "own scale" not in caplog.text
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(problem(), how.edit(optimizer="adam"), folder=False, progress=False, terrain=0.01)
    assert run.history.series("hessian_sharpness").steps.tolist() == [0]
    assert run.history.series("sharpness").steps.tolist() == [24]
    assert "the sharpness in its own scale at the end only" in caplog.text


@pytest.mark.parametrize("given", [{"terrain": "x"}, {"observe": True}, {"seconds": "1m"}, {"terrain": 1}])
def test_a_share_that_is_none_is_refused_in_one_line(given: dict[str, Any]) -> None:
    key, value = next(iter(given.items()))
    with pytest.raises(InputError, match=re.escape(f"{key}={value!r}: must lie in")):
        ds.fit(problem(), ds.Recipe(steps=1), folder=False, progress=False, **given)


@pytest.mark.usefixtures("cheap")
def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    how = ds.Recipe(optimizer="adam", lr=0.02, batch_size=16, epochs=6)
    whole = ds.fit(problem(), how, folder=False, progress=False, observe=0.0, terrain=0.3)
    monkeypatch.setattr(checkpoint.SaveTimes, "due", lambda _: True)
    taken: list[int] = []

    def press(model: Any) -> None:
        taken.append(1)
        if len(taken) == 23:
            signal.raise_signal(signal.SIGINT)

    with after_steps(press):
        ds.fit(problem(), how, folder=tmp_path / "r", progress=False, observe=0.0, terrain=0.3)
    again = resume(tmp_path / "r", problem(), progress=False)
    assert again.status == "done"
    assert same_history(again, whole)
    kept = ds.load_run(tmp_path / "r")
    for name in ROWS:
        assert kept.history.series(name).values.tolist() == whole.history.series(name).values.tolist()


@pytest.mark.usefixtures("cheap")
def test_sharpness_is_that_of_the_dense_hessian_on_the_sample() -> None:
    how = ds.Recipe(optimizer="gd", lr=0.1, batch_size="full", epochs=3)
    x, y = torch.randn(40, 3, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)
    given = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(),
        objective="mse",
        train=(x, y),
    )
    run = ds.fit(given, how, folder=False, progress=False, terrain=0.5)
    model = run.model("last")
    names, params = zip(*model.named_parameters(), strict=True)

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([p.numel() for p in params])
        shaped = {name: part.reshape(p.shape) for name, part, p in zip(names, parts, params, strict=True)}
        return nn.functional.mse_loss(torch.func.functional_call(model, shaped, (x,)), y)

    theta = torch.cat([p.detach().reshape(-1) for p in params])
    top = float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta))[-1])
    assert run.history["sharpness"][-1] == pytest.approx(top, rel=1e-2)
    assert run.history["stable_limit"][-1] == pytest.approx(20)
    assert run.history["stability_ratio"][-1] == pytest.approx(top / 20, rel=1e-2)


def test_full_batch_descent_sharpens_to_two_over_the_rate_and_stays_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cohen et al. 2021, figure 1: progressive sharpening, then the edge of stability."""
    monkeypatch.setattr(choices, "remembered", lambda key, measure: 0.5 if "terrain" in key else measure())
    x, y = load_digits(return_X_y=True)
    given = ds.Problem(
        model=lambda: nn.Sequential(
            nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
        ),
        objective="mse",
        train=(
            torch.tensor(x[:200], dtype=torch.float32) / 16 - 0.3,
            nn.functional.one_hot(torch.tensor(y[:200])).float(),
        ),
    )
    how = ds.Recipe(optimizer="gd", lr=1.0, batch_size="full", epochs=700)
    run = ds.fit(given, how, folder=False, progress=False, observe=0.0, terrain=0.2)
    ratio = run.history.series("stability_ratio")
    early, late = ratio.values[ratio.steps < 200], ratio.values[ratio.steps > 400]
    assert ratio.values[0] < 0.6
    assert (np.diff(early) > 0).all()
    assert len(late) > 4
    assert late.min() > 0.9
    assert late.max() < 1.25
    assert late.mean() == pytest.approx(1.02, abs=0.06)
    # Its loss goes on falling all the same.
    loss = run.history.series("train_loss").values
    assert loss[-100:].min() < 0.95 * loss[250:350].min()


@pytest.mark.usefixtures("cheap")
def test_an_adaptive_method_has_a_sharpness_of_its_own_once_it_has_a_scale() -> None:
    how = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=2)
    run = ds.fit(problem(), how, folder=False, progress=False, terrain=0.5)
    assert run.history.series("hessian_sharpness").steps.tolist() == [0]
    assert run.history.series("sharpness").steps[0] > 0
    assert run.history.series("stable_limit").values == pytest.approx(3800)


@pytest.mark.usefixtures("cheap")
def test_a_run_is_measured_in_the_mode_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias before batch norm has no slope in training: frozen statistics would tell 1e4 times the truth."""
    x, y = data(48).tensors
    given = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)),
        objective="cross_entropy",
        train=(x, y),
    )
    how = ds.Recipe(optimizer="adam", lr=0.01, batch_size="full", steps=80)
    seen: list[tuple[torch.optim.Optimizer, nn.Module]] = []

    def stability(ground: Any, optimizer: Any, model: Any, **settings: Any) -> Any:
        seen.append((optimizer, model))
        return measured(ground, optimizer, model, **settings)

    measured = track.stability
    monkeypatch.setattr(track, "stability", stability)
    run = ds.fit(given, how, folder=False, progress=False, terrain=0.5)
    truth = dense_in_training(seen[-1][1], x, y, seen[-1][0], 80)
    assert run.history["sharpness"][-1] == pytest.approx(truth, rel=0.02)
    assert run.facts["terrain"]["notes"] == [
        "batch norm uses the statistics of the examples measured on, as in training"
    ]


@pytest.mark.usefixtures("cheap")
def test_what_moves_in_training_and_why_there_is_no_limit_is_told() -> None:
    """Net drops and draws noise of its own; Rprop steps by signs."""
    how = ds.Recipe(optimizer=torch.optim.Rprop, lr=0.01, epochs=1, batch_size=32)
    run = ds.fit(problem(), how, folder=False, progress=False, terrain=0.5)
    dropout, norm, signs = run.facts["terrain"]["notes"]
    assert dropout.startswith("dropout is held still, its masks drawn once (seed=0)")
    assert norm.startswith("batch norm uses the statistics of the examples")
    assert signs.startswith("Rprop steps by signs")


@pytest.mark.usefixtures("cheap")
def test_a_norm_that_is_frozen_in_training_is_measured_so_and_is_no_news() -> None:
    given = ds.Problem(
        model=lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)),
        objective="cross_entropy",
        train=data(48).tensors,
    )
    how = ds.Recipe(optimizer="sgd", lr=0.1, steps=2, groups=[{"params": ["0.*"], "train": False}])
    run = ds.fit(given, how, folder=False, progress=False, terrain=0.5)
    assert run.facts["terrain"]["notes"] == []


@pytest.mark.usefixtures("cheap")
def test_the_noise_scale_of_a_wide_model_is_the_same_from_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    how = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=32, epochs=3)
    held = ds.fit(problem(), how, folder=False, progress=False, terrain=0.5)
    monkeypatch.setattr(track, "WIDEST", 1)
    summed = ds.fit(problem(), how, folder=False, progress=False, terrain=0.5)
    scales = held.history.series("noise_scale")
    assert len(scales.steps)
    assert summed.history.series("noise_scale").values == pytest.approx(scales.values, rel=1e-4)
    assert not len(summed.history.series("noise_scale_error").steps)


def test_a_model_that_cannot_be_copied_is_told_and_trained(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no copies")

    given = ds.Problem(model=lambda: Stubborn(4, 3), objective="cross_entropy", train=data().tensors)
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(given, ds.Recipe(lr=0.1, epochs=1), folder=False, progress=False, terrain=0.5)
    assert run.status == "done"
    assert "no copies" in run.facts["terrain"]["failed"]
    assert "the ground is not measured from step 0 on: RuntimeError: no copies" in caplog.text


def test_a_run_that_diverges_keeps_what_was_measured() -> None:
    how = ds.Recipe(optimizer="gd", lr=1e4, batch_size="full", epochs=200)
    x = torch.randn(30, 2)
    given = ds.Problem(model=lambda: nn.Linear(2, 1), objective="mse", train=(x, x.sum(1, keepdim=True)))
    run = ds.fit(given, how, folder=False, progress=False, terrain=0.5)
    assert run.status == "diverged"
    assert run.history["stability_ratio"][0] > 1e3


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_outside_its_domain_is_told(share: float) -> None:
    with pytest.raises(InputError, match=r"terrain=.*must lie in"):
        ds.fit(problem(), folder=False, progress=False, terrain=share)


def test_the_command_line_has_it_in_text_json_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [
        "fit",
        "digits",
        "--set",
        "epochs=1",
        "--terrain",
        "0.5",
        "--folder",
        str(tmp_path / "r"),
        "--quiet",
    ]
    assert main([*told, "--json", "--report", str(tmp_path / "r.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["terrain"]["noise_scale"]["steps"][0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The ground under the run" in page
    assert "Gradient noise scale" in page
    run = ds.load_run(tmp_path / "r")
    assert ground.section(run) is not None
    assert "stable limit at the end" in ground.words(run)
    assert ground.section(ds.fit(problem(), ds.Recipe(epochs=1), folder=False, progress=False)) is None
