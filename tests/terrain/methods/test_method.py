"""What all methods share: closures of any loop, states, groups, bad starts, ends; each of the catalogue."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import ModelError, ObjectiveError, RecipeError, UnknownNameError
from downslope.terrain.ground import Ground
from downslope.terrain.methods import LBFGS, Method, MethodRow, Newton, NewtonCG, catalogue

ROWS = [row for row in catalogue() if row.cls.__module__.startswith("downslope.terrain.methods")]
OF_CLOSURES = [
    row for row in ROWS
    if row.name in (
        "newton", "trust_region", "saddle_free_newton", "newton_cg", "nonlinear_cg", "lbfgs",
        "coordinate_descent", "block_coordinate_descent",
    )
]  # fmt: skip


def task() -> tuple[nn.Module, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    y = (x.sum(1, keepdim=True)).sin()
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), x, y


@pytest.mark.parametrize("row", OF_CLOSURES, ids=lambda row: row.name)
def test_it_steps_in_a_loop_of_ones_own(row: MethodRow) -> None:
    model, x, y = task()
    method = row.cls(model.parameters())
    loss_fn = nn.MSELoss()
    losses = [method.step(lambda: loss_fn(model(x), y)) for _ in range(6)]
    assert losses[-1] < 0.7 * losses[0]
    assert sorted(losses, reverse=True) == losses
    assert method.evaluations >= 6


@pytest.mark.parametrize("row", OF_CLOSURES, ids=lambda row: row.name)
def test_a_closure_that_goes_backward_gives_the_same_steps(row: MethodRow) -> None:
    found: list[Tensor] = []
    for backward in (False, True):
        model, x, y = task()
        method = row.cls(model.parameters())

        def closure(
            backward: bool = backward, model: Any = model, x: Any = x, y: Any = y, m: Any = method
        ) -> Any:
            m.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            if backward:
                loss.backward()
            return loss

        for _ in range(3):
            method.step(closure)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert all(p.grad is not None for p in model.parameters())
    assert torch.equal(*found)


@pytest.mark.parametrize("row", OF_CLOSURES, ids=lambda row: row.name)
def test_its_state_goes_on_with_the_same_bits(row: MethodRow) -> None:
    def run(steps: int, load: dict[str, Any] | None = None, weights: Any = None) -> tuple[Method, nn.Module]:
        model, x, y = task()
        if weights is not None:
            model.load_state_dict(weights)
        method = row.cls(model.parameters())
        if load is not None:
            method.load_state_dict(load)
        for _ in range(steps):
            method.step(lambda: nn.functional.mse_loss(model(x), y))
        return method, model

    whole = run(5)[1].state_dict()
    method, model = run(2)
    again = run(3, method.state_dict(), model.state_dict())[1].state_dict()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_row_names_what_it_is(row: MethodRow) -> None:
    assert names.resolve("optimizer", row.name) is row.cls
    assert row.title
    assert row.source
    assert row.batch in ("large", "full", None)
    assert all(each.domain != "any" for each in row.hyper_parameters if each.name == "lr")


def test_rows_print_as_wide_as_the_terminal_and_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = catalogue()
    lines = str(rows).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == list(rows.keys())
    for row in rows:
        assert all(each.name in str(rows) for each in row.hyper_parameters)
    assert rows["L-BFGS"].cls is LBFGS
    assert "adam" not in rows
    with pytest.raises(UnknownNameError, match=r"ds.optim.catalogue\(\) the rest"):
        rows["adam"]


def test_aliases_and_hyphens_mean_the_same_method() -> None:
    for spelt, name in [("newton-cg", "newton_cg"), ("L-BFGS", "lbfgs"), ("saddle-free-newton", None)]:
        assert names.canonical("optimizer", spelt) == (name or spelt.replace("-", "_"))


def test_no_closure_is_refused_with_how_to_give_one() -> None:
    with pytest.raises(ModelError, match=r"step\(lambda: loss_fn"):
        LBFGS([nn.Parameter(torch.zeros(2))]).step()


@pytest.mark.parametrize(
    ("value", "said"),
    [(lambda p: p, "shape"), (lambda p: p.sum().item(), "float"), (lambda p: None, "NoneType")],
)
def test_a_loss_that_is_no_scalar_is_told(value: Any, said: str) -> None:
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(ObjectiveError, match=said):
        NewtonCG([p]).step(lambda: value(p))


def test_a_start_that_is_not_finite_is_told() -> None:
    p = nn.Parameter(torch.tensor([-1.0]))
    with pytest.raises(ObjectiveError, match="finite start"):
        LBFGS([p]).step(lambda: p.log().sum())


def test_groups_may_differ_in_their_decay_only() -> None:
    a, b = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    with pytest.raises(ModelError, match="weight_decay only"):
        LBFGS([{"params": [a]}, {"params": [b], "lr": 0.1}])
    method = Newton([{"params": [a], "weight_decay": 2.0}, {"params": [b]}])
    method.step(lambda: (a - 3).square().sum() + (b - 3).square().sum())
    assert a.item() == pytest.approx(1.5)  # 2 (a - 3) + 2 a = 0
    assert b.item() == pytest.approx(3.0)


def test_a_zero_gradient_is_an_end_and_leaves_the_parameters() -> None:
    p = nn.Parameter(torch.zeros(2))
    method = LBFGS([p])
    method.step(lambda: p.square().sum())
    assert method.last is not None
    assert method.last.converged
    assert "gradient is zero" in method.last.said


@pytest.mark.parametrize("row", OF_CLOSURES, ids=lambda row: row.name)
def test_a_gradient_whose_square_is_zero_is_an_end_too(row: MethodRow) -> None:
    p = nn.Parameter(torch.tensor([3e-170, -1e-200], dtype=torch.float64))
    method = row.cls([p])
    for _ in range(3):
        method.step(lambda: 0.5 * p.square().sum())
    assert method.last is not None
    assert method.last.converged


def test_rate_zero_moves_nothing() -> None:
    p = nn.Parameter(torch.ones(2))
    method = LBFGS([p], lr=0.0)
    method.step(lambda: p.square().sum())
    assert bool((p == 1).all())


def test_a_float32_run_ends_at_the_rounding_of_float32() -> None:
    model, x, y = task()
    model, x, y = model.float(), x.float(), y.float()
    method = LBFGS(model.parameters())
    ground = Ground([(lambda: nn.functional.mse_loss(model(x), y) + 1.0, 1.0)], list(model.parameters()))
    for _ in range(2000):
        method.step(ground)
        assert method.last is not None
        if method.last.converged or not method.last.accepted:
            break
    assert method.last is not None
    assert method.last.converged
    assert "within rounding" in method.last.said


def test_parameters_that_change_in_number_begin_the_memory_anew() -> None:
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    method = LBFGS([a, b])
    for _ in range(3):
        method.step(lambda: (a - 2).pow(4).sum() + (b - 3).pow(4).sum())
    b.requires_grad_(False)
    method.step(lambda: (a - 2).pow(4).sum())
    assert math.isfinite(a.sum().item())


def test_settings_are_checked_when_a_group_is_added() -> None:
    with pytest.raises(RecipeError, match="history_size"):
        LBFGS([{"params": [nn.Parameter(torch.zeros(1))], "history_size": 0}])
