from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import DataError, InputError, ModelError, ObjectiveError
from downslope.core.loss import Objective
from downslope.terrain.surveys.survey import _Survey


class Surface(nn.Module):
    """A function of its weights alone."""

    def __init__(self, function: Any, at: list[float]) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.w) + 0 * x.sum()


def surface(function: Any, at: list[float], **more: Any) -> ds.Problem:
    """The problem of going down on `function`, from `at`."""
    return ds.Problem(
        model=Surface(function, at), objective=lambda output, target: output,
        train=(torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4)), **more,
    )  # fmt: skip


def dense(problem: ds.Problem, model: nn.Module) -> Tensor:
    """All eigenvalues of the Hessian, ascending, by torch's own reverse mode in float64; written apart."""
    held = model.double().eval()
    (x, y), names = problem.train_source.head(10**6), [name for name, _ in held.named_parameters()]
    shapes = [p.shape for p in held.parameters()]
    sizes = [p.numel() for p in held.parameters()]
    y = y.double() if y.is_floating_point() else y
    objective = Objective(problem)

    def loss(flat: Tensor) -> Tensor:
        parts = [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        kept = dict(zip(names, parts, strict=True))
        output = torch.func.functional_call(held, kept, (x.double(),))
        return objective.of(output, y).value

    at = torch.cat([p.detach().reshape(-1) for p in held.parameters()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, at))


@pytest.mark.parametrize(
    ("function", "at", "kind", "eigenvalues"),
    [
        (lambda w: w[0] ** 2 + 3 * w[1] ** 2, [0.0, 0.0], "minimum", [6.0, 2.0]),
        (lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0], "saddle", [2.0, -2.0]),
        (lambda w: 1 - w[0] ** 2 - w[1] ** 2, [0.0, 0.0], "maximum", [-2.0, -2.0]),
        (lambda w: 5 + w[0] ** 2 - 1e-6 * w[1] ** 2, [0.0, 0.0], "saddle", [2.0, -2e-6]),
        (lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [1.0, 1.0], "minimum", None),
        (lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [-1.2, 1.0], "slope", None),
        (lambda w: w[0] ** 3, [0.0], "saddle", [0.0]),
        (lambda w: w[0] ** 4 + w[1] ** 4, [0.0, 0.0], "minimum", [0.0, 0.0]),
        (lambda w: 1 + torch.tanh(w[0]), [12.0], "plateau", None),
        (lambda w: 3.0 + 0 * w[0], [1.0], "plateau", [0.0]),
        (lambda w: 3.0 + w[0] ** 3, [0.01], "plateau", None),
    ],
)
def test_known_points_are_what_they_are(
    function: Any, at: list[float], kind: str, eigenvalues: list[float] | None
) -> None:
    found = ds.survey(surface(function, at), progress=False)
    assert found.kind == kind
    if eigenvalues is not None:
        assert found.eigenvalues.tolist() == pytest.approx(eigenvalues, abs=1e-9)
    assert found.degenerate == (eigenvalues is not None and not any(eigenvalues))


def test_a_flat_direction_along_which_the_loss_turns_down_is_a_saddle_and_no_minimum() -> None:
    assert ds.survey(surface(lambda w: w[0] ** 2 + w[1] ** 2, [0.0, 0.0]), progress=False).strict
    valley = ds.survey(surface(lambda w: w[0] ** 2 + 0 * w[1], [0.0, 0.0]), progress=False)
    assert (valley.kind, valley.strict, valley.flat) == ("minimum", False, 1)
    assert valley.condition == float("inf")
    turning = ds.survey(surface(lambda w: w[0] ** 2 + w[1] ** 3, [0.0, 0.0]), progress=False)
    assert (turning.kind, turning.degenerate) == ("saddle", True)


def test_the_way_out_of_a_saddle_is_the_eigenvector_and_its_fall_is_measured() -> None:
    found = ds.survey(surface(lambda w: w[0] ** 2 - w[1] ** 2 / 2, [0.0, 0.0]), progress=False)
    way = found.escape
    assert way is not None
    assert way.by_name["w"].abs().tolist() == pytest.approx([0.0, 1.0])
    assert way.curvature == pytest.approx(-1.0)
    assert way.fall == pytest.approx(way.at**2 / 2)


def test_of_a_maximised_problem_the_terrain_is_that_of_the_objective_itself() -> None:
    hill = surface(lambda w: 7 - w[0] ** 2 - 4 * w[1] ** 2, [0.0, 0.0], maximize=True)
    found = ds.survey(hill, progress=False)
    assert (found.kind, found.loss, found.escape) == ("maximum", 7.0, None)
    assert found.eigenvalues.tolist() == pytest.approx([-2.0, -8.0])
    assert found.sharpness == pytest.approx(8.0)
    assert found.stable_rates["gd"] == pytest.approx(2 / 8)
    pit = surface(lambda w: w[0] ** 2 + 4 * w[1] ** 2, [0.0, 0.0], maximize=True)
    found = ds.survey(pit, progress=False)
    assert found.kind == "minimum"
    assert found.escape is not None
    assert found.escape.fall > 0


# -- models, each judged by its dense float64 Hessian -------------------------------------------------------


def linear_net(depth: int) -> nn.Module:
    return nn.Sequential(
        *[nn.Linear(4, 4, bias=False) for _ in range(depth - 1)], nn.Linear(4, 2, bias=False)
    )


def regression() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=draw)
    return x, x @ torch.randn(4, 2, generator=draw)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_origin_of_a_deep_linear_net_is_a_saddle_beyond_depth_two_without_curvature(depth: int) -> None:
    """Kawaguchi 2016, Deep learning without poor local minima, corollary 2.4."""
    problem = ds.Problem(model=lambda: linear_net(depth), objective="squared_error", train=regression())
    model = problem.build()
    for p in model.parameters():
        nn.init.zeros_(p)
    found = ds.survey(problem, model, progress=False)
    judge = dense(problem, model)
    assert found.kind == "saddle"
    assert found.degenerate == (depth > 2) == (not judge.any())
    assert found.eigenvalues.tolist() == pytest.approx(judge.flip(0).tolist(), abs=1e-4)


def test_trained_logistic_regression_with_a_penalty_stands_at_a_strict_minimum() -> None:
    taken = ds.data.breast_cancer(standardise=True).train
    bare = ds.Problem(model="logistic", objective="logistic", train=(taken[0], taken[1].float()))
    problem = bare.edit(**{"objective.l2": 1e-2})
    start = ds.survey(problem, progress=False)
    end = ds.survey(problem, ds.solve(bare, l2=1e-2).model(), progress=False, examples="all")
    assert (start.kind, end.kind, end.strict) == ("slope", "minimum", True)
    assert end.convexity is not None
    assert (end.convexity.convex, end.convexity.proved, end.convexity.minima) == (True, True, "one")
    assert end.convexity.optimum == pytest.approx(end.loss, rel=1e-9)
    assert end.slope_gain < 1e-12


def test_equal_zero_weights_stand_at_a_saddle_whose_way_down_is_real() -> None:
    x = ds.data.digits(scale=16).train[0][:200]
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=(x, torch.arange(200) % 10),
        arguments={"width": 3, "depth": 1, "activation": "tanh"},
    )  # fmt: skip
    model = problem.build()
    for p in model.parameters():
        nn.init.zeros_(p)
    found = ds.survey(problem, model, progress=False, dtype=torch.float64)
    judge = dense(problem, model)
    assert found.kind == "saddle"
    assert found.index == int((judge < -1e-9).sum())
    assert float(found.eigenvalues[-1]) == pytest.approx(float(judge[0]), rel=1e-8)
    way = found.escape
    assert way is not None
    for p in model.parameters():
        nn.init.zeros_(p)
    moved = {name: p.detach() + way.at * way.by_name[name] for name, p in model.named_parameters()}
    output = torch.func.functional_call(model.double(), moved, (x.double(),))
    fallen = found.loss - float(nn.functional.cross_entropy(output, torch.arange(200) % 10))
    assert fallen == pytest.approx(way.fall, rel=1e-6)


def test_saturated_outputs_far_from_their_targets_stand_on_a_plateau() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), objective="squared_error",
        train=(x, torch.ones(50, 1)),
    )  # fmt: skip
    model = problem.build()
    nn.init.constant_(model[0].bias, -15.0)  # type: ignore[index]
    found = ds.survey(problem, model, progress=False)
    assert found.kind == "plateau"
    assert found.loss > 0.99


def test_zero_weights_of_a_net_with_relu_are_a_saddle_that_no_curvature_shows() -> None:
    x = ds.data.digits(scale=16).train[0][:200]
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=(x, torch.arange(200) % 10),
        arguments={"width": 6, "depth": 1},
    )  # fmt: skip
    model = problem.build()
    for p in model.parameters():
        nn.init.zeros_(p)
    found = ds.survey(problem, model, progress=False)
    assert not found.complete
    assert (found.kind, found.degenerate) == ("saddle", True)
    way = found.escape
    assert way is not None
    assert way.sampled
    for name, p in model.named_parameters():
        p.data += way.at * way.by_name[name]
    left = nn.functional.cross_entropy(model(x), torch.arange(200) % 10).item()
    assert found.loss - left == pytest.approx(way.fall, rel=0.05)
    assert way.fall > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_both_ends_of_a_nets_spectrum_agree_with_the_dense_hessian(seed: int) -> None:
    taken = ds.data.digits(scale=16).train
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=(taken[0][:150], taken[1][:150]),
        arguments={"width": 5, "activation": "relu"},
    )  # fmt: skip
    run = ds.fit(
        problem, ds.Recipe(lr=0.01, epochs=5, seed=seed), folder=False, progress=False, observe=0
    )  # fmt: skip
    found = ds.survey(problem, run, progress=False, eigenvalues=3)
    judge = dense(problem, run.model("last"))
    assert not found.complete
    for value, error, true in zip(
        found.eigenvalues.tolist(), found.residuals.tolist(), [*judge[[-1, -2, -3]], judge[0]], strict=True
    ):
        assert abs(value - float(true)) <= error + 1e-5
    assert abs(found.trace - float(judge.sum())) < 4 * found.trace_error
    assert sum(each.trace for each in found.layers) == pytest.approx(found.trace)
    assert any("ReLU" in note for note in found.notes)


def test_at_the_minimum_over_all_examples_a_part_of_them_has_no_slope_beyond_its_noise() -> None:
    x, y = ds.data.breast_cancer(standardise=True).train
    bare = ds.Problem(model="logistic", objective="logistic", train=(x, y.float()))
    problem, best = bare.edit(**{"objective.l2": 1e-2}), ds.solve(bare, l2=1e-2).model()
    for examples in (64, 256):
        found = ds.survey(problem, best, progress=False, examples=examples)
        assert found.gradient_norm > 1e-3
        assert found.kind == "minimum"
        assert "within the noise" in " ".join(found.notes)
    away = problem.build()
    away.load_state_dict(best.state_dict())
    with torch.no_grad():
        for p in away.parameters():
            p.mul_(0.3)
    assert ds.survey(problem, away, progress=False, examples=256).kind == "slope"


@pytest.mark.parametrize("examples", [500, "all"])
def test_a_stream_that_was_read_to_its_end_leaves_no_examples_to_make_noise(examples: Any) -> None:
    x, y = regression()
    loader = torch.utils.data.DataLoader(Rows(x, torch.randn_like(y)), batch_size=8)
    problem = ds.Problem(model=lambda: nn.Linear(4, 2), objective="squared_error", train=loader)
    found = ds.survey(problem, progress=False, examples=examples)
    assert (found.kind, found.examples) == ("slope", 40)


class Rows(torch.utils.data.IterableDataset[Any]):
    """A stream that tells no length."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.rows = list(zip(x, y, strict=True))

    def __iter__(self) -> Any:
        return iter(self.rows)


# -- what can be given --------------------------------------------------------------------------------------


def small() -> ds.Problem:
    x, y = regression()
    return ds.Problem(model=lambda: nn.Linear(4, 2), objective="squared_error", train=(x, y))


def test_a_module_a_run_a_state_dict_and_a_file_are_the_same_place(tmp_path: Path) -> None:
    problem = small()
    run = ds.fit(
        problem, ds.Recipe(optimizer="sgd", lr=0.05, epochs=2), folder=tmp_path / "r", progress=False
    )
    model = run.model("last")
    file = tmp_path / "w.pt"
    torch.save(model.state_dict(), file)
    found = [ds.survey(problem, each, progress=False) for each in (model, run, model.state_dict(), file)]
    assert len({each.loss for each in found}) == 1
    before = {name: p.clone() for name, p in model.state_dict().items()}
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def broken(change: Callable[[nn.Linear], Any]) -> nn.Module:
    model = nn.Linear(4, 2)
    change(model)
    return model


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"examples": 0}, InputError, "examples=0"),
        ({"eigenvalues": 0}, InputError, "eigenvalues=0"),
        ({"tol": 2.0}, InputError, "tol=2.0"),
        ({"seconds": -1}, InputError, "seconds=-1"),
        ({"dtype": torch.int64}, InputError, "dtype"),
        ({"model": 3}, InputError, "must be a torch.nn.Module"),
        ({"model": nn.Linear(7, 2)}, ModelError, "does not run on the problem's examples"),
        (
            {"model": broken(lambda m: m.weight.data.fill_(float("nan")))},
            ModelError,
            "weights of weight: 8 of 8",
        ),
        ({"model": broken(lambda m: m.weight.data.fill_(1e30))}, ObjectiveError, "the loss is inf"),
        ({"model": broken(lambda m: m.requires_grad_(False))}, ModelError, "no parameter requires"),
    ],
)
def test_what_cannot_be_surveyed_is_told_in_one_line(given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        ds.survey(small(), progress=False, **given)
    assert "\n" not in str(caught.value)


def test_an_objective_without_a_gradient_and_examples_that_are_not_finite_are_told() -> None:
    with pytest.raises(ObjectiveError, match="no gradient"):
        ds.survey(small().edit(objective=lambda o, t: (o.detach() - t).square().mean()), progress=False)
    x, y = regression()
    x[3, 1] = float("nan")
    with pytest.raises(DataError, match=r"nan at \(3, 1\)"):
        ds.survey(
            ds.Problem(model=lambda: nn.Linear(4, 2), objective="squared_error", train=(x, y)), progress=False
        )


def test_half_precision_dropout_and_batch_norm_are_told() -> None:
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)),
        objective="squared_error", train=regression(),
    )  # fmt: skip
    told = " ".join(ds.survey(problem, problem.build().half(), progress=False).notes)
    assert all(each in told for each in ("float16", "dropout", "batch norm"))


def test_ctrl_c_after_the_kind_is_known_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_Survey, "_layers", interrupt)
    found = ds.survey(small(), progress=False)
    assert (found.kind, found.interrupted, found.layers) == ("slope", True, ())
    assert "interrupted: not measured are layers" in str(found)


def test_the_price_is_told_before_it_is_paid(capfd: pytest.CaptureFixture[str]) -> None:
    ds.survey(small())
    assert "10 parameters, about 10 products" in capfd.readouterr().err


# -- test functions -----------------------------------------------------------------------------------------


def test_on_a_test_function_local_and_global_are_told_apart() -> None:
    well = ds.functions.get("x_cos_pi_x")
    for each in well.minima:
        found = ds.survey(well.problem(each.at), progress=False)
        assert found.kind == "minimum"
        assert found.known is not None
        assert found.known.distance < 1e-6
        assert found.known.is_global == each.is_global
    away = ds.survey(ds.functions.get("rosenbrock").problem((0.0, 0.0)), progress=False)
    assert away.known is not None
    assert away.known.distance == pytest.approx(2**0.5)


def test_a_flat_bottom_is_a_minimum_and_a_tail_that_goes_on_falling_a_plateau() -> None:
    bottom, tail = ds.functions.get("flat_bottom"), ds.functions.get("exponential")
    assert ds.survey(bottom.problem((0.5,)), progress=False).kind == "minimum"
    assert ds.survey(tail.problem((-30.0,)), progress=False).kind == "plateau"


@pytest.mark.parametrize("name", [each for each in ds.functions.names() if each not in ("cliff",)])
def test_every_critical_point_of_the_test_functions_is_found_to_be_of_its_kind(name: str) -> None:
    function = ds.functions.get(name)
    for each in function.critical[:6]:
        if each.degenerate and function.kinks:
            continue  # on a kink there is no Hessian to ask
        assert ds.survey(function.problem(each.at), progress=False).kind == each.kind


# -- what is drawn of it ------------------------------------------------------------------------------------


def test_a_survey_is_drawn_as_a_figure_and_as_a_section_of_the_report() -> None:
    found = ds.survey(
        surface(lambda w: w[0] ** 2 - w[1] ** 2 / 2, [0.0, 0.0]), progress=False
    )  # fmt: skip
    figure = found.plot()
    assert list(figure.data[0].y) == pytest.approx([2.0, -1.0])
    page = ds.report(found).html
    assert "The ground it stands on" in page
    assert "Saddle" in page
