"""Runs under a constraint: they start and end every step inside it, and end where SciPy's solvers end."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, nnls
from torch import nn

import downslope as ds
from downslope.core.errors import InputError, RunFolderError

C = ds.constraints


def made(n: int = 60, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(n, d))
    return x, x @ np.array([[1.5], [-1.0], [0.3], [-0.2]]) + 0.1 * draw.normal(size=(n, 1))


def problem(constraint: Any, **more: Any) -> ds.Problem:
    x, y = made()
    model = nn.Linear(4, 1, bias=False).double()
    return ds.Problem(model=model, objective="squared_error", train=(x, y), constraint=constraint, **more)


RECIPE = ds.Recipe(optimizer="gd", lr=0.3, steps=300)


def fit(given: ds.Problem, recipe: ds.Recipe = RECIPE, **more: Any) -> ds.Run:
    return ds.fit(given, recipe, folder=more.pop("folder", False), progress=False, observe=0, **more)


def test_projected_descent_ends_in_the_non_negative_least_squares() -> None:
    x, y = made()
    run = fit(problem("non_negative"))
    peer, _ = nnls(x, y[:, 0])
    np.testing.assert_allclose(run.model().weight.detach()[0], peer, atol=1e-8)
    assert (peer == 0).any()


def test_projected_descent_ends_in_the_bounded_least_squares() -> None:
    x, y = made()
    run = fit(problem(C.box(-0.5, 1)))
    peer = lsq_linear(x, y[:, 0], (-0.5, 1), tol=1e-14).x
    np.testing.assert_allclose(run.model().weight.detach()[0], peer, atol=1e-8)


@pytest.mark.parametrize(
    "text",
    ["box(-0.1, 0.1)", "non_negative", "l2_ball(0.5)", "max_norm(0.3)", "simplex", "orthogonal",
     "non_negative & l2_ball(0.5)", "box(1, 2) | box(-2, -1)", "simplex(by='parametrisation')",
     "orthogonal(by='parametrisation')", "l2_ball(0.5, by='parametrisation')",
     "box(-1, 1, by='parametrisation')"],
)  # fmt: skip
def test_every_step_starts_and_ends_inside(text: str) -> None:
    data = ds.data.wine(standardise=True)
    given = ds.Problem(
        model="mlp", arguments={"width": 8}, objective="cross_entropy", train=data.train, constraint=text
    )
    seen: list[float] = []

    def watch(state: Any) -> None:
        weights = [m.weight for m in state.model.modules() if isinstance(m, nn.Linear)]
        inside = C.read(text.replace("by='parametrisation'", "").replace(", )", ")").replace("()", ""))
        seen.append(max(inside.distance(w.detach()) for w in weights))

    run = ds.fit(
        given, ds.Recipe(optimizer="adam", lr=0.05, epochs=3), folder=False, progress=False, on_probe=watch,
        observe=0.9,
    )  # fmt: skip
    assert run.status == "done"
    assert len(seen) > 3
    assert max(seen) < 2e-6


@pytest.mark.parametrize(
    "make",
    [C.non_negative, partial(C.box, -0.5, 0.7), C.simplex, partial(C.l2_ball, 1.5), partial(C.max_norm, 1.5)],
)
@pytest.mark.parametrize("seed", range(2))
def test_what_is_parametrised_comes_from_its_start_to_where_projected_descent_ends(
    make: Any, seed: int
) -> None:
    """No start lies where the map is flat, though it comes from far outside, so that the weights can move."""

    def far() -> nn.Module:
        layer = nn.Linear(4, 1, bias=False)
        layer.weight.data.mul_(40)
        return layer

    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 4))
    y = x @ [1, -2, 3, 0.5] + draw.normal(size=80) / 2
    ends: list[float] = []
    for by, lr, steps in (("projection", 0.05, 400), ("parametrisation", 0.1, 4000)):
        given = ds.Problem(model=far, objective="squared_error",
                           train=(x, y), constraint=make(by=by))  # fmt: skip
        how = ds.Recipe(optimizer="gd", lr=lr, steps=steps, batch_size="full", precision="float64", seed=seed)
        ends.append(fit(given, how).summary["train_loss"])
    assert ends[1] == pytest.approx(ends[0], rel=0.01)


@pytest.mark.parametrize("by", ["projection", "parametrisation"])
def test_a_resumed_run_ends_where_an_unbroken_one_ends(tmp_path: Path, by: str) -> None:
    given = problem(C.box(-0.5, 1, by=by))
    whole = fit(given, RECIPE.edit(steps=60), folder=tmp_path / "whole")
    fit(given, RECIPE.edit(steps=25), folder=tmp_path / "part")
    again = fit(given, RECIPE.edit(steps=60), folder=tmp_path / "part", resume=True)
    for a, b in zip(whole.model().parameters(), again.model().parameters(), strict=True):
        assert torch.equal(a, b)
    kept = ds.load_run(tmp_path / "whole", problem=given)
    for a, b in zip(whole.model().parameters(), kept.model().parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_is_not_resumed_under_another_constraint(tmp_path: Path) -> None:
    fit(problem("non_negative"), RECIPE.edit(steps=5), folder=tmp_path / "run")
    with pytest.raises(RunFolderError, match="constraint non_negative there and None here"):
        fit(problem(None), RECIPE.edit(steps=9), folder=tmp_path / "run", resume=True)


def test_a_problem_says_its_constraint_and_an_edit_changes_it() -> None:
    given = problem("box(0, 1) & l2_ball(2)")
    assert given.describe()["constraint"] == "box(0, 1) & l2_ball(2)"
    assert given.edit(constraint="simplex").constraint == C.simplex()
    assert problem(None).describe()["constraint"] is None


def test_only_the_parameters_that_are_named_are_held() -> None:
    given = ds.Problem(
        model=nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), objective="squared_error",
        train=tuple(torch.tensor(each).float() for each in made()), constraint=C.box(0, 0.1, params="1.*"),
    )  # fmt: skip
    model = fit(given, ds.Recipe(optimizer="gd", lr=0.01, steps=20)).model()
    held, free = model[1], model[0]
    assert all(bool(((p >= 0) & (p <= 0.1)).all()) for p in held.parameters())
    assert not all(bool(((p >= 0) & (p <= 0.1)).all()) for p in free.parameters())


def test_a_name_that_no_parameter_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no parameter 'wieght'; did you mean 'weight'"):
        problem(C.box(params="wieght")).build()


def test_a_function_of_ones_own_is_called_on_the_start_and_after_every_step() -> None:
    calls: list[float] = []

    def first_is_zero(model: nn.Module) -> None:
        model.weight[0, 0] = 0.0
        calls.append(1.0)

    run = fit(problem(first_is_zero), RECIPE.edit(steps=7))
    assert run.model().weight[0, 0] == 0
    assert len(calls) >= 8


def test_a_function_that_fails_is_told_in_one_line() -> None:
    def broken(model: nn.Module) -> None:
        raise KeyError("lost")

    with pytest.raises(InputError, match="the constraint failed: KeyError"):
        problem(broken).build()


def test_how_far_a_model_is_outside_is_told() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
    assert C.l2_ball(1.0).violation(model) == pytest.approx(4.0)
    C.l2_ball(1.0)(model)
    assert C.l2_ball(1.0).violation(model) == 0
