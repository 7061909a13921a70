"""Methods that look more than once, wired into `fit`: one function a step, counted, resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.methods import LBFGS
from tests.training.test_resume import Stop, resume, same_history, same_state


def data(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=draw, dtype=torch.float64)
    return x, (x @ torch.randn(4, 1, generator=draw, dtype=torch.float64)).tanh()


def net(p: float = 0.0, norm: bool = False) -> nn.Module:
    middle = [nn.BatchNorm1d(6)] if norm else []
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Dropout(p), nn.Linear(6, 1))


def problem(p: float = 0.0, norm: bool = False, **more: Any) -> ds.Problem:
    return ds.Problem(model=lambda: net(p, norm), objective="squared_error", train=data(), **more)


def fit(recipe: ds.Recipe, *, given: ds.Problem | None = None, **more: Any) -> ds.Run:
    return ds.fit(given or problem(), recipe, **{"folder": False, "progress": False} | more)


NAMES = [
    "newton", "trust_region", "saddle_free_newton", "newton_cg", "nonlinear_cg", "lbfgs",
    "coordinate_descent", "block_coordinate_descent",
]  # fmt: skip
FEW: dict[str, Any] = {"coordinate_descent": {"per_step": 8}}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_trains_on_the_whole_set_and_counts_what_it_took(name: str) -> None:
    recipe = ds.Recipe(optimizer=name, steps=12, precision="float64", **FEW.get(name, {}))
    assert recipe.batch_size == "full"
    run = fit(recipe)
    losses = run.history["train_loss"]
    assert losses[-1] < 0.5 * run.history["train_loss"][~np.isnan(losses)][0]
    assert (np.diff(run.history["evaluations"][1:]) >= 0).all()
    assert run.history["evaluations"][-1] >= 12


def test_the_last_look_of_a_step_is_the_first_of_the_next() -> None:
    """One evaluation at the start, and those of the line searches: as many as without `fit`."""
    run = fit(ds.Recipe(optimizer="lbfgs", steps=10, precision="float64"))
    from downslope.terrain.ground import Ground

    model = problem().build(0).double()
    method = LBFGS(model.parameters())
    x, y = data()
    ground = Ground([(lambda: nn.functional.mse_loss(model(x), y), 1.0)], list(model.parameters()))
    for _ in range(10):
        method.step(ground)
    assert run.history["evaluations"][-1] == method.evaluations
    np.testing.assert_allclose(
        run.model("last")[0].weight.detach().numpy(), model[0].weight.detach().numpy(), rtol=1e-8
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "plain") for name in NAMES]
    + [("lbfgs", kind) for kind in ("dropout", "batch norm", "mini-batches")]
    + [("trust_region", "mini-batches"), ("nonlinear_cg", "dropout")],
)
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path: Path, name: str, kind: str) -> None:
    more: dict[str, Any] = ({"batch_size": 20} if kind == "mini-batches" else {}) | FEW.get(name, {})
    recipe = ds.Recipe(optimizer=name, steps=6, precision="float64", **more)

    def make() -> ds.Problem:
        return problem(0.3 if kind == "dropout" else 0.0, kind == "batch norm")

    whole = ds.fit(make(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    stop = Stop(3)
    part = ds.fit(make(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=stop)
    assert part.status == "interrupted"
    again = resume(tmp_path / "part", make(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())


def test_every_look_of_a_step_draws_the_same_dropout_masks() -> None:
    """A search on another mask at each look would climb: with one mask each step lowers its own loss."""
    run = fit(ds.Recipe(optimizer="lbfgs", steps=15, precision="float64"), given=problem(0.5))
    assert run.status == "done"
    assert "method" not in run.facts


def test_running_statistics_move_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("downslope.training.average.measure_norms", lambda *_: None)
    run = fit(ds.Recipe(optimizer="lbfgs", steps=7, precision="float64"), given=problem(norm=True))
    assert run.history["evaluations"][-1] > 8
    assert int(run.model("last")[1].num_batches_tracked) == 7


@pytest.mark.parametrize("name", ["newton", "lbfgs", "newton_cg"])
def test_parts_of_a_batch_give_the_steps_of_the_whole(name: str) -> None:
    whole = fit(ds.Recipe(optimizer=name, steps=5, precision="float64"))
    parts = fit(ds.Recipe(optimizer=name, steps=5, precision="float64", accumulate=7))
    np.testing.assert_allclose(parts.history["train_loss"], whole.history["train_loss"], rtol=1e-7)


def test_weight_decay_is_part_of_the_function_and_spares_biases() -> None:
    """The minimum of the mean squared error with l2/2 |w|^2, the bias free, by the normal equations."""
    x, y = data()
    own = ds.Problem(model=lambda: nn.Linear(4, 1), objective="squared_error", train=(x, y))
    run = fit(ds.Recipe(optimizer="newton", steps=5, precision="float64", weight_decay=0.3), given=own)
    rows = np.hstack([x.numpy(), np.ones((len(x), 1))])
    pull = np.diag([0.3, 0.3, 0.3, 0.3, 0.0])
    answer = np.linalg.solve(2 * rows.T @ rows / len(x) + pull, 2 * rows.T @ y.numpy() / len(x))
    np.testing.assert_allclose(run.model().weight.detach().numpy(), answer[:4].T, rtol=1e-9)
    np.testing.assert_allclose(run.model().bias.detach().numpy(), answer[4], rtol=1e-9)


def test_a_run_at_precision_ends_converged() -> None:
    x, y = data()
    own = ds.Problem(model=lambda: nn.Linear(4, 1), objective="squared_error", train=(x, y))
    run = fit(ds.Recipe(optimizer="newton", epochs=50, precision="float64"), given=own)
    assert run.status == "converged"
    assert run.summary["steps"] < 10
    assert "converged" in run.facts["method"][-1]["said"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"clip_value": 1.0}, "clip_value"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"unfreeze": 1}, "unfreeze"),
        ({"groups": [{"ndim": [1], "lr": 0.1}]}, "weight_decay only"),
    ],
)
def test_what_does_not_go_with_a_method_is_refused_in_one_line(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        fit(ds.Recipe(optimizer="lbfgs", steps=2, **keys))
    assert "\n" not in str(refused.value)


def test_a_constraint_is_refused() -> None:
    with pytest.raises(InputError, match="Bertsekas"):
        fit(ds.Recipe(optimizer="newton", steps=2), given=problem(constraint="non_negative"))


def test_frozen_parameters_stay_and_a_batch_size_leaves_the_rate() -> None:
    recipe = ds.Recipe(optimizer="lbfgs", steps=4, groups=[{"params": "0.*", "train": False}])
    run = fit(recipe)
    start = problem().build(0)
    assert torch.equal(run.model("last")[0].weight, start[0].weight)
    assert not torch.equal(run.model("last")[4 - 1].weight, start[3].weight)
    assert ds.Recipe(optimizer="lbfgs", batch_size=32).edit(batch_size=64).lr == 1.0


def test_a_rate_of_another_kind_does_not_come_along() -> None:
    adam = ds.Recipe(optimizer="adam", lr=1e-3)
    assert adam.edit(optimizer="newton").lr == 1.0
    assert adam.edit(optimizer="newton", lr=0.5).lr == 0.5
    assert ds.Recipe(optimizer="lbfgs", lr=0.5).edit(optimizer="adam").lr == 1e-3
    assert adam.edit(optimizer="sgd").lr == 1e-3


def test_a_batch_too_small_for_its_curvature_is_told_once_with_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = ds.Problem(model=net, objective="squared_error", train=(x, (x[:, :1] > 0).double()))
    run = fit(ds.Recipe(optimizer="lbfgs", steps=12, batch_size=6, precision="float64"), given=own)
    told = [each.message for each in caplog.records if "two halves" in each.message]
    assert len(told) == 1
    assert told[0].startswith("lbfgs on batches of 6: the curvature of two halves differs by")
    assert f"batch_size={run.facts['halves']['needed']} or more" in told[0]
    assert run.facts["halves"]["curvature"] > 0.5


def test_a_batch_that_is_large_enough_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = ds.Problem(model=lambda: nn.Linear(4, 1), objective="squared_error", train=(x, x[:, :1]))
    run = fit(ds.Recipe(optimizer="lbfgs", steps=3, batch_size=2000), given=own)
    assert "halves" not in run.facts
    assert not [each for each in caplog.records if "halves" in each.message]


def test_a_run_whose_searches_find_nothing_is_stalled_and_not_endless() -> None:
    class Wrong(torch.autograd.Function):
        """A gradient of the wrong sign."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            return -grads[0]

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (Wrong.apply(output) - target).square().mean()

    own = ds.Problem(model=lambda: nn.Linear(4, 1), objective=loss, train=data())
    run = fit(ds.Recipe(optimizer="lbfgs", steps=500), given=own)
    assert run.status == "stalled"
    assert run.summary["steps"] < 20
    assert "found no point below" in run.facts["method"][-1]["said"]


def test_no_rate_is_taken_by_a_method_that_has_none() -> None:
    with pytest.raises(InputError, match="has no learning rate"):
        fit(ds.Recipe(optimizer="trust_region", lr=0.1, steps=2))


def test_a_recipe_of_a_method_goes_through_a_file_and_a_factory() -> None:
    from downslope.terrain.methods import NewtonCG

    recipe = ds.Recipe(optimizer="Newton-CG", max_cg=7, steps=3)
    assert recipe.optimizer == "newton_cg"
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe
    factory = ds.Recipe(optimizer=lambda params: NewtonCG(params, max_cg=7), steps=3)
    assert (factory.optimizer, factory.settings["max_cg"]) == ("newton_cg", 7)
    assert ds.Recipe(optimizer=torch.optim.LBFGS).optimizer == "torch.optim:LBFGS"


def test_a_rate_that_falls_shortens_the_first_trial() -> None:
    recipe = ds.Recipe(
        optimizer="newton", steps=4, lr=0.5, schedule="constant", warmup=2, precision="float64"
    )
    run = fit(recipe)
    assert run.history["lr"][0] < run.history["lr"][-1] == 0.5


def test_a_learnt_objective_takes_part() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log = nn.Parameter(torch.zeros(()))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (output - target).square().mean() * (-self.log).exp() + self.log

    own = ds.Problem(model=net, objective=Scaled(), train=data())
    run = fit(ds.Recipe(optimizer="lbfgs", steps=15, precision="float64"), given=own)
    assert run.history["train_loss"][-1] < run.history["train_loss"][1]
    assert float(run.weights["objective"]["log"]) != 0.0


def test_watch_sees_the_steps_of_a_loop_whose_method_looks_several_times() -> None:
    torch.manual_seed(0)
    x, y = data()
    model = net().double()
    method = LBFGS(model.parameters())
    monitor = ds.watch(model, method)
    for _ in range(15):
        loss = method.step(lambda: nn.functional.mse_loss(model(x), y))
        monitor.step(loss)
    found = monitor.diagnose()
    assert found.healthy
    assert len(monitor.run.history["train_loss"]) >= 15


def test_members_of_a_population_are_the_runs_alone() -> None:
    recipe = ds.Recipe(optimizer="lbfgs", steps=4, precision="float64")
    members = ds.fit_population(problem(), [recipe, recipe.edit(seed=1)], progress=False)
    alone = [fit(recipe), fit(recipe.edit(seed=1))]
    for member, run in zip(members, alone, strict=True):
        assert same_state(member.model().state_dict(), run.model().state_dict())


def digits_like(size: int, count: int = 600) -> ds.Problem:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(count, 16, generator=draw)
    y = (x @ torch.randn(16, 6, generator=draw) + torch.randn(count, 6, generator=draw)).argmax(1)
    model = lambda: nn.Sequential(nn.Linear(16, size), nn.Tanh(), nn.Linear(size, 6))  # noqa: E731
    return ds.Problem(model=model, objective="cross_entropy", train=(x, y))


@pytest.mark.parametrize(
    ("name", "batch"), [("newton_cg", 4), ("block_coordinate_descent", 16), ("lbfgs", 16), ("kfac", 4)]
)
def test_a_small_batch_is_told_with_a_larger_one(
    name: str, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = fit(ds.Recipe(optimizer=name, batch_size=batch, steps=12, seed=1), given=digits_like(8))
    assert [each.message for each in caplog.records if "two halves differs" in each.message]
    assert run.facts["halves"]["needed"] > batch


def test_where_the_whole_went_up_that_is_told_and_where_it_went_down_nothing_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = digits_like(8)
    run = fit(ds.Recipe(optimizer="newton_cg", batch_size=4, steps=12, seed=1), given=own)
    assert run.facts["climbed"]["end"] == run.summary["train_loss"] > 2 * run.facts["climbed"]["start"]
    assert run.facts["climbed"]["needed"] >= 16
    assert "goes down on its own batch" in caplog.text
    caplog.clear()
    run = fit(ds.Recipe(optimizer="lbfgs", batch_size=300, steps=4, seed=1), given=own)
    assert "climbed" not in run.facts
    run = fit(ds.Recipe(optimizer="newton_cg", steps=4, seed=1), given=own)
    assert not {"climbed", "halves"} & set(run.facts)


def test_a_batch_of_a_loader_is_not_told_to_be_full(caplog: pytest.LogCaptureFixture) -> None:
    held = TensorDataset(torch.randn(400, 16), torch.arange(400) % 6)
    model = lambda: nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 6))  # noqa: E731
    own = ds.Problem(model=model, objective="cross_entropy", train=DataLoader(held, 4))
    fit(ds.Recipe(optimizer="lbfgs", steps=2), given=own)
    assert "give batches of" in caplog.text
    assert "full" not in caplog.text


@pytest.mark.parametrize("name", ["block_coordinate_descent", "lbfgs"])
def test_batch_norm_answers_in_evaluation_as_it_was_trained(name: str) -> None:
    """A running mean over a few long steps would be of weights that are far behind."""
    run = fit(ds.Recipe(optimizer=name, steps=6, precision="float64"), given=problem(norm=True))
    trained = run.model("last").train()
    x, y = data()
    loss = float((trained(x) - y).square().mean().detach())
    assert run.summary["train_loss"] == pytest.approx(loss, rel=0.05)
    assert "measured anew" in run.choices["batch_norm"]
    assert "batch_norm" not in fit(ds.Recipe(optimizer=name, steps=1)).choices
    assert "batch_norm" not in fit(ds.Recipe(steps=1), given=problem(norm=True)).choices
