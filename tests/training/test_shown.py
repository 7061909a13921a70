"""Optimizers that show other weights than they train, and SAM's two looks, in a run from end to end."""

from __future__ import annotations

import copy
import signal
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope import optim
from downslope.core.errors import RecipeError
from downslope.training.evaluate import evaluate
from downslope.training.population.members import Member
from tests.training.problems import after_steps, mlp, regression, same_history, same_state

HOW: dict[str, Any] = {"batch_size": 16, "epochs": 4, "seed": 1, "precision": "float64"}
SHOWING: dict[str, dict[str, Any]] = {
    "schedule_free_sgd": {"lr": 0.1, "warmup_steps": 3},
    "schedule_free_adamw": {"lr": 0.02},
    "lookahead(adam)": {"lr": 0.02, "la_steps": 3},
    "lookahead(torch.optim:SGD)": {"lr": 0.05},
}


def recipe(optimizer: str, **said: Any) -> ds.Recipe:
    return ds.Recipe(optimizer=optimizer, **(HOW | SHOWING.get(optimizer, {}) | said))


def fit(problem: ds.Problem, how: ds.Recipe, **said: Any) -> ds.Run:
    return ds.fit(problem, how, **({"folder": False, "progress": False, "observe": 0} | said))


def flat(model: nn.Module) -> np.ndarray[Any, Any]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double().numpy()


def by_own_loop(how: ds.Recipe, problem: ds.Problem) -> tuple[nn.Module, nn.Module]:
    """The model that is trained and the one that is shown, by a loop written out."""
    model = problem.build(how.seed, how.init).double()
    settings = {"lr": how.lr, **how.settings}
    optimizer = optim.build(str(how.optimizer), list(model.parameters()), settings)
    source = problem.train_source.to(torch.device("cpu"), torch.float64)  # type: ignore[attr-defined]
    for epoch in range(how.epochs or 1):
        for x, y in source.epoch(16, how.seed, epoch):

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                return loss

            if getattr(optimizer, "needs_closure", False):
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
    with optimizer.shown():  # type: ignore[attr-defined]
        return model, copy.deepcopy(model)


@pytest.mark.parametrize("optimizer", list(SHOWING))
def test_what_is_validated_kept_and_handed_out_are_the_weights_that_are_shown(optimizer: str) -> None:
    problem, how = regression(), recipe(optimizer)
    trained: list[np.ndarray[Any, Any]] = []
    with after_steps(lambda model: trained.append(flat(model).copy())):
        run = fit(problem, how)
    own, shown = by_own_loop(how, problem)
    np.testing.assert_allclose(trained[-1], flat(own), rtol=1e-9)
    np.testing.assert_allclose(flat(run.model("last")), flat(shown), rtol=1e-9)
    assert not np.allclose(trained[-1], flat(shown), rtol=1e-6)
    valid = problem.valid_source.to(torch.device("cpu"), torch.float64)  # type: ignore[union-attr]
    found = evaluate(problem, run.model(), valid)
    assert run.summary["valid_loss"] == pytest.approx(found.loss, rel=1e-9)
    at_last = evaluate(problem, run.model("last"), valid).loss
    assert run.history.series("valid_loss").values[-1] == pytest.approx(at_last, rel=1e-9)
    assert "shows" in run.choices["shown"]
    x = problem.valid_source.batch[0]  # type: ignore[union-attr]
    with torch.no_grad():
        wanted = run.model()(x.double()).squeeze(1).numpy()
    np.testing.assert_allclose(run.predict(x.numpy()).values, wanted, rtol=1e-6)


@pytest.mark.parametrize("optimizer", list(SHOWING))
def test_looking_at_what_is_shown_leaves_the_training_as_it_was(optimizer: str) -> None:
    seen = fit(regression(), recipe(optimizer))
    blind = fit(regression(valid=None), recipe(optimizer))
    assert np.array_equal(seen.history.series("train_loss").values, blind.history.series("train_loss").values)


@pytest.mark.parametrize("optimizer", [*SHOWING, "sam(sgd)", "sam(lookahead(torch.optim:SGD))"])
def test_a_run_that_was_interrupted_goes_on_as_if_it_never_had_been(optimizer: str, tmp_path: Any) -> None:
    problem, how = regression(), recipe(optimizer, lr=0.02)
    whole = fit(problem, how, folder=tmp_path / "whole")
    steps: list[int] = []

    def interrupt(model: nn.Module) -> None:
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)

    with after_steps(interrupt):
        cut = fit(problem, how, folder=tmp_path / "cut")
    assert cut.status == "interrupted"
    resumed = fit(problem, how, folder=tmp_path / "cut", resume=True)
    assert same_history(whole, resumed)
    for which in ("last", "best"):
        assert same_state(whole.state(which), resumed.state(which))
        kept = [ds.load_run(tmp_path / each).state(which) for each in ("cut", "whole")]
        assert same_state(*kept)


def test_batch_norm_is_measured_for_the_weights_that_are_shown() -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    problem = regression(model=normed)
    run = fit(problem, recipe("schedule_free_sgd"))
    model = run.model("last")
    source = problem.train_source.to(torch.device("cpu"), torch.float64)  # type: ignore[attr-defined]
    x = torch.cat([batch[0] for batch in source.stored(64)])
    assert torch.allclose(model[1].running_mean, model[0](x).mean(0), rtol=1e-9)
    assert "batch norm measured anew" in run.choices["shown"]


def test_members_of_a_population_are_those_trained_alone() -> None:
    recipes = [recipe("schedule_free_sgd", lr=lr) for lr in (0.05, 0.1, 0.2)]
    recipes += [recipe("lookahead(adam)", lr=lr) for lr in (0.01, 0.02)]
    recipes += [recipe("sam(sgd)", lr=lr) for lr in (0.05, 0.1)]
    together = ds.fit_population(
        regression(), recipes, way="together", folder=False, progress=False, observe=0
    )
    for run, how in zip(together, recipes, strict=True):
        alone = fit(regression(), how)
        np.testing.assert_allclose(flat(run.model()), flat(alone.model()), rtol=1e-9)
        assert run.summary["valid_loss"] == pytest.approx(alone.summary["valid_loss"], rel=1e-9)
        told = run.choices["population"]
        if how.optimizer == "sam(sgd)":
            assert "looks at a batch more than once" in told
        else:
            assert "together with" in told


@pytest.mark.parametrize("optimizer", ["schedule_free_sgd", "lookahead(adam)"])
def test_a_member_that_becomes_another_is_judged_by_what_it_shows_then(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = Member.epoch_over, list[tuple[bool, bool]]()

    def over(self: Member) -> bool:
        ended = own(self)
        self.settled()
        with self.state.optimizer.shown():  # type: ignore[attr-defined]
            shown = flat(self.state.model).copy()
        seen.append((np.array_equal(shown, flat(self.judged)), bool(self.state.run.facts.get("became"))))
        return ended

    monkeypatch.setattr(Member, "epoch_over", over)
    space = {"lr": ds.log(1e-3, 0.2)}
    ds.tune(
        regression(), recipe(optimizer, epochs=6), space=space, trials=6, pruner="pbt", progress=False,
        folder=False,
    )  # fmt: skip
    assert all(right for right, _ in seen)
    assert any(became for _, became in seen)


def test_sam_by_name_takes_the_steps_of_a_loop_written_out() -> None:
    how = recipe("sam(sgd)", lr=0.05, momentum=0.9, rho=0.2, adaptive=True)
    run = fit(regression(valid=None), how)
    own, _ = by_own_loop(how, regression(valid=None))
    np.testing.assert_allclose(flat(run.model("last")), flat(own), rtol=1e-9)


def test_sams_second_look_draws_the_same_dropout_and_leaves_statistics_alone() -> None:
    def noisy() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))

    def at_zero(optimizer: str, **said: Any) -> ds.Run:
        return fit(regression(valid=None, model=noisy), recipe(optimizer, lr=0.05, **said))

    plain, nearest = at_zero("sgd"), at_zero("sam(sgd)", rho=0.0)
    assert same_state(plain.state("last"), nearest.state("last"))
    assert "batch norm keeps the statistics of the first" in nearest.choices["looks"]
    assert "looks" not in plain.choices
    count = nearest.state("last")["1.num_batches_tracked"]
    assert int(count) == nearest.summary["steps"]


def test_sam_takes_a_batch_in_parts_as_it_takes_it_whole() -> None:
    whole, parts = (
        fit(regression(valid=None), recipe("sam(sgd)", lr=0.05, rho=0.2, accumulate=n)) for n in (1, 4)
    )
    np.testing.assert_allclose(flat(whole.model()), flat(parts.model()), rtol=1e-10)


def test_sam_clips_the_gradient_that_its_base_steps_by() -> None:
    kept: list[float] = []

    def watch(optimizer: Any, *_: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        kept.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    from torch.optim.optimizer import register_optimizer_step_pre_hook

    handle = register_optimizer_step_pre_hook(watch)
    try:
        fit(regression(valid=None), recipe("sam(sgd)", lr=0.05, clip_norm=0.01))
    finally:
        handle.remove()
    assert kept
    assert max(kept) <= 0.01 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("optimizer", "said", "problem", "told"),
    [
        ("schedule_free_sgd", {"average": "ema"}, {}, "weights of its own to hand out"),
        ("schedule_free_sgd", {}, {"constraint": "non_negative"}, "what it steps from"),
        ("schedule_free_sgd", {"momentum": 0.0}, {}, r"must lie in \(0, 1\)"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    optimizer: str, said: dict[str, Any], problem: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        fit(regression(**problem), recipe(optimizer, **said))


def test_a_network_learns_by_each_of_them() -> None:
    for optimizer in (*SHOWING, "sam(sgd)"):
        said = {} if optimizer in SHOWING else {"lr": 0.05}
        run = fit(regression(model=mlp), recipe(optimizer, epochs=10, **said))
        losses = run.history.series("valid_loss").values
        assert losses[-1] < 0.7 * losses[0], optimizer
