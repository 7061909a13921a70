"""Methods that look into the model, wired into `fit`: models, data and objectives of all kinds, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ObjectiveError
from tests.training.test_resume import Stop, resume, same_history, same_state

NAMES = ["gauss_newton", "levenberg_marquardt", "hessian_free", "natural_gradient", "kfac"]


def data(n: int = 48) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 5, 5, generator=draw)
    return x, (x.mean((1, 2, 3)) > 0).long() + (x[:, 0, 0, 0] > 1).long()


def cnn(p: float = 0.2) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(p),
        nn.Linear(8, 3),
    )


def problem(**more: Any) -> ds.Problem:
    return ds.Problem(**({"model": cnn, "objective": "cross_entropy", "train": data()} | more))


def fit(given: ds.Problem, name: str, **more: Any) -> ds.Run:
    settings = {"steps": 6, "precision": "float64"} | more
    return ds.fit(given, ds.Recipe(optimizer=name, **settings), folder=False, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_convolutional_network_with_norms_is_trained_by_its_name(name: str) -> None:
    run = fit(problem(model=lambda: cnn(0.0)), name.replace("_", "-"), steps=10)
    losses = run.history.series("train_loss").values
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", ["full", 16])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path: Path, name: str, batch: Any) -> None:
    more: dict[str, Any] = {"share": 0.5, "max_cg": 10} if name == "hessian_free" else {}
    recipe = ds.Recipe(optimizer=name, steps=5, precision="float64", batch_size=batch, **more)
    whole = ds.fit(problem(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    part = ds.fit(problem(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=Stop(2))
    assert part.status == "interrupted"
    again = resume(tmp_path / "part", problem(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_streams_penalties_frozen_weights_and_pieces_of_a_batch_all_go_down(name: str) -> None:
    x, y = data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=48)

    def frozen() -> nn.Module:
        model = cnn(0.0)
        model[0].weight.requires_grad_(False)
        return model

    given = problem(model=frozen, train=loader, objective=ds.objectives.penalised("cross_entropy", l2=1e-3))
    start = given.build(0)[0].weight
    run = fit(given, name, accumulate=2, precision="float32")
    losses = run.history.series("train_loss").values
    assert losses[-2:].mean() < losses[:2].mean()
    assert torch.equal(run.model("last")[0].weight, start)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_climbed_goes_up_or_is_refused_in_a_line(name: str) -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    given = ds.Problem(
        model=lambda: nn.Linear(3, 1),
        objective=lambda out, y: -(out - y).square().mean(),
        train=(x, x.sum(1, keepdim=True)),
        maximize=True,
    )
    if name in ("natural_gradient", "kfac"):
        with pytest.raises(InputError, match="empirical"):
            fit(given, name)
        run = fit(given, name, fisher="empirical", damping=0.1, lr=0.05)
    else:
        run = fit(given, name)
    losses = run.history.series("train_loss").values
    assert losses[-1] > losses[0]


def test_several_outputs_and_dict_inputs_have_their_curvature() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = torch.tanh(self.trunk(x))
            return {"kind": self.one(h), "size": self.other(h)}

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=draw)
    target = {"kind": (x[:, 0] > 0).long(), "size": x[:, 1:2] * 2}
    given = ds.Problem(
        model=Two,
        objective=ds.objectives.composite({"kind": "cross_entropy", "size": "squared_error"}),
        train={"x": x, "labels": target},
    )
    for name in NAMES:
        losses = fit(given, name, steps=8).history.series("train_loss").values
        assert losses[-1] < 0.6 * losses[0], name


def test_an_objective_without_a_likelihood_says_what_is_allowed() -> None:
    given = problem(objective=lambda out, y: (out[:, 0] - y).abs().mean())
    with pytest.raises(ObjectiveError, match="allowed are squared_error"):
        fit(given, "kfac")
    run = fit(given, "gauss_newton", damping=0.1)
    assert np.isfinite(run.history.series("train_loss").values).all()


def test_a_batch_is_judged_by_as_many_as_the_factors_are_a_mean_of(caplog: pytest.LogCaptureFixture) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=draw)
    given = ds.Problem(
        model=lambda: nn.Linear(6, 3), objective="cross_entropy", train=(x, x[:, :3].argmax(1))
    )
    with caplog.at_level("WARNING", logger="downslope"):
        for size, decay, told in ((16, 0.0, "halves"), (16, 0.8, None), (2, 0.8, "in the mean of 5 batches")):
            caplog.clear()
            run = fit(given, "kfac", batch_size=size, factor_decay=decay, steps=10)
            assert told is None or told in caplog.text
            assert ("halves" in run.facts) is (told is not None)
