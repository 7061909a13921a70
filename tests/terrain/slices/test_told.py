"""What slices say of how they were made, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.hvp import flat
from downslope.terrain.slices.heights import Heights
from downslope.terrain.slices.landscape import _coordinates
from tests.terrain.slices.test_landscape import look, made, task


def weights() -> torch.Tensor:
    return flat([p.detach() for p in made().parameters()]).double()


def constant(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return 0 * output.mean()


def root(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (0 * output.square().sum()).sqrt()


DRAWN = torch.randn(74, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": made()}, "the models have the same weights, so there is no line"),
        ({"to": [weights() + 1, weights() + 2]}, "the three models lie on one line"),
        ({"to": [weights() + k for k in (1, 2, 3)]}, "3 models; a line goes to one, a plane to two"),
        ({"directions": "pca", "trajectory": [weights()] * 4}, "does not move in 2 directions"),
        ({"directions": "pca", "trajectory": [weights() + k for k in range(4)]},
         "does not move in 2 directions"),
        ({"directions": "pca", "trajectory": [weights()] * 2}, "at least 3 points, here is 2 points"),
        ({"directions": "gradient", "problem": task(objective=constant, metric=None)},
         "the gradient has length 0 here, no direction"),
        ({"directions": "eigen", "problem": task(objective=root, metric=None)},
         "the Hessian is not finite here"),
        ({"directions": ({"0.weight": torch.ones(8, 6)},)}, "direction 1: no tensor for 0.bias"),
        ({"directions": (DRAWN * float("nan"),)}, "direction 1 is not finite"),
        ({"directions": ("top",) * 3}, "3 of them; a slice has one or two"),
        ({"quantity": "metric", "problem": task(metric=None)}, "the problem has no metric"),
        ({"batch_norm": "thawed"}, "must be 'frozen' or 'recalibrated'"),
        ({"span": (1.0, -1.0)}, "the two ends, the lower first"),
        ({"span": (0.0, float("inf"))}, "the two ends, the lower first"),
    ],
)  # fmt: skip
def test_what_has_no_picture_is_told_in_one_line(options, said) -> None:
    with pytest.raises(InputError, match=said) as told:
        look(points=3, **options)
    assert "\n" not in str(told.value)


def test_weights_of_another_size_are_not_projected() -> None:
    line = look(points=3, dimensions=1)
    with pytest.raises(InputError, match="3 weights cannot be projected: this slice has 74 weights"):
        line.project(torch.ones(3))
    ground = ds.paths("bowl", {"gd": 0.1}, steps=1, points=3).surface
    assert ground is not None
    with pytest.raises(InputError, match="this slice has no weights"):
        ground.project(torch.ones(2))


def test_a_slice_that_would_take_long_is_interpolated_and_nothing_of_it_is_missing(monkeypatch) -> None:
    monkeypatch.setattr("downslope.terrain.slices.work.PATIENCE", -1.0)
    found = look(points=13)
    assert found.evaluated.sum() < found.values.size
    assert not found.missing.any()
    monkeypatch.setattr("downslope.terrain.slices.work.TOLERANCE", 0.0)
    missed = look(points=13)
    assert missed.evaluated.all()
    assert missed.accuracy is None
    assert any("missed the tolerance, so every point was evaluated" in each for each in missed.notes)


def test_a_batch_of_points_that_fails_goes_on_one_by_one_and_is_told(monkeypatch) -> None:
    alone = look(points=7)
    monkeypatch.setattr("downslope.terrain.slices.heights.LOOPED", 1e9)
    monkeypatch.setattr(Heights, "_timed", lambda *_: 1e-9)
    monkeypatch.setattr(Heights, "_batched", lambda *_: None)
    found = look(points=7)
    assert "a step of the model cannot be batched: points go one by one" in found.notes
    assert found.values == pytest.approx(alone.values, rel=1e-12)


def test_batches_that_give_other_values_are_not_used(monkeypatch) -> None:
    monkeypatch.setattr("downslope.terrain.slices.heights.LOOPED", 1e9)
    monkeypatch.setattr(Heights, "_batched", lambda self, points: np.zeros(len(points)))
    found = look(points=7)
    assert found.values.min() > 0.1


def test_downhill_leads_down_and_a_maximised_objective_is_shown_as_its_negative() -> None:
    down = look(directions="gradient", dimensions=1, points=3, span=0.1)
    assert down.values[2] < down.values[1] < down.values[0]
    plain = look(dimensions=1, points=3)
    up = look(problem=task(maximize=True, metric=None), dimensions=1, points=3)
    assert up.values == pytest.approx(-plain.values)
    assert any("the objective is maximised: shown is its negative" in each for each in up.notes)


def test_a_metric_says_itself_whether_lower_is_better() -> None:
    def missed(output: torch.Tensor, target: torch.Tensor) -> float:
        return float((output.argmax(1) != target).double().mean())

    assert look(quantity=missed, points=3).higher
    for direction in ("min", "max"):
        own = task(metric=missed, metric_goal=direction)
        assert look(problem=own, quantity="metric", points=3).higher == (direction == "max")
    missed.goal = "min"
    found = look(quantity=missed, points=3)
    assert not found.higher
    assert found.lowest is not None
    assert (found.lowest.name, found.lowest.value) == ("lowest", found.values.min())


def test_the_reach_along_eigenvectors_is_where_curvature_alone_adds_twice_the_loss() -> None:
    found = look(directions="eigen", points=3)
    told = next(each for each in found.notes if "largest eigenvalue of the Hessian is" in each)
    assert any("smallest eigenvalue of the Hessian is" in each for each in found.notes)
    largest = float(told.split(" is ")[1].split(" ")[0])
    assert found.axes[0].coordinates[-1] == pytest.approx(
        (4 * found.marks[0].value / largest) ** 0.5, rel=0.02
    )


def test_of_some_layers_alone_eigenvectors_leave_the_others_where_they_are() -> None:
    (vector,) = look(directions=("top",), layers="3", points=3).vectors
    assert not vector[:56].any()
    assert float(vector[56:].norm()) == pytest.approx(1.0)


def test_what_is_all_norm_or_bias_moves_all_the_same() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
    model[1].weight.requires_grad_(False)
    found = look(model, dimensions=1, points=3)
    assert found.vectors[0].any()
    bias = look(made(), dimensions=1, points=3, layers="0.bias").vectors[0]
    assert bias[48:56].all()
    assert not bias[:48].any()


def test_principal_ways_begin_on_the_left_and_the_middle_is_the_model_itself() -> None:
    for sign in (1.0, -1.0):
        way = [weights() + sign * (1 - t) * DRAWN + t * (1 - t) * DRAWN.flip(0) for t in np.linspace(0, 1, 6)]
        found = look(directions="pca", trajectory=way, points=3, span=1.0)
        assert (found.trails[0].at[0] < 0).all()
        assert found.axes[0].coordinates[1] == 0.0
        assert found.origin is not None
        assert found.origin == pytest.approx(way[-1])


def test_the_middle_of_an_axis_is_the_model_itself_to_the_last_digit() -> None:
    for points in range(3, 40, 2):
        for reach in (0.1, 0.3, 0.7, 1.1):
            assert _coordinates(points, reach, (0.0, 0.0))[points // 2] == 0.0


def test_a_loss_of_many_decades_is_drawn_by_its_logarithm_and_a_metric_never() -> None:
    assert look(points=5, span=200.0).log
    assert not look(points=5, span=0.1).log
    assert not look(points=5, span=200.0, quantity="accuracy").log
