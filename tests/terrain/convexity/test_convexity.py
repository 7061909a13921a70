"""What counts as a proof that a problem is not convex, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds


class Of(nn.Module):
    """A function of its weights alone."""

    def __init__(self, function: Any, at: list[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.tensor(at, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w).expand(len(x))


def of(function: Any, at: list[float], dtype: torch.dtype = torch.float32) -> ds.Problem:
    return ds.Problem(
        model=Of(function, at, dtype), objective=lambda output, target: output.mean(),
        train=(torch.zeros(4, 1, dtype=dtype), torch.zeros(4, dtype=dtype)),
    )  # fmt: skip


CONVEX: dict[str, Any] = {
    "logsumexp": lambda w: torch.logsumexp(w, 0),
    "softplus": lambda w: nn.functional.softplus(w).sum(),
    "shifted square": lambda w: ((w + 1e6) ** 2).sum() - 3e12,
    "norm": lambda w: (w.square().sum() + 1e-6).sqrt(),
    "maximum": lambda w: w.max(),
}


@pytest.mark.parametrize("name", CONVEX)
def test_what_rounding_leaves_of_terms_that_cancel_refutes_nothing(name: str) -> None:
    problem = of(CONVEX[name], [1.0, 2.0, 3.0])
    for seed in range(8):
        found = ds.convexity(problem, seed=seed)
        assert (found.convex, found.by, found.proved) == (None, "samples", False)


def test_a_slight_but_real_bend_is_still_a_witness_that_chords_confirm() -> None:
    bent = of(lambda w: w[0] ** 2 - 1e-6 * w[1] ** 2, [1.0, 1.0])
    found = ds.convexity(bent)
    assert (found.convex, found.by, found.proved) == (False, "curvature", True)
    assert found.witness is not None
    assert found.witness.excess == pytest.approx(-2e-6, rel=1e-3)


def test_a_survey_that_decides_nothing_says_so() -> None:
    told = ds.survey(of(CONVEX["logsumexp"], [1.0, 2.0, 3.0]), progress=False).convexity
    assert told is not None
    assert (told.convex, told.by, told.looked) == (None, "samples", "this point")


def test_another_model_than_the_problems_own_is_surveyed() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=draw), torch.randn(40, 3, generator=draw)
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(5, 3)), objective="squared_error", train=(x, y)
    )
    own, other = ds.survey(problem, progress=False), ds.survey(problem, nn.Linear(5, 3), progress=False)
    assert own.convexity is not None
    assert other.convexity is not None
    assert other.convexity.minima == "one"
    assert other.convexity.optimum == pytest.approx(own.convexity.optimum)


def test_what_has_to_stand_still_for_a_proof_is_told() -> None:
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(40, 3)
    for part, word in ((nn.BatchNorm1d(5, affine=False), "batch norm"), (nn.Dropout(0.5), "dropout")):
        model = nn.Sequential(part, nn.Linear(5, 3))
        problem = ds.Problem(model=model, objective="squared_error", train=(x, y))
        found = ds.convexity(problem)
        assert found.convex
        assert word in found.why
