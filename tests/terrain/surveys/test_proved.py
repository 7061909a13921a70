"""A proof and a measurement of one problem do not contradict one another."""

from __future__ import annotations

import pytest
import torch

import downslope as ds
from downslope.terrain.convexity.convexity import Convexity
from downslope.terrain.surveys.ends import Ends
from downslope.terrain.surveys.kind import Judged, View
from downslope.terrain.surveys.proved import agreeing

CONVEX = Convexity(convex=True, proved=True, minima="one")
VIEW = View(0.0, 2.0, -1e-6, 0.1, 1.0, high_error=1e-9, low_error=1e-9, exact=True)
ENDS = Ends(
    torch.tensor([2.0, -1e-6]).double(), torch.full((2,), 1e-9).double(), torch.eye(2), complete=True,
    settled=True, products=2,
)  # fmt: skip


def test_what_is_measured_below_zero_of_a_convex_problem_is_rounding() -> None:
    saddle = Judged("saddle", False, False, 0.5)
    judged, view, found, said = agreeing(saddle, VIEW, ENDS, CONVEX)
    assert (judged.kind, judged.strict) == ("minimum", False)
    assert bool((found.values >= -found.errors).all())
    assert view.low_error == pytest.approx(1e-6)
    assert "rounding" in said
    untouched = agreeing(saddle, VIEW, ENDS, Convexity(convex=None))
    assert untouched == (saddle, VIEW, ENDS, "")


def test_where_no_minimum_is_attained_there_is_none() -> None:
    none = Convexity(convex=True, proved=True, minima="none")
    for change, kind in ((0.001, "plateau"), (0.5, "slope")):
        assert agreeing(Judged("minimum", True, False, change), VIEW, ENDS, none)[0].kind == kind


def test_the_tail_of_a_softmax_that_separates_is_a_plateau_and_no_saddle() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 4, generator=draw)
    problem = ds.Problem(model="softmax", objective="cross_entropy", train=(x, (x[:, 0] > 0).long()))
    run = ds.fit(
        problem, ds.Recipe(optimizer="lbfgs", steps=200, batch_size="full"), folder=False, progress=False,
        observe=0,
    )  # fmt: skip
    found = ds.survey(problem, run, examples="all", progress=False)
    assert found.convexity is not None
    assert found.convexity.minima == "none"
    assert (found.kind, found.index, found.escape) == ("plateau", 0, None)
    assert run.facts["method"]
    assert not [each for each in run.facts["method"] if "saddle" in each["said"]]
