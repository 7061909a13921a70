"""Every sentence of a survey, beside the numbers that it is of."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.terrain.noise import Noise
from downslope.terrain.surveys import telling
from downslope.terrain.surveys.ends import unknown
from downslope.terrain.surveys.kind import Judged, Kind, View
from downslope.terrain.surveys.terrain import Layer, Terrain, _thinned, turned

VIEW = View(slope=0.0, high=2.0, low=1.0, reach=0.1, scale=5.0)
STILL = "the slope could win nothing of 5 within a move of 0.1, and"


@pytest.mark.parametrize(
    ("kind", "strict", "degenerate", "seen", "said"),
    [
        ("slope", False, False, {"slope": 0.3},
         "the slope could win 0.3 of 5 within a move of 0.1, so it leads on"),
        ("plateau", False, False, {},
         "within a move of 0.1 slope and curvature could change the loss by 0.4 % of its scale 5"),
        ("saddle", False, False, {"low": -1.0, "low_error": 0.1},
         "the slope could win nothing of 5 within a move of 0.1, but curvature reaches from -1 +- 0.1 to 2"),
        ("saddle", False, True, {"low": 0.0},
         f"{STILL} along directions without curvature the loss goes the other way"),
        ("saddle", False, True, {"low": 0.0, "high": 0.0},
         "slope and curvature vanish, and around it the loss is lower here and higher there"),
        ("maximum", False, True, {},
         "slope and curvature vanish, and the loss is lower at every sample around"),
        ("maximum", True, False, {"high": -1.0, "low": -2.0},
         f"{STILL} every curvature is negative (largest -1)"),
        ("maximum", False, False, {"high": 0.0, "low": -2.0},
         f"{STILL} no curvature is positive (largest 0)"),
        ("minimum", False, True, {}, "it is flat all around, and no value anywhere is lower"),
        ("minimum", False, True, {"rises": 1.0},
         "slope and curvature vanish, and the loss is higher at every sample around"),
        ("minimum", False, False, {"low": -0.5, "drop": 1e-7},
         f"{STILL} along what curvature is below zero (smallest -0.5) only 1.0e-7, measured"),
        ("minimum", True, False, {}, f"{STILL} every curvature is positive (smallest 1)"),
        ("minimum", False, False, {"low": 0.0}, f"{STILL} no curvature is negative (smallest 0)"),
        ("minimum", True, False, {"slope": 0.01},
         "a critical point lies within 0.0001, a thousandth of the reach, and every curvature is positive "
         "(smallest 1)"),
        ("minimum", True, False, {"slope": 0.01, "noise": True},
         "the slope could win 0.01 of 5 within a move of 0.1, and every curvature is positive (smallest 1)"),
    ],
)  # fmt: skip
def test_a_kind_is_told_with_the_numbers_that_made_it(
    kind: Kind, strict: bool, degenerate: bool, seen: dict[str, Any], said: str
) -> None:
    assert telling.why(Judged(kind, strict, degenerate, 0.004), VIEW._replace(**seen)) == said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("minimum", "lower along none of the directions looked along, and higher along some"),
        ("maximum", "higher along none of the directions looked along, and lower along some"),
        ("saddle", "lower both ways along one direction, and higher along another"),
        ("slope", "a move leads on by 0.3, in proportion to its length"),
        ("plateau", "the loss changes nowhere"),
    ],
)
def test_on_a_kink_it_is_told_that_samples_were_asked(kind: Kind, said: str) -> None:
    told = telling.why(Judged(kind, False, True, 0.0), VIEW._replace(kink=True, slope=0.3))
    assert told.startswith("it stands on a kink, where samples tell and not derivatives; within 0.1 ")
    assert told.endswith(said)


def notes(kind: Kind, *, settled: bool = True, strict: bool = True, exact: bool = True, **seen: Any) -> str:
    judged, found = Judged(kind, strict, False, 0.0), unknown(torch.zeros(1))._replace(settled=settled)
    return " ".join(telling.of_view(VIEW._replace(**seen), judged, found, exact))


def test_what_leaves_a_kind_in_doubt_is_noted_and_nothing_else() -> None:
    assert notes("minimum") == ""
    assert notes("minimum", settled=False, low_error=3.0) == (
        "undecided: no negative curvature found below -2; the smallest eigenvalue has not converged"
    )
    assert (
        notes("saddle", settled=False)
        == "the smallest eigenvalue has not converged: there may be one below 1"
    )
    assert notes("slope", settled=False) == notes("minimum", settled=False, kink=True) == ""
    assert (
        "some curvature is negative, -1, but it counts for nothing: along it the loss falls by 0.2"
        in notes("minimum", low=-1.0, drop=0.2)
    )
    assert notes("minimum", strict=False).startswith("not strict: some curvature is zero within its error")
    assert notes("minimum", strict=False, kink=True) == notes("maximum", strict=False) == ""
    assert "within the noise of the examples left out" in notes("saddle", noise=True)
    assert notes("plateau", noise=True) == ""
    assert "products are differences of gradients" in notes("slope", exact=False)


def test_what_is_missing_is_told_with_its_reason() -> None:
    assert telling.of_cuts([], interrupted=True) == []
    assert telling.of_cuts(["layers", "density"], interrupted=True) == [
        "interrupted: not measured are layers, density"
    ]
    assert telling.of_cuts(["layers"], interrupted=False) == ["out of time: not measured are layers"]


@pytest.fixture(scope="module")
def saddle() -> Terrain:
    return ds.survey(ds.functions.get("saddle").problem((0.0, 0.0)), progress=False)


def test_the_way_is_told_by_what_found_it_and_where_it_leads(saddle: Terrain) -> None:
    way = saddle.escape
    assert way is not None

    def told(**changes: Any) -> str:
        return dict(replace(saddle, escape=replace(way, **changes)).labelled())["way"]

    assert told(curvature=-2.0, error=0.0, fall=0.25, at=0.5) == (
        "along curvature -2 the loss falls by 0.25 after 0.5, measured"
    )
    assert told(fall=0.0).endswith("the loss only rises, on the moves that were measured")
    assert told(curvature=0.0, error=1.0).startswith(
        "along a direction that samples found, and no curvature shows, "
    )
    other = turned(saddle)
    assert other.escape is not None
    assert "the loss rises by" in dict(other.labelled())["way"]
    assert dict(replace(other, escape=replace(other.escape, fall=0.0)).labelled())["way"].endswith(
        "the loss only falls, on the moves that were measured"
    )


def test_bounds_are_told_as_bounds_and_counts_as_what_they_are(saddle: Terrain) -> None:
    whole = replace(saddle, condition=7.0, trace=3.0, trace_error=0.5, index=2, flat=1)
    assert telling._spread(whole) == ("condition 7, trace 3 +- 0.5, 2 negative directions, 1 flat direction")
    part = replace(whole, complete=False)
    assert telling._spread(part) == (
        "condition at least 7, trace 3 +- 0.5, at least 2 negative directions, at least 1 flat direction"
    )
    assert telling._spread(replace(whole, trace=float("nan"), index=0, flat=0)) == "condition 7"
    share = SimpleNamespace(negative=SimpleNamespace(value=0.25, low=0.1, high=0.6, probes=4))
    assert "at least 2 negative directions, 25 % (10 to 60) of all negative" in telling._spread(
        replace(part, density=share)
    )
    assert "% of all" not in telling._spread(replace(whole, density=share))
    assert whole.negative_mass == 2 / whole.size
    assert part.negative_mass is None


def test_the_noise_scale_is_told_with_where_its_moments_errors_leave_it():
    told = telling._batch(
        Noise(scale=20.0, trace=2.0, squared_norm=0.1, trace_error=0.2, squared_norm_error=0.05)
    )
    assert told.endswith("balance at a batch of 20 (12 to 44, within standard errors)")
    wide = Noise(scale=20.0, trace=2.0, squared_norm=0.1, trace_error=0.2, squared_norm_error=0.3)
    assert "(4.5 or more, within" in telling._batch(wide)
    nothing = Noise(math.inf, 2.0, -0.1, 0.2, 0.3)
    assert telling._batch(nothing).startswith("no signal of the gradient")
    assert telling._batch(nothing).endswith("the batch is 9 at least")
    assert telling._batch(Noise(20.0, 2.0, 0.1, math.nan, math.nan)).endswith("a batch of 20")


def test_the_mirror_image_turns_every_number_that_has_a_sign(saddle: Terrain) -> None:
    values, errors = torch.tensor([5.0, 1.0, -2.0]).double(), torch.tensor([0.1, 0.2, 0.3]).double()
    given = replace(
        saddle,
        eigenvalues=values,
        residuals=errors,
        trace=4.0,
        index=1,
        layers=(Layer("a", 3, 4.0, 0.5, 5.0),),
    )
    found = turned(given)
    assert found.eigenvalues.tolist() == [2.0, -1.0, -5.0]
    assert found.residuals.tolist() == errors.flip(0).tolist()
    assert (found.trace, found.index, found.loss, found.maximize) == (-4.0, 2, -given.loss, True)
    assert (found.layers[0].trace, found.layers[0].sharpness) == (-4.0, 5.0)
    assert found.escape is not None
    assert given.escape is not None
    assert found.escape.curvature == -given.escape.curvature
    assert found.escape.profile.losses == tuple(-each for each in given.escape.profile.losses)
    assert "maximised: this is the terrain of the objective itself" in found.notes[-1]


def test_a_density_is_written_down_at_512_places_at_most() -> None:
    fine: Any = SimpleNamespace(
        grid=torch.arange(2000.0), values=torch.zeros(2000), error=torch.zeros(2000), width=0.1, zero=0.0,
        outliers=torch.arange(600.0),
    )  # fmt: skip
    kept = _thinned(fine)
    assert kept["grid"] == [4.0 * k for k in range(500)]
    assert len(kept["values"]) == len(kept["error"]) == 500
    assert kept["outliers"][0] == 88.0
