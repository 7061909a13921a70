"""Slices against values computed point by point with plain torch."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.ground import ground_of
from downslope.terrain.hvp import flat, unflat
from downslope.terrain.slices import fill
from downslope.terrain.slices.heights import Heights
from downslope.terrain.slices.trail import Recorder


def data(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 6, generator=generator)
    return x, (x[:, 0] + 0.5 * x[:, 1] ** 2 > 0.3).long()


def made(*, norm: bool = False) -> nn.Module:
    torch.manual_seed(2)
    middle = [nn.BatchNorm1d(8)] if norm else []
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))


def task(**changes) -> ds.Problem:
    given = {"model": made, "objective": "cross_entropy", "train": data(), "metric": "accuracy"} | changes
    return ds.Problem(**given)


def by_hand(model: nn.Module, found, at, measure=nn.functional.cross_entropy, x=None) -> float:
    there = copy.deepcopy(model).double().eval()
    params = list(there.parameters())
    moved = flat([p.detach() for p in params])
    for c, direction in zip(at, found.vectors, strict=True):
        moved = moved + c * direction.double()
    with torch.no_grad():
        for p, value in zip(params, unflat(moved, params), strict=True):
            p.copy_(value)
        inputs, target = data()
        return float(measure(there(inputs.double()), target))


def look(model=None, problem=None, **options) -> ds.landscape:
    options = {"points": 9, "progress": False, "dtype": torch.float64} | options
    return ds.landscape(problem or task(), made() if model is None else model, **options)


@pytest.mark.parametrize("directions", ["random", "eigen", "gradient", ("top", "random")])
def test_every_value_is_that_of_the_model_moved_there(directions) -> None:
    model = made()
    before = copy.deepcopy(model.state_dict())
    found = look(model, directions=directions)
    assert found.values.shape == (9, 9)
    for i, j in ((0, 0), (4, 4), (7, 2)):
        at = found.axes[0].coordinates[i], found.axes[1].coordinates[j]
        assert found.values[i, j] == pytest.approx(by_hand(model, found, at), rel=1e-9)
    assert found.marks[0].value == pytest.approx(found.values[4, 4])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert any("dropout is off" in each for each in found.notes)


def test_a_batch_of_points_gives_what_one_by_one_gives(monkeypatch) -> None:
    alone = look(points=13)
    monkeypatch.setattr("downslope.terrain.slices.heights.LOOPED", 1e9)
    monkeypatch.setattr("downslope.terrain.slices.heights.Heights.price", lambda self: 1e9)
    together = look(points=13, exact=True)
    assert any("batches of" in each for each in together.notes)
    assert np.allclose(alone.values, together.values, rtol=1e-12)


def test_eigenvectors_are_those_of_the_dense_hessian() -> None:
    model = made().double().eval()
    found = look(model, directions="eigen", points=3)
    x, y = data()

    def loss(vector: torch.Tensor) -> torch.Tensor:
        names = dict(
            zip(
                [n for n, _ in model.named_parameters()],
                unflat(vector, list(model.parameters())),
                strict=True,
            )
        )
        return nn.functional.cross_entropy(torch.func.functional_call(model, names, (x.double(),)), y)

    hessian = torch.autograd.functional.hessian(loss, flat([p.detach() for p in model.parameters()]))
    values, vectors = torch.linalg.eigh(hessian)
    for direction, value in zip(found.vectors, (values[-1], values[0]), strict=True):
        rayleigh = direction @ hessian @ direction
        assert float(rayleigh) == pytest.approx(float(value), rel=0.02)
    assert abs(float(found.vectors[0] @ vectors[:, -1])) > 0.99


def test_a_line_between_models_begins_and_ends_at_them_and_a_plane_holds_three() -> None:
    models = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)) for _ in range(3)]
    line = look(models[0], to=models[1], points=7)
    ends = [by_hand(each, line, (0.0,)) for each in models[:2]]
    assert [mark.value for mark in line.marks] == pytest.approx(ends, rel=1e-9)
    plane = look(models[0], to=(models[1], models[2]), points=5)
    assert [mark.value for mark in plane.marks] == pytest.approx(
        [*ends, by_hand(models[2], plane, (0.0, 0.0))]
    )
    weights = flat([p.detach().double() for p in models[2].parameters()])
    at, off = plane.project(weights)
    assert at == pytest.approx(plane.marks[2].at)
    assert off < 1e-9


def test_the_way_of_a_training_lies_in_its_principal_plane_as_numpy_finds_it() -> None:
    recorder = Recorder(every=3)
    recipe = ds.Recipe(optimizer="momentum", lr=0.3, steps=30, batch_size=20)
    run = ds.fit(task(), recipe, folder=False, progress=False, on_probe=recorder)
    assert recorder.steps == list(range(0, 31, 3))
    assert torch.equal(recorder[-1], flat([p.detach() for p in run.model("last").parameters()]))
    found = look(run, directions="pca", trajectory=recorder)
    rows = torch.stack(list(recorder)).double().numpy()
    _, sizes, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    for k in range(2):
        assert abs(found.vectors[k].numpy() @ axes[k]) == pytest.approx(1, abs=1e-6)
        assert f"{100 * sizes[k] ** 2 / (sizes**2).sum():.0f} %" in found.axes[k].name
    expected = (rows - rows[-1]) @ np.stack([each.numpy() for each in found.vectors]).T
    assert np.allclose(found.trails[0].at, expected, atol=1e-5)
    assert any("Antognini" in each for each in found.notes)
    assert any("beside it" in each for each in found.notes)


def test_the_ways_of_several_optimizers_share_one_plane() -> None:
    ways = {name: Recorder() for name in ("sgd", "adam")}
    for name, recorder in ways.items():
        recipe = ds.Recipe(optimizer=name, lr=0.05, steps=10, batch_size=20)
        run = ds.fit(task(), recipe, folder=False, progress=False, on_probe=recorder)
    found = look(run, directions="pca", trajectory=ways, points=5)
    assert [each.name for each in found.trails] == ["sgd", "adam"]
    assert found.trails[0].at[-1] == pytest.approx((0, 0), abs=1e-5)
    assert found.trails[0].at[0] == pytest.approx(found.trails[1].at[0], abs=1e-5)


def test_a_recorder_thins_itself_evenly(monkeypatch) -> None:
    monkeypatch.setattr("downslope.terrain.slices.trail.KEPT", 10)
    recorder = Recorder()
    ds.fit(
        task(), ds.Recipe(lr=0.01, steps=50, batch_size=20), folder=False, progress=False, on_probe=recorder
    )
    assert len(recorder) <= 11
    assert len(set(np.diff(recorder.steps))) == 1


def test_metrics_are_sliced_too() -> None:
    model = made()
    found = look(model, quantity="accuracy", points=5)

    def accuracy(output: torch.Tensor, target: torch.Tensor) -> float:
        return float((output.argmax(1) == target).double().mean())

    at = found.axes[0].coordinates[1], found.axes[1].coordinates[3]
    assert found.values[1, 3] == pytest.approx(by_hand(model, found, at, accuracy))
    assert found.higher
    assert found.lowest is not None
    assert found.lowest.name == "highest"
    assert look(model, quantity="metric", points=5).quantity == "accuracy"


def test_batch_norm_is_frozen_or_takes_the_statistics_of_the_examples() -> None:
    model = made(norm=True)
    frozen, fresh = (look(model, batch_norm=each, dimensions=1) for each in ("frozen", "recalibrated"))
    trained = copy.deepcopy(model).double().train()
    trained[3].eval()
    x, y = data()
    with torch.no_grad():
        truth = float(nn.functional.cross_entropy(trained(x.double()), y))
    assert fresh.marks[0].value == pytest.approx(truth, rel=1e-9)
    assert frozen.marks[0].value == pytest.approx(by_hand(model, frozen, (0.0,)), rel=1e-9)
    assert any("statistics of the examples" in each for each in fresh.notes)
    assert model[1].running_mean is not None


def test_splines_between_fewer_points_say_how_far_they_are_off() -> None:
    model = made()
    rough, whole = (look(model, points=31, exact=each) for each in (False, True))
    assert rough.accuracy is not None
    assert whole.accuracy is None
    assert rough.evaluated.sum() < 0.25 * whole.values.size
    off = np.abs(rough.values / whole.values - 1)[~rough.evaluated]
    assert off.max() < 3 * rough.accuracy.worst + 1e-12
    assert 0.3 < np.sqrt((off**2).mean()) / rough.accuracy.rms < 3
    assert any("held out" in each for each in rough.notes)


def test_points_held_out_are_nodes_of_no_grid() -> None:
    """At a node every spline agrees, so that a point which becomes one tells an error of 0."""
    finest = fill.node_mask((51, 51), fill.STRIDES[-1])
    found = look(made(), points=51, exact=False)
    assert found.accuracy is not None
    assert found.accuracy.checked == fill.SIDE**2
    held = found.evaluated & ~finest
    assert held.sum() == fill.SIDE**2


def logarithm(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.log(output[:, 0] - output[:, 1]).mean()


def test_what_is_not_finite_stays_so_is_counted_and_is_drawn() -> None:
    found = look(problem=task(objective=logarithm, metric=None), exact=False, points=15, span=3.0)
    assert found.nonfinite > 0
    assert found.evaluated.all()
    assert any("not finite at" in each for each in found.notes)
    names = [trace.name for trace in found.plot().data]
    assert f"not finite ({found.nonfinite} points)" in names
    pytest.importorskip("matplotlib")
    from downslope.reporting import stills

    (axis, _) = stills.draw(found).axes
    legend = [each.get_text() for each in axis.get_legend().get_texts()]
    assert f"not finite ({found.nonfinite} points)" in legend


def test_without_matplotlib_a_still_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'downslope\[matplotlib\]'"):
        look(points=3).save(tmp_path / "slice.png")


def test_ctrl_c_keeps_what_there_is(monkeypatch) -> None:
    from downslope.terrain.slices.heights import Heights

    whole, seen = Heights.at, []

    def at(self, coordinates):
        seen.append(coordinates)
        if len(seen) > 20:
            raise KeyboardInterrupt
        return whole(self, coordinates)

    monkeypatch.setattr(Heights, "at", at)
    monkeypatch.setattr(Heights, "_settle", lambda *_: None)
    found = look(exact=True)
    assert found.interrupted
    assert found.evaluated.sum() == 20
    assert found.missing.sum() == 61
    assert np.isfinite(found.values[4, 4])  # from the middle outwards
    assert "not evaluated (61 points)" in [trace.name for trace in found.plot().data]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.recur = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        found, _ = self.recur(self.embed(tokens) * scale[:, None, None])
        return self.head(found[:, -1])


def test_models_of_another_kind_are_sliced_as_well() -> None:
    torch.manual_seed(0)
    batch = {"tokens": torch.randint(7, (20, 3)), "scale": torch.rand(20), "labels": torch.randint(2, (20,))}
    problem = ds.Problem(model=TwoInputs, objective="cross_entropy", train=batch)
    model = problem.build(0)
    model.embed.weight.requires_grad_(False)
    found = ds.landscape(problem, model, points=7, progress=False)
    assert np.isfinite(found.values).all()
    assert found.vectors[0].numel() == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 2}, "at least 3"),
        ({"directions": "randm"}, "did you mean 'random'"),
        ({"directions": ("up", "top")}, "direction 'up' is not known"),
        ({"directions": "pca"}, "needs a trajectory"),
        ({"directions": (torch.ones(3),)}, "has 3 entries, the model 74"),
        ({"normalise": "filters"}, "must be one of filter"),
        ({"span": -1.0}, "must be a number above 0"),
        ({"dimensions": 3}, "must be 1, a line, or 2"),
        ({"to": nn.Linear(2, 2)}, "not alike"),
        ({"quantity": "acuracy"}, "did you mean 'accuracy'"),
        ({"layers": "9"}, "no parameter of '9'"),
        ({"model": nn.Linear(3, 3)}, "does not run on the problem's examples"),
    ],
)
def test_what_cannot_be_sliced_is_told_in_one_line(options, said) -> None:
    with pytest.raises(InputError, match=said) as told:
        look(**options)
    assert "\n" not in str(told.value)


def test_a_convolution_of_one_channel_is_laid_out_with_its_channels_last_too() -> None:
    """`contiguous` takes one channel for both layouts, and the layer then puts out the slow one."""
    conv = nn.Conv2d(1, 4, 3)
    problem = ds.Problem(
        model=lambda: nn.Sequential(conv, nn.Flatten(), nn.Linear(4 * 36, 2)), objective="cross_entropy",
        train=(torch.randn(6, 1, 8, 8), torch.tensor([0, 1] * 3)),
    )  # fmt: skip
    ground = ground_of(problem)
    heights = Heights(ground, [torch.zeros(ground.size)])
    heights._lay(True, None)
    model: Any = ground.model
    assert model[0](torch.randn(2, 1, 8, 8)).is_contiguous(memory_format=torch.channels_last)
