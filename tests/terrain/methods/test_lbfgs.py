"""L-BFGS: BFGS with enough memory, and no more evaluations than SciPy's on the same problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from downslope.terrain.methods import LBFGS
from downslope.terrain.methods.lbfgs import two_loop
from tests.terrain.methods.problems import F, Path, beale, numpy_of, quadratic, rosenbrock


def test_with_enough_memory_the_recursion_is_bfgs() -> None:
    draw = torch.Generator().manual_seed(0)
    n, pairs = 6, 5
    s = [torch.randn(n, generator=draw, dtype=torch.float64) for _ in range(pairs)]
    a = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    y = [a @ each for each in s]
    gamma = float(s[-1] @ y[-1] / (y[-1] @ y[-1]))
    h = gamma * np.eye(n)
    for si, yi in zip((each.numpy() for each in s), (each.numpy() for each in y), strict=True):
        rho = 1 / (si @ yi)
        left = np.eye(n) - rho * np.outer(si, yi)
        h = left @ h @ left.T + rho * np.outer(si, si)
    g = torch.randn(n, generator=draw, dtype=torch.float64)
    np.testing.assert_allclose(two_loop(g, s, y).numpy(), h @ g.numpy(), rtol=1e-12)


PROBLEMS: dict[str, tuple[F, list[float], float]] = {
    "rosenbrock 2": (rosenbrock, [-1.2, 1.0], 0.0),
    "rosenbrock 10": (rosenbrock, [-1.2, 1.0] * 5, 0.0),
    "beale": (beale, [1.0, 1.0], 0.0),
    "bowl": (quadratic(np.logspace(0, 2, 20))[0], [1.0] * 20, np.nan),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_takes_no_more_evaluations_than_scipys_to_the_same_slope(name: str) -> None:
    f, start, _ = PROBLEMS[name]
    options: dict[str, Any] = {"ftol": 0, "gtol": 1e-6, "maxcor": 10, "maxfun": 10**4, "maxiter": 10**4}
    theirs = minimize(numpy_of(f), start, jac=True, method="L-BFGS-B", options=options)
    ours = Path(f, start, LBFGS, 400, gtol=1e-6)
    assert ours.slope <= 1e-6
    assert ours.method.evaluations <= theirs.nfev


def test_the_first_steps_are_those_of_scipys() -> None:
    seen: list[Any] = []
    minimize(
        numpy_of(rosenbrock),
        [-1.2, 1.0],
        jac=True,
        method="L-BFGS-B",
        callback=lambda x: seen.append(x.copy()),
    )
    ours = Path(rosenbrock, [-1.2, 1.0], LBFGS, 12)
    np.testing.assert_allclose(
        np.stack([x.numpy() for x in ours.points[1:13]]), np.stack(seen[:12]), rtol=1e-6
    )


@pytest.mark.parametrize("line_search", ["more_thuente", "strong_wolfe", "armijo"])
@pytest.mark.parametrize("update", ["skip", "powell"])
def test_every_search_and_update_finds_the_minimum(line_search: str, update: str) -> None:
    path = Path(rosenbrock, [-1.2, 1.0], LBFGS, 200, line_search=line_search, update=update)
    np.testing.assert_allclose(path.x, [1.0, 1.0], rtol=1e-6)


def test_a_pair_without_curvature_is_left_out() -> None:
    path = Path(lambda x: -(x**2).sum() + 0.25 * (x**4).sum(), [0.1, 0.05], LBFGS, 1, line_search="armijo")
    assert path.method.memory["steps"] == []


def test_a_state_goes_through_a_file_and_steps_on_with_the_same_bits(tmp_path: Any) -> None:
    whole = Path(rosenbrock, [-1.2, 1.0], LBFGS, 15)
    part = Path(rosenbrock, [-1.2, 1.0], LBFGS, 7)
    torch.save(part.method.state_dict(), tmp_path / "state.pt")
    again = Path(rosenbrock, part.x, LBFGS, 0)
    again.method.load_state_dict(torch.load(tmp_path / "state.pt"))
    for _ in range(8):
        again.method.step(again.ground)
    assert torch.equal(again.p.detach(), whole.points[-1])
