"""Barriers by hand, permutations that leave the function alone, curves that go around."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.modes.connect import Between, _worse
from downslope.terrain.modes.rebasin import aligned, chain


def task(**changes) -> ds.Problem:
    digits = ds.data.digits(scale=16)
    given = {
        "model": "mlp", "objective": "cross_entropy", "train": digits.train, "valid": digits.valid,
        "arguments": {"depth": 2, "width": 16},
    } | changes  # fmt: skip
    return ds.Problem(**given)


def trained(problem: ds.Problem, seed: int) -> nn.Module:
    recipe = ds.Recipe(optimizer="adam", lr=0.01, epochs=8, seed=seed)
    return ds.fit(problem, recipe, folder=False, progress=False).model("last")


def shuffled(model: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """The same function with the units of every hidden layer in another order, by hand."""
    other = copy.deepcopy(model)
    layers = chain(other)
    assert layers is not None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for here, following in itertools.pairwise(layers):
            units = here.weight.weight.shape[0]
            order = torch.randperm(units, generator=generator)
            for module in (here.weight, *here.norms):
                for tensor in (*module.parameters(), *module.buffers()):
                    if tensor.dim():
                        tensor.copy_(tensor[order])
            weight = following.weight.weight
            blocks = weight.reshape(weight.shape[0], units, -1)[:, order]
            weight.copy_(blocks.reshape(weight.shape))
    return other


def convolutional() -> nn.Sequential:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3),
    )  # fmt: skip
    model(torch.randn(30, 1, 8, 8))
    return model.eval()


def mlp() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 9), nn.LayerNorm(9), nn.GELU(), nn.Linear(9, 2)
    )


@pytest.mark.parametrize(("model", "shape"), [(mlp(), (6,)), (convolutional(), (1, 8, 8))])
def test_shuffled_units_are_put_back_to_the_last_bit(model: nn.Sequential, shape) -> None:
    other = shuffled(model)
    x = torch.randn(5, *shape)
    assert torch.allclose(model(x), other(x), atol=1e-5)
    found = aligned(model, other)
    assert found is not None
    back, moved = found
    assert moved > 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


def test_what_is_no_chain_is_not_permuted() -> None:
    assert chain(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2), nn.Linear(2, 2))) is None
    assert chain(ds.models.resnet(channels=1, size=8, outputs=2, depth=8, width=4)) is None


def test_between_two_runs_the_straight_way_has_a_barrier_that_a_curve_goes_around() -> None:
    problem = task()
    models = [trained(problem, seed) for seed in range(2)]
    found = ds.connect(problem, *models, steps=150, points=11, examples=512, progress=False)
    straight, near, curve = found.ways
    assert straight.barrier > 0.3
    assert near.barrier < straight.barrier
    assert near.length < straight.length
    assert curve.barrier < 0.1 * straight.barrier
    assert curve.length > straight.length
    assert "change places" in found.notes[-1]
    ground = ds.landscape(
        problem, models[0], to=models[1], points=11, span=(0.0, 1.0), examples=512, progress=False
    )
    assert straight.losses == pytest.approx(ground.values, rel=1e-4)
    shares = np.linspace(0, 1, 11)
    by_hand = (ground.values - (1 - shares) * ground.values[0] - shares * ground.values[-1]).max()
    assert straight.barrier == pytest.approx(by_hand, rel=1e-4)


def test_the_error_of_a_barrier_is_its_spread_over_draws_of_examples() -> None:
    """Over 16 parts, against what 32 disjoint draws of as many examples give."""
    torch.manual_seed(0)
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    x = torch.randn(32 * 64, 3)
    y = x.sum(1, keepdim=True) + torch.randn(32 * 64, 1)
    told, barriers = [], []
    for rows in torch.arange(32 * 64).split(64):
        problem = ds.Problem(
            model=model, objective=lambda o, t: -((o - t).abs()).mean(), train=(x[rows], y[rows])
        )
        way = ds.connect(problem, model, other, points=3, curve="none", align=False, progress=False).ways[0]
        told.append(way.barrier_error)
        barriers.append(way.barrier)
    assert np.mean(told) == pytest.approx(np.std(barriers, ddof=1), rel=0.4)


def test_batch_norm_takes_new_statistics_along_the_way() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(64, 4), torch.randint(2, (64,))

    def made() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    problem = ds.Problem(model=made, objective="cross_entropy", train=(x, y))
    models = [problem.build(seed) for seed in range(2)]
    options = {"points": 5, "curve": "chain", "steps": 5, "progress": False}
    fresh, frozen = (
        ds.connect(problem, *models, batch_norm=each, **options) for each in ("recalibrated", "frozen")
    )
    assert fresh.ways[0].losses[2] != pytest.approx(frozen.ways[0].losses[2], rel=1e-3)
    assert any("statistics of the examples" in each for each in fresh.notes)


def test_ctrl_c_ends_the_training_of_a_curve_and_keeps_the_ways(monkeypatch) -> None:
    from downslope.terrain.modes import connect as module

    seen, slope = [], module._slope

    def interrupted(ground, batch):
        seen.append(batch)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return slope(ground, batch)

    monkeypatch.setattr(module, "_slope", interrupted)
    problem = task()
    found = ds.connect(problem, problem.build(0), problem.build(1), points=3, examples=64, progress=False)
    assert "ended by Ctrl-C after 3 of 300 steps" in found.notes[-1]
    assert len(found.ways) == 3


def test_the_same_model_twice_is_told() -> None:
    problem = task()
    model = problem.build(0)
    with pytest.raises(InputError, match="the same weights"):
        ds.connect(problem, model, model, progress=False)
    with pytest.raises(InputError, match="not alike"):
        ds.connect(problem, model, nn.Linear(64, 10), progress=False)
    with pytest.raises(InputError, match="must be 'bezier'"):
        ds.connect(problem, model, problem.build(1), curve="spline", progress=False)


def test_a_curve_whose_training_diverged_is_left_out_and_told() -> None:
    problem = task()
    one, other = problem.build(0), problem.build(1)
    found = ds.connect(
        problem, one, other, points=3, steps=3, lr=1e9, align=False, examples=64, progress=False
    )
    assert [way.name for way in found.ways] == ["straight"]
    assert found.bend is None
    assert any("diverged at lr=1.00e9" in each and "a smaller lr" in each for each in found.notes)
    assert found.barrier < 100
    kept = ds.connect(problem, one, other, points=3, steps=3, align=False, examples=64, progress=False)
    assert [way.name for way in kept.ways] == ["straight", "bezier curve"]


@pytest.mark.parametrize(("top", "left_out"), [(1.5, False), (6.7, False), (6.9, True), (np.nan, True)])
def test_a_curve_is_left_out_beyond_twice_the_straight_way_and_its_error(top: float, left_out: bool) -> None:
    """The straight way lies 2/3 above its chord on average, with an error of .2: up to 29/15 is allowed."""

    def way(middle: float) -> Between:
        losses = np.array([1.0, middle, 1.0])
        return Between(
            name="", at=np.array([0.0, 0.5, 1.0]), losses=losses, errors=np.full(3, 0.2), barrier=0.0,
            barrier_error=0.0, length=1.0,
        )  # fmt: skip

    assert (_worse(way(top), way(3.0), 0.1) is not None) == left_out


def test_where_the_loss_is_no_number_the_barrier_is_not_zero() -> None:
    def broken(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = nn.functional.cross_entropy(output, target)
        return value * torch.where(output.detach().abs().mean() < 1, torch.nan, 1.0)

    torch.manual_seed(0)
    one = nn.Linear(64, 10)
    nn.init.constant_(one.bias, 30.0)
    other = copy.deepcopy(one)
    nn.init.constant_(other.bias, -30.0)
    problem = task(model=lambda: nn.Linear(64, 10), objective=broken, arguments={})
    found = ds.connect(problem, one, other, points=3, align=False, curve="none", examples=64, progress=False)
    assert found.barrier == float("inf")
