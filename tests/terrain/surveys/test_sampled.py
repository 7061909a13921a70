"""Points whose kind and way down no derivative tells, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError
from downslope.reporting.terrain import advice
from downslope.terrain.spectrum import extremes


class Of(nn.Module):
    """A function of its weights alone."""

    def __init__(self, function: Any, at: list[float]) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.tensor(at))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w).expand(len(x))


def of(function: Any, at: list[float], examples: int = 40, **more: Any) -> ds.Problem:
    return ds.Problem(
        model=Of(function, at), objective=lambda output, target: output.mean(),
        train=(torch.zeros(examples, 1), torch.zeros(examples)), **more,
    )  # fmt: skip


BEYOND: dict[str, tuple[Any, str]] = {
    "x^3 - 3xy^2": (lambda w: w[0] ** 3 - 3 * w[0] * w[1] ** 2, "saddle"),
    "x^4 - y^4": (lambda w: w[0] ** 4 - w[1] ** 4, "saddle"),
    "-x^4 - y^4": (lambda w: -(w[0] ** 4) - w[1] ** 4, "maximum"),
    "x^2 - y^4": (lambda w: w[0] ** 2 - w[1] ** 4, "saddle"),
    "x^2 + y^3": (lambda w: w[0] ** 2 + w[1] ** 3, "saddle"),
    "|x| - |y|": (lambda w: w[0].abs() - w[1].abs(), "saddle"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_where_no_curvature_leads_down_samples_find_the_way(name: str) -> None:
    function, kind = BEYOND[name]
    problem = of(function, [0.0, 0.0])
    found = ds.survey(problem, progress=False)
    assert (found.kind, found.degenerate) == (kind, True)
    way = found.escape
    assert way is not None
    assert way.sampled
    moved = way.at * way.by_name["w"].double()
    assert -float(function(moved)) == pytest.approx(way.fall, rel=1e-4)
    assert found.convexity is not None
    assert (found.convexity.convex, found.convexity.by) == (False, "chord")
    assert "samples found" in str(found)


KINKS: dict[str, tuple[Any, str]] = {
    "max(x, -2x) + y^2": (lambda w: torch.maximum(w[0], -2 * w[0]) + w[1] ** 2, "minimum"),
    "relu(x) - relu(-x/2) + y^2": (
        lambda w: torch.relu(w[0]) - torch.relu(-w[0] / 2) + w[1] ** 2, "slope"
    ),
    "-relu(x) + x^2 + y^2": (lambda w: -torch.relu(w[0]) + w[0] ** 2 + w[1] ** 2, "slope"),
    "x^2 + y^2 - |y|": (lambda w: (w**2).sum() - w[1].abs(), "saddle"),
    "norm": (lambda w: w.norm(), "minimum"),
    "sqrt": (lambda w: w.abs().sqrt().sum(), "minimum"),
    "-norm": (lambda w: -w.norm(), "maximum"),
    "|x| + |y|": (lambda w: w.abs().sum(), "minimum"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_on_a_kink_the_loss_around_decides(name: str) -> None:
    function, kind = KINKS[name]
    found = ds.survey(of(function, [0.0, 0.0]), progress=False)
    assert found.kind == kind
    assert (found.escape is not None) == (kind != "minimum")
    assert found.to_dict()["kind"] == kind
    assert found.plot() is not None


@pytest.mark.parametrize(
    ("function", "kind"),
    [(lambda w: w.norm(), "minimum"), (lambda w: w[0].relu() - (-w[0] / 2).relu(), "slope")],
)
def test_on_a_kink_a_maximised_problem_is_told_of_itself(function: Any, kind: str) -> None:
    assert ds.survey(of(function, [0.0, 0.0], maximize=True), progress=False).kind == kind


def test_a_slope_away_from_kinks_is_none_of_theirs() -> None:
    found = ds.survey(of(lambda w: torch.relu(w[0]) + w[1] ** 2, [0.5, 0.5]), progress=False)
    assert (found.kind, found.degenerate, found.escape) == ("slope", False, None)


def test_curvature_that_is_not_finite_is_told_and_not_measured() -> None:
    found = ds.survey(of(lambda w: w.abs().sqrt().sum(), [0.0, 0.0]), progress=False)
    assert bool(found.eigenvalues.isnan().all())
    assert "curvature is not finite" in " ".join(found.notes)
    assert (found.stable_rates, found.layers) == ({}, ())


def test_where_the_gradient_of_every_example_is_zero_the_advice_is_a_move_by_hand() -> None:
    problem = of(lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0])
    terrain = ds.survey(problem, progress=False)
    told = advice(terrain)
    assert "gradient of every example is zero" in told
    model = problem.build()
    line = told[told.index("for n, v") : told.index("), or perturb")]
    exec(line, {"terrain": terrain, "model": model})
    assert terrain.escape is not None
    assert model(torch.zeros(1, 1)).item() == pytest.approx(-terrain.escape.fall)


def test_a_sign_that_float32_leaves_open_is_measured_again_in_float64() -> None:
    problem = of(lambda w: 1e6 * w[0] ** 2 + 1e-4 * w[1] ** 2, [0.0, 0.0])
    found = ds.survey(problem, progress=False)
    assert (found.kind, found.strict, found.flat) == ("minimum", True, 0)
    assert found.condition == pytest.approx(1e10, rel=1e-3)
    assert "float32 does not tell" in " ".join(found.notes)
    flat = ds.survey(of(lambda w: w[0] ** 4 + w[1] ** 4, [0.0, 0.0]), progress=False)
    assert "float32" not in " ".join(flat.notes)
    single = ds.survey(problem, progress=False, dtype="float32")
    assert not single.strict
    assert "dtype=torch.float64" in " ".join(single.notes)


def test_next_to_a_minimum_the_sentence_says_why_its_slope_does_not_count() -> None:
    found = ds.survey(of(lambda w: (w**2).sum(), [1e-4, 0.0]), progress=False)
    assert found.kind == "minimum"
    assert "a critical point lies within" in found.why


@pytest.mark.parametrize(
    ("function", "degenerate"),
    [
        (lambda w: w[0] ** 2 - w[1] ** 4, True),
        (lambda w: w[0] ** 2 + w[1] ** 3, True),
        (lambda w: w[0] ** 2 + w[1] ** 4, True),
        (lambda w: w[0] ** 2 - w[1] ** 2, False),
        (lambda w: w[0] ** 2 + w[1] ** 2, False),
    ],
)
def test_degenerate_is_where_the_eigenvalues_alone_do_not_tell(function: Any, degenerate: bool) -> None:
    assert ds.survey(of(function, [0.0, 0.0]), progress=False).degenerate == degenerate


def test_a_document_holds_the_density_at_a_bounded_number_of_points() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=draw), torch.randn(40, 2, generator=draw)
    problem = ds.Problem(model=lambda: nn.Linear(6, 2), objective="squared_error", train=(x, y))
    made = ds.survey(problem, progress=False, density=True).to_dict()["density"]
    assert len(made["grid"]) == len(made["values"]) == len(made["error"]) <= 512
    assert made["width"] > 0
    assert ds.survey(problem, progress=False).to_dict()["density"] is None


def test_a_dtype_may_be_a_word_and_another_word_is_refused() -> None:
    problem = of(lambda w: (w**2).sum(), [1.0, 0.0])
    assert ds.survey(problem, progress=False, dtype="float64").eigenvalues[0] == pytest.approx(2.0)
    for wrong in ("wide", "int64", "nn"):
        with pytest.raises(InputError, match="dtype"):
            ds.survey(problem, progress=False, dtype=wrong)


def test_ctrl_c_in_the_spectrum_tells_the_eigenvalues_so_far() -> None:
    class Slow:
        size, exact = 50, True
        products = 0

        def product(self, v: Tensor) -> Tensor:
            self.products += 1
            if self.products > 30:
                raise KeyboardInterrupt
            return torch.linspace(-1, 3, 50, dtype=v.dtype) * v

    with pytest.raises(KeyboardInterrupt) as stopped:
        extremes(Slow(), 1, 1, tol=1e-12)  # type: ignore[arg-type]
    told = stopped.value.__notes__[0]
    assert "eigenvalues after" in told
    low, high = (float(told.split()[place]) for place in (-3, -1))
    assert -1.0 <= low < 0 < high <= 3.0


def test_ctrl_c_before_the_kind_is_known_tells_loss_and_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("downslope.terrain.surveys.survey.ends", interrupt)
    with pytest.raises(KeyboardInterrupt) as stopped:
        ds.survey(of(lambda w: (w**2).sum(), [1.0, 0.0]), progress=False)
    assert "loss 1, slope 2" in stopped.value.__notes__[0]


def test_ground_without_a_derivative_that_changes_nowhere_is_a_plateau() -> None:
    found = ds.survey(of(lambda w: 1 + (0 * w).abs().sqrt().sum(), [0.0, 0.0]), progress=False)
    assert (found.kind, found.escape) == ("plateau", None)
    assert "the loss changes nowhere" in found.why


def test_of_a_few_weights_every_coordinate_is_looked_along() -> None:
    """|w|_1 - 1.5 |w|_inf falls along the coordinates alone, from which a random direction is far."""
    found = ds.survey(of(lambda w: w.abs().sum() - 1.5 * w.abs().max(), [0.0] * 20), progress=False)
    assert found.kind == "saddle"
    assert found.escape is not None
    assert found.escape.by_name["w"].abs().max() == pytest.approx(1.0)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_way_points_to_where_the_loss_falls_further(side: float) -> None:
    problem = of(lambda w: w[0] ** 2 - w[1] ** 2 + 0.3 * side * w[1] ** 3, [0.0, 0.0])
    way = ds.survey(problem, progress=False).escape
    assert way is not None
    assert way.at > 0
    assert way.by_name["w"][1].item() == pytest.approx(-side)


def test_at_an_edge_of_where_the_loss_is_defined_that_is_said_and_no_cure_that_is_none() -> None:
    problem = of(lambda w: w[0].sqrt() + w[1] ** 2, [0.0, 0.0])
    for dtype in ("float32", "float64"):
        found = ds.survey(problem, progress=False, dtype=dtype)
        told = " ".join(found.notes)
        assert "of the samples around are not finite" in told
        assert "float64" not in told
    assert "not finite: it" not in str(ds.survey(of(lambda w: w.norm(), [0.0, 0.0]), progress=False))


def test_on_a_kink_that_is_a_minimum_no_learning_rate_is_stable() -> None:
    y = torch.tensor([[1.0], [2.0], [3.0], [4.0], [9.0]])
    problem = ds.Problem(
        model=lambda: nn.Linear(1, 1),
        objective="absolute_error",
        train=(torch.linspace(-1, 1, 5)[:, None], y),
    )
    model = problem.build()
    model.load_state_dict({"weight": torch.tensor([[2.0]]), "bias": torch.tensor([3.0])})
    found = ds.survey(problem, model, progress=False)
    assert (found.kind, found.stable_rates) == ("minimum", {})
    assert "no learning rate is stable on a kink" in " ".join(found.notes)


def test_where_nothing_bends_up_no_rate_is_told_and_that_is_said() -> None:
    found = ds.survey(of(lambda w: w.sum(), [0.0, 0.0]), progress=False)
    assert found.stable_rates == {}
    assert "curvature sets no limit" in " ".join(found.notes)


def test_a_model_that_holds_what_it_computed_from_its_weights_is_surveyed() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 4, generator=draw), torch.randn(40, 3, generator=draw)
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer: Any = nn.utils.weight_norm(nn.Linear(4, 3))
    before = layer.weight
    problem = ds.Problem(model=nn.Sequential(layer), objective="squared_error", train=(x, y))
    found = ds.survey(problem, problem.model, progress=False)
    assert found.size == 3 + 3 + 12
    assert found.convexity is not None
    assert not found.convexity.convex
    assert ds.convexity(problem).by in ("samples", "curvature", "chord")
    assert layer.weight is before
