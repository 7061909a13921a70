"""Rates by torch's schedulers and by what is measured, in runs beside loops written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError, RecipeError, RunFolderError, UnknownNameError
from downslope.training import rates
from downslope.training.fit import resume

SCHEDULERS = torch.optim.lr_scheduler
STEPS = 24
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(40, 3, generator=DRAW, dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3 * torch.randn(40, generator=DRAW)
VALID = X[:10] + 0.1, Y[:10]


def problem(**changes: Any) -> ds.Problem:
    return ds.Problem(model="linear", objective="squared_error", train=(X, Y), **changes)


def recipe(schedule: Any, **changes: Any) -> ds.Recipe:
    how = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05, "batch_size": "full", "steps": STEPS}
    return ds.Recipe(**how | {"precision": "float64", "schedule": schedule} | changes)


def by_hand(make: Any, measured: Any = None) -> tuple[list[float], torch.Tensor]:
    """Full-batch steps with momentum, the scheduler stepped after each, or told what `measured` says."""
    model = problem().build(0).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler, lrs = make(optimizer), []
    for step in range(STEPS):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        (model(X).squeeze(-1) - Y).square().mean().backward()
        optimizer.step()
        if measured is None:
            scheduler.step()
        else:
            measured(step, scheduler, model)
    return lrs, torch.cat([p.detach().flatten() for p in model.parameters()])


def agree(run: ds.Run, lrs: list[float], weights: torch.Tensor) -> None:
    np.testing.assert_allclose(run.history.series("lr").values, lrs, rtol=1e-12)
    found = torch.cat([p.detach().flatten() for p in run.model("last").parameters()])
    torch.testing.assert_close(found, weights, rtol=1e-10, atol=1e-12)


def cycle(optimizer: torch.optim.Optimizer) -> SCHEDULERS.OneCycleLR:
    return SCHEDULERS.OneCycleLR(optimizer, max_lr=0.2, total_steps=STEPS + 1)


def stacked(optimizer: torch.optim.Optimizer) -> SCHEDULERS.SequentialLR:
    first = SCHEDULERS.LinearLR(optimizer, 0.1, total_iters=5)
    return SCHEDULERS.SequentialLR(optimizer, [first, SCHEDULERS.ExponentialLR(optimizer, 0.9)], [5])


FACTORIES = {
    "one cycle, of the momentum too": cycle,
    "stairs": lambda optimizer: SCHEDULERS.MultiStepLR(optimizer, [3, 9], 0.3),
    "one after the other": stacked,
    "a function": lambda optimizer: SCHEDULERS.LambdaLR(optimizer, lambda t: 1 / (1 + t)),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_torchs_scheduler_steps_a_run_as_a_loop_by_hand_does(name: str) -> None:
    run = ds.fit(problem(), recipe(FACTORIES[name]), folder=False, progress=False, observe=0)
    agree(run, *by_hand(FACTORIES[name]))


def test_a_scheduler_by_its_place_is_the_same_comes_back_from_a_file_and_trains() -> None:
    how = recipe("torch.optim.lr_scheduler:StepLR(5, gamma=0.5)")
    assert how.schedule == "torch.optim.lr_scheduler:StepLR(step_size=5, gamma=0.5)"
    assert ds.Recipe.from_toml(how.to_toml()) == how
    run = ds.fit(problem(), how, folder=False, progress=False, observe=0)
    agree(run, *by_hand(lambda optimizer: SCHEDULERS.StepLR(optimizer, 5, 0.5)))


def test_a_factory_that_can_be_imported_becomes_its_place() -> None:
    assert recipe(cycle).schedule == f"{__name__}:cycle"
    assert recipe(ds.schedules.cosine).schedule == "cosine"
    assert not recipe(cycle).coded


def test_a_scheduler_of_epochs_is_stepped_after_each() -> None:
    factory = ds.schedules.each_epoch(lambda optimizer: SCHEDULERS.StepLR(optimizer, 2, 0.5))
    how = recipe(factory, batch_size=10, steps=None, epochs=5)
    run = ds.fit(problem(), how, folder=False, progress=False, observe=0)
    epochs = [0.05, 0.05, 0.025, 0.025, 0.0125]
    np.testing.assert_allclose(run.history.series("lr").values, np.repeat(epochs, 4))


def told_every_step(step: int, scheduler: Any, model: Any) -> None:
    with torch.no_grad():
        scheduler.step(float((model(VALID[0]).squeeze(-1) - VALID[1]).square().mean()))


@pytest.mark.parametrize(
    "schedule",
    [
        "plateau(factor=0.5, patience=1, threshold=0.2)",
        "torch.optim.lr_scheduler:ReduceLROnPlateau(factor=0.5, patience=1, threshold=0.2)",
    ],
    ids=["ours", "torch's"],
)
def test_on_a_plateau_of_the_validation_loss_the_rate_falls_as_by_hand(schedule: str) -> None:
    run = ds.fit(problem(valid=VALID), recipe(schedule), folder=False, progress=False, observe=0)
    lrs, weights = by_hand(
        lambda optimizer: SCHEDULERS.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.2),
        told_every_step,
    )
    assert len(set(lrs)) > 3
    agree(run, lrs, weights)


def test_without_validation_data_the_loss_of_the_epoch_tells() -> None:
    how = recipe("plateau(factor=0.5, patience=0, threshold=0.5)")
    run = ds.fit(problem(), how, folder=False, progress=False, observe=0)
    losses, lr, best, lrs = run.history.series("train_loss").values, 0.05, np.inf, []
    for loss in losses:
        lrs.append(lr)
        lr, best = (lr, loss) if loss < best * 0.5 else (lr / 2, best)
    np.testing.assert_allclose(run.history.series("lr").values, lrs)


@pytest.mark.parametrize(
    ("factory", "factor"),
    [
        (lambda o: SCHEDULERS.LambdaLR(o, lambda t: 0.9**t), lambda t: 0.9**t),
        (lambda opt: SCHEDULERS.StepLR(opt, 3, 0.5), lambda t: 0.5 ** (t // 3)),
    ],
)
def test_a_factory_of_a_scheduler_may_call_its_argument_as_it_likes(factory: Any, factor: Any) -> None:
    run = ds.fit(problem(), recipe(factory), folder=False, progress=False, observe=0)
    other = ds.fit(problem(), recipe(factor), folder=False, progress=False, observe=0)
    np.testing.assert_allclose(run.history.series("lr").values, other.history.series("lr").values)


@pytest.mark.parametrize("made", ["of the length", "of the step"])
def test_a_plateau_inside_of_a_warm_up_falls_as_beside_it(made: str) -> None:
    def schedule(total_steps: int) -> Any:
        inner = ds.schedules.plateau(total_steps, factor=0.5, patience=0, threshold=0.5)
        return ds.schedules.warmup(inner, 3)

    own = schedule if made == "of the length" else schedule(1)
    inside = ds.fit(problem(), recipe(own), folder=False, progress=False, observe=0)
    beside = ds.fit(
        problem(), recipe("plateau(factor=0.5, patience=0, threshold=0.5)", warmup=3), folder=False,
        progress=False, observe=0,
    )  # fmt: skip
    rates = inside.history.series("lr").values
    np.testing.assert_array_equal(rates, beside.history.series("lr").values)
    assert rates[-1] < 0.05


def test_a_plateau_of_one_run_is_not_that_of_the_next() -> None:
    shared = ds.schedules.plateau(1, factor=0.5, patience=0, threshold=0.5)
    first, second = (
        ds.fit(problem(), recipe(shared), folder=False, progress=False, observe=0) for _ in range(2)
    )
    assert first.history.series("lr").values.tolist() == second.history.series("lr").values.tolist()
    assert first.history.series("lr").values[-1] < 0.05
    assert shared.factor == 1.0


@pytest.mark.parametrize(
    "own",
    [
        lambda total_steps: ds.schedules.warmup(ds.schedules.polynomial(total_steps - 4), 4),
        ds.schedules.warmup(ds.schedules.polynomial(STEPS - 4), 4),
    ],
    ids=["of the length", "of the step"],
)
def test_a_schedule_of_ones_own_is_taken(own: Any) -> None:
    run = ds.fit(problem(), recipe(own), folder=False, progress=False, observe=0)
    named = ds.fit(problem(), recipe("linear", warmup=4), folder=False, progress=False, observe=0)
    assert run.history.series("lr").values.tolist() == named.history.series("lr").values.tolist()


@pytest.mark.parametrize("name", ["one cycle, of the momentum too", "one after the other"])
def test_members_of_a_population_step_as_alone_under_a_scheduler(name: str) -> None:
    how = [recipe(FACTORIES[name], lr=lr, seed=0) for lr in (0.05, 0.02)]
    for run, each in zip(ds.fit_population(problem(), how, progress=False, way="together"), how, strict=True):
        alone = ds.fit(problem(), each, folder=False, progress=False, observe=0)
        np.testing.assert_allclose(run.history.series("lr").values, alone.history.series("lr").values)
        np.testing.assert_allclose(
            run.history.series("train_loss").values, alone.history.series("train_loss").values, rtol=1e-9
        )


def test_members_fall_on_plateaus_of_their_own() -> None:
    how = [recipe("plateau(factor=0.5, patience=0, threshold=0.3)", lr=lr) for lr in (0.05, 0.002)]
    runs = ds.fit_population(problem(valid=VALID), how, progress=False, way="together")
    for run, each in zip(runs, how, strict=True):
        alone = ds.fit(problem(valid=VALID), each, folder=False, progress=False, observe=0)
        np.testing.assert_allclose(run.history.series("lr").values, alone.history.series("lr").values)
    assert runs[0].history.series("lr").values[-1] != 25 * runs[1].history.series("lr").values[-1]


def test_code_is_named_in_the_folder_of_a_run_and_told_when_it_is_lost(tmp_path: Path) -> None:
    run = ds.fit(problem(), recipe(FACTORIES["stairs"]), folder=tmp_path / "run", progress=False)
    assert run.recipe is not None
    with pytest.raises(RecipeError, match="schedule <lambda> is code, a recipe file holds names"):
        run.recipe.to_toml()
    again = ds.load_run(tmp_path / "run").recipe
    assert again is not None
    with pytest.raises(RecipeError, match="the schedule of this run was code"):
        ds.fit(problem(), again, folder=False, progress=False)
    assert "schedule" in str(again)
    head = tmp_path / "run" / "run.json"
    head.write_text(head.read_text().replace('"done"', '"interrupted"'))
    with pytest.raises(RunFolderError, match="its schedule is code that no file holds; start anew with fit"):
        resume(tmp_path / "run", problem(), progress=False)


@pytest.mark.parametrize(
    ("schedule", "changes", "said"),
    [
        (lambda optimizer: SCHEDULERS.StepLR(optimizer, every=3), {}, "TypeError: .*every"),
        (lambda optimizer: 3, {}, "gave a int: must give a scheduler"),
        (lambda total_steps: "falling", {}, "gave a str for 24: must give a function of the step"),
        (lambda total_steps: total_steps.nothing, {}, "AttributeError"),
        (cycle, {"warmup": 3}, "put the warm-up into it"),
        (
            lambda optimizer: SCHEDULERS.StepLR(torch.optim.SGD([torch.nn.Parameter(X)], lr=1.0), 3),
            {},
            "holds another optimizer than the run's",
        ),
    ],
)
def test_a_schedule_that_is_none_is_refused_in_one_line(schedule: Any, changes: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        ds.fit(problem(), recipe(schedule, **changes), folder=False, progress=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            SCHEDULERS.StepLR(torch.optim.SGD([torch.nn.Parameter(X)], lr=1.0), 3),
            "a made StepLR holds the optimizer of one run",
        ),
        ("torch.optim.lr_scheduler:StepLR(stepsize=3)", "did you mean 'step_size'"),
        ("torch.optim.lr_scheduler:StepLR", "missing a required argument: 'step_size'; write its settings"),
        ("torch.optim.lr_scheduler:SteppLR(step_size=3)", "cannot be loaded"),
        ("torch.optim:lr_scheduler", "a module, must be a class or a function"),
        ("plateau(patience=-1)", "patience=-1: must be a whole number from 0"),
        (3, "schedule=3: must be a name"),
    ],
)
def test_what_no_schedule_can_be_is_refused_with_the_recipe(schedule: Any, said: str) -> None:
    with pytest.raises((RecipeError, InputError, UnknownNameError), match=said) as error:
        recipe(schedule)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [stacked, lambda optimizer: SCHEDULERS.ExponentialLR(optimizer, 0.9)])
def test_a_scheduler_that_was_led_on_stands_where_it_stood(make: Any) -> None:
    optimizers = [torch.optim.SGD([torch.nn.Parameter(X[0])], lr=0.05, momentum=0.9) for _ in range(2)]
    first, second = (rates.Rates(recipe(make), each, STEPS) for each in optimizers)
    for step in range(9):
        first.at(step)
        optimizers[0].step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    second.restore(first.state())
    for step in range(9, 15):
        first.at(step)
        second.at(step)
        assert first.leading == second.leading


def test_one_cycle_of_rate_and_momentum_is_that_of_torchs_scheduler() -> None:
    how = recipe("one_cycle", lr=0.2, momentum=0.95, schedules={"momentum": "one_cycle_momentum"})
    run = ds.fit(problem(), how, folder=False, progress=False, observe=0)

    def torchs(optimizer: torch.optim.Optimizer) -> Any:
        scheduler = SCHEDULERS.OneCycleLR(optimizer, max_lr=0.2, total_steps=STEPS)
        last = scheduler.step
        scheduler.step = lambda: None if scheduler.last_epoch == STEPS - 1 else last()
        return scheduler

    agree(run, *by_hand(torchs))


def test_a_scheduler_of_fewer_steps_than_the_run_is_refused_before_the_first() -> None:
    how = recipe(f"torch.optim.lr_scheduler:OneCycleLR(max_lr=0.1,total_steps={STEPS - 5})")
    said = f"made for {STEPS - 5} steps, this run has {STEPS}; give it total_steps={STEPS}$"
    with pytest.raises(RecipeError, match=said):
        ds.fit(problem(), how, folder=False, progress=False, observe=0)


def test_a_scheduler_that_fails_under_way_is_told_with_its_step() -> None:
    def ends(optimizer: torch.optim.Optimizer) -> Any:
        first = SCHEDULERS.OneCycleLR(optimizer, max_lr=0.2, total_steps=4)
        return SCHEDULERS.SequentialLR(optimizer, [first, SCHEDULERS.ExponentialLR(optimizer, 0.9)], [9])

    with pytest.raises(RecipeError, match=r"^schedule=.* failed after 4 steps: Tried to step 5 times"):
        ds.fit(problem(), recipe(ends), folder=False, progress=False, observe=0)
