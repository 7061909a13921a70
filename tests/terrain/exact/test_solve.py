"""Exact solutions against NumPy, SciPy, scikit-learn and published optima; the certificate against both."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, minimize, nnls
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_svmlight_file
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import DataError, InputError, ModelError, ObjectiveError
from downslope.terrain.exact import bounds, newton
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.solve import recognise

DATA = os.environ.get("DOWNSLOPE_DATA") or None


def problem(
    x: Any, y: Any, model: Any = "linear", objective: Any = "squared_error", **more: Any
) -> ds.Problem:
    return ds.Problem(model=model, objective=objective, train=(x, y), **more)


def made(n: int = 80, d: int = 5, k: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, d)) * 3 + 1
    return x, x @ draw.normal(size=(d, k)) + draw.normal(size=(n, k)) + 7


def weights(found: Any) -> tuple[np.ndarray, np.ndarray]:
    weight = next(each for each in found.weights.values() if each.dim() == 2)
    bias = next(each for each in found.weights.values() if each.dim() == 1)
    return weight.numpy(), bias.numpy()


def standardised_cancer() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y.astype(float)


# -- least squares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
def test_least_squares_are_those_of_numpy(outputs: int) -> None:
    x, y = made(k=outputs)
    found = ds.solve(problem(x, y))
    theta, rest, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    weight, bias = weights(found)
    np.testing.assert_allclose(weight.T, theta[:-1], rtol=1e-11)
    np.testing.assert_allclose(bias, theta[-1], rtol=1e-11)
    assert found.objective == pytest.approx(rest.sum() / y.size, rel=1e-13)
    assert found.kind == "strictly-convex"
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.orthogonality < 1e-12
    assert found.certificate.gap < 1e-20


def test_the_published_optimum_of_the_diabetes_data() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert ds.solve(problem(x, y)).objective == pytest.approx(2859.69634758675, abs=1e-10)


@pytest.mark.parametrize("l2", [1e-3, 0.5])
def test_ridge_is_scikit_learns_with_the_bias_free(l2: float) -> None:
    x, y = made(k=2)
    found = ds.solve(problem(x, y), l2=l2)
    peer = Ridge(alpha=l2 * y.size / 2, solver="svd", tol=1e-14).fit(x, y)
    weight, bias = weights(found)
    np.testing.assert_allclose(weight, peer.coef_, rtol=1e-10)
    np.testing.assert_allclose(bias, peer.intercept_, rtol=1e-10)


def test_a_model_without_bias_goes_through_the_origin() -> None:
    x, y = made()
    found = ds.solve(problem(x, y, nn.Linear(5, 1, bias=False)))
    np.testing.assert_allclose(
        found.weights["weight"].numpy().T, np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-11
    )


def test_dependent_columns_are_named_and_the_shortest_weights_are_given() -> None:
    x, y = made()
    x[:, 3] = 2 * x[:, 0] - x[:, 2]
    x[:, 4] = 4.0
    found = ds.solve(problem(x, y))
    centred = np.linalg.pinv(x - x.mean(0), rcond=1e-12) @ (y - y.mean(0))
    np.testing.assert_allclose(weights(found)[0].T, centred, atol=1e-12)
    assert found.kind == "many-minima"
    assert (found.rank, found.columns) == (4, 6)
    (note,) = found.notes
    assert note.startswith("rank 4 of 6 columns: ")
    assert "x4 = 4" in note
    assert "the shortest weights" in note


def test_a_ridge_on_dependent_columns_has_one_minimum() -> None:
    x, y = made()
    x[:, 3] = x[:, 0]
    found = ds.solve(problem(x, y), l2=1e-2)
    peer = Ridge(alpha=1e-2 * y.size / 2, solver="svd", tol=1e-14).fit(x, y)
    np.testing.assert_allclose(weights(found)[0][0], peer.coef_, rtol=1e-9)
    assert found.kind == "strictly-convex"
    assert "the penalty makes the weights unique" in found.notes[0]


def test_where_the_normal_equations_are_singular_qr_has_eight_digits() -> None:
    small = 2.0**-27  # 1 + small**2 rounds to 1 (Läuchli 1961, Numerische Mathematik 3)
    x = np.vstack([np.ones((1, 3)), small * np.eye(3)])
    y = x @ np.ones((3, 1))
    assert np.linalg.matrix_rank(x.T @ x) == 1
    found = ds.solve(problem(x, y, nn.Linear(3, 1, bias=False)))
    np.testing.assert_allclose(found.weights["weight"].numpy(), 1.0, atol=1e-7)
    assert found.condition == pytest.approx(np.linalg.cond(x), rel=1e-6)
    assert "normal equations would square it and keep none of 16 digits" in found.notes[0]


def test_a_condition_of_units_alone_is_told_as_what_it_is() -> None:
    x, y = made()
    x[:, 1] *= 1e12
    found = ds.solve(problem(x, y))
    (note,) = found.notes
    even = np.column_stack([x, np.ones(len(x))])
    even /= np.linalg.norm(even, axis=0)
    assert note.startswith("condition ")
    assert float(note.split()[1]) == pytest.approx(np.linalg.cond(even), rel=1e-2)
    assert "a matter of units" in note
    kept = int(note.partition("QR keeps about ")[2].split()[0])
    assert kept >= 14
    exact = ds.solve(problem(x / np.array([1, 1e12, 1, 1, 1]), y))
    rescaled = weights(found)[0] * np.array([1, 1e12, 1, 1, 1])
    np.testing.assert_allclose(rescaled, weights(exact)[0], rtol=1e-12)


def test_where_no_minimum_is_attained_no_note_speaks_of_minima() -> None:
    x = np.array([[-2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    made_of = (torch.as_tensor(x), torch.tensor([0, 0, 1, 1]))
    found = ds.solve(ds.Problem(model="softmax", objective="cross_entropy", train=made_of))
    assert found.kind == "not-attained"
    assert any(each.startswith("rank ") for each in found.notes)
    assert not any("minima" in each for each in found.notes)


def test_fewer_examples_than_columns_leave_many_minima() -> None:
    x, y = made(n=4, d=9)
    found = ds.solve(problem(x, y))
    assert found.kind == "many-minima"
    assert found.objective < 1e-25


def test_a_loader_is_streamed_to_the_same_answer() -> None:
    x, y = made(n=103, k=2)
    loader = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=10, shuffle=True)
    streamed = ds.solve(ds.Problem(model="linear", arguments={"inputs": 5, "outputs": 2},
                                   objective="squared_error", train=loader), l2=0.1)  # fmt: skip
    whole = ds.solve(problem(x, y), l2=0.1)
    assert streamed.objective == pytest.approx(whole.objective, rel=1e-13)
    np.testing.assert_allclose(weights(streamed)[0], weights(whole)[0], rtol=1e-11)


def test_what_does_not_fit_in_memory_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = standardised_cancer()
    whole = ds.solve(problem(x, y, "logistic", "logistic"), l2=1e-2)
    monkeypatch.setattr("downslope.terrain.exact.design.KEPT", 0)
    monkeypatch.setattr("downslope.terrain.exact.design.BLOCK", 100)
    assert ds.solve(problem(x, y, "logistic", "logistic"), l2=1e-2).objective == pytest.approx(
        whole.objective, rel=1e-14
    )


# -- logistic and softmax regression ---------------------------------------------------------------


@pytest.mark.parametrize(("l2", "best"), [(1e-2, 0.09959137548470548), (1e-3, 0.05982793727108945)])
def test_the_published_optima_of_the_tumours(l2: float, best: float) -> None:
    found = ds.solve(problem(*standardised_cancer(), "logistic", "logistic"), l2=l2)
    assert found.objective == pytest.approx(best, abs=1e-12)
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap < 1e-12
    assert found.kind == "strictly-convex"


@pytest.mark.skipif(DATA is None, reason="DOWNSLOPE_DATA is not set: it holds the LIBSVM sets")
@pytest.mark.parametrize(("name", "best"), [("a1a", 0.3263947841423712), ("a9a", 0.3327133075461915)])
def test_the_published_optima_of_the_adults(name: str, best: float) -> None:
    with gzip.open(Path(str(DATA)) / "libsvm" / f"{name}.gz") as file:
        x, y = load_svmlight_file(file)
    found = ds.solve(problem(x.toarray(), (y > 0).astype(float), "logistic", "logistic"), l2=1e-3)
    assert found.objective == pytest.approx(best, abs=1e-12)
    assert found.certificate.gradient_norm < 1e-12


def test_the_published_optimum_of_softmax_regression() -> None:
    x, y = load_digits(return_X_y=True)
    found = ds.solve(problem(x / 16, y, "softmax", "cross_entropy"), l2=1e-3)
    assert found.objective == pytest.approx(0.26186455, abs=5e-9)
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap < 1e-12
    assert "sum to zero" in str(ds.solve(problem(x[:, 1:6] / 16, y, "softmax", "cross_entropy"), l2=1e-3))


def test_softmax_regression_is_scikit_learns() -> None:
    x, y = load_digits(return_X_y=True)
    x, l2 = x / 16, 1e-2
    peer = LogisticRegression(C=1 / (l2 * len(x)), solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
        x, y
    )
    found = ds.solve(problem(x, y, "softmax", "cross_entropy"), l2=l2)
    np.testing.assert_allclose(weights(found)[0], peer.coef_, atol=1e-8)
    np.testing.assert_allclose(
        weights(found)[1] - weights(found)[1].mean(), peer.intercept_ - peer.intercept_.mean(), atol=1e-8
    )


def test_products_alone_lead_where_the_matrix_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_digits(return_X_y=True)
    given = problem(x / 16, y, "softmax", "cross_entropy")
    whole = ds.solve(given, l2=1e-3)
    monkeypatch.setattr(newton, "DENSE", 0)
    found = ds.solve(given, l2=1e-3)
    assert found.objective == pytest.approx(whole.objective, abs=1e-14)
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap_from == "duality"
    assert found.certificate.gap < 1e-12


OBJECTIVES = {
    "weights": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.2),
    "both": nn.CrossEntropyLoss(
        weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), label_smoothing=0.2
    ),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weighted_and_smoothed_cross_entropies_are_solved_as_torch_has_them(name: str) -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(60, 4))
    y = draw.integers(0, 3, 60)
    found = ds.solve(problem(x, y, nn.Linear(4, 3), OBJECTIVES[name]), l2=0.05)
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap < 1e-11

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(theta.reshape(5, 3), requires_grad=True)
        j = OBJECTIVES[name](torch.tensor(x) @ w[:4] + w[4], torch.tensor(y)) + 0.025 * w[:4].square().sum()
        j.backward()
        return j.item(), w.grad.numpy().ravel()

    peer = minimize(value, np.zeros(15), jac=True, method="BFGS", options={"gtol": 1e-9})
    assert found.objective == pytest.approx(peer.fun, rel=1e-10)


def test_a_weight_of_the_yes_is_solved_as_torch_has_it() -> None:
    x, y = standardised_cancer()
    given = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0], dtype=torch.float64))
    found = ds.solve(problem(x, y[:, None], nn.Linear(30, 1), given), l2=1e-2)
    peer = LogisticRegression(C=1 / (1e-2 * len(x)), class_weight={0: 1, 1: 3}, tol=1e-12, max_iter=10**4)
    peer.set_params(solver="newton-cholesky").fit(x, y)
    np.testing.assert_allclose(weights(found)[0], peer.coef_, atol=1e-7)
    assert found.certificate.gap < 1e-12


def test_hubers_error_is_that_of_a_general_minimiser() -> None:
    x, y = made()
    y[::7] += 40
    found = ds.solve(problem(x, y, "linear", nn.HuberLoss(delta=1.5)))

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        e = x @ theta[:5] + theta[5] - y[:, 0]
        inside = np.abs(e) <= 1.5
        j = np.where(inside, e**2 / 2, 1.5 * (np.abs(e) - 0.75)).mean()
        slope = np.clip(e, -1.5, 1.5) / len(e)
        return j, np.append(x.T @ slope, slope.sum())

    peer = minimize(value, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-11})
    assert found.objective == pytest.approx(peer.fun, rel=1e-12)
    assert found.certificate.gradient_norm < 1e-12


@pytest.mark.parametrize("noise", [3.0, 1e3])
def test_hubers_error_far_below_the_noise_is_solved_too(noise: float) -> None:
    x, _ = made(n=60)
    draw = np.random.default_rng(2)
    y = x @ np.ones((5, 1)) + noise * draw.normal(size=(60, 1))
    found = ds.solve(problem(x, y, "linear", "huber"))
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap < 1e-12
    for seed in range(20):  # it is lower than everywhere around it
        model = found.model()
        with torch.no_grad():
            for p in model.parameters():
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)).double()
            value = nn.functional.huber_loss(model(torch.tensor(x)), torch.tensor(y))
        assert value > found.objective


def test_columns_of_very_different_scales_cost_no_accuracy() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    found = ds.solve(problem(x, y.astype(float), "logistic", "logistic"), l2=1e-3)
    assert found.certificate.gradient_norm < 1e-12
    assert found.certificate.gap < 1e-12


# -- one minimum, many, none -----------------------------------------------------------------------


def test_separated_classes_have_no_minimum_and_the_direction_separates() -> None:
    x, y = standardised_cancer()
    found = ds.solve(problem(x, y, "logistic", "logistic"))
    assert found.kind == "not-attained"
    assert found.objective == 0.0
    weight, bias = weights(found)
    assert ((x @ weight[0] + bias) * (2 * y - 1) > 0).all()
    assert "l2=1e-3 gives a minimum" in str(found)
    with pytest.raises(ModelError, match="no weights are the best"):
        found.model()


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_that_touch_have_no_minimum_either(classes: int) -> None:
    x = np.array([[-2.0], [-1.0], [0.0], [0.0], [1.0], [2.0]])
    y = np.array([0, 0, 0, 1, 1, 1])
    if classes == 3:
        x, y = np.vstack([x, [[3.0], [3.0]]]), np.append(y, [1, 2])
        found = ds.solve(problem(x, y, nn.Linear(1, 3), "cross_entropy"))
    else:
        found = ds.solve(problem(x, y.astype(float), "logistic", "logistic"))
        assert found.objective == pytest.approx(2 * np.log(2) / 6, abs=1e-6)
    assert found.kind == "not-attained"
    assert "some examples" in found.notes[0]


@pytest.mark.parametrize("kind", ["one answer", "a class without an example"])
def test_a_bias_that_no_penalty_holds_has_no_minimum_without_both_answers(kind: str) -> None:
    x, _ = made(n=30)
    y = np.ones(30) if kind == "one answer" else np.arange(30) % 2
    given = problem(x, y, "logistic", "logistic")
    if kind != "one answer":
        given = problem(x, y, nn.Linear(5, 3), "cross_entropy")
    found = ds.solve(given, l2=1e-2)
    assert found.kind == "not-attained"
    assert "an example of every class" in found.notes[0]


def test_an_exact_fit_says_nothing_of_the_direction_of_rounding() -> None:
    x, _ = made()
    found = ds.solve(problem(x, x @ np.ones((5, 1))))
    assert found.objective < 1e-25
    assert found.certificate.orthogonality is None


def test_classes_that_overlap_have_one_minimum() -> None:
    x = np.array([[-2.0], [-1.0], [0.5], [-0.5], [1.0], [2.0]])
    y = np.array([0, 0, 0, 1, 1, 1.0])
    found = ds.solve(problem(x, y, "logistic", "logistic"))
    assert found.kind == "strictly-convex"
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(x, y)
    np.testing.assert_allclose(weights(found)[0], peer.coef_, rtol=1e-8)


def test_a_column_twice_gives_many_minima() -> None:
    x = np.array([[-2.0], [-1.0], [0.5], [-0.5], [1.0], [2.0]])
    y = np.array([0, 0, 0, 1, 1, 1.0])
    once = ds.solve(problem(x, y, "logistic", "logistic"))
    twice = ds.solve(problem(np.hstack([x, x]), y, "logistic", "logistic"))
    assert twice.kind == "many-minima"
    assert twice.objective == pytest.approx(once.objective, rel=1e-13)
    np.testing.assert_allclose(weights(twice)[0], np.repeat(weights(once)[0] / 2, 2, axis=1), rtol=1e-9)
    assert ds.solve(problem(np.hstack([x, x]), y, "logistic", "logistic"), l2=0.1).kind == "strictly-convex"


# -- the certificate -------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [1e-8, 1e-4, 1e-2])
@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_the_bounds_hold_away_from_the_minimum(away: float, kind: str) -> None:
    if kind == "logistic":
        x, y = standardised_cancer()
        given = problem(x[:, :8], y, "logistic", "logistic")
    else:
        x, y = load_digits(return_X_y=True)
        given = problem(x[:300, 18:22] / 16, y[:300] % 3, "softmax", "cross_entropy")
    l2, best = 1e-2, ds.solve(given, l2=1e-2)
    known = recognise(given)
    design = Design(given, known.loss, known.shape.layer)
    theta = design.flat([best.weights[name] for name in design.parameters])
    moved = theta + away * torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).double()
    found = newton.basis_of(design, l2)
    white = newton.White(design, found, l2)
    psi = torch.linalg.lstsq(found.T, moved).solution
    gap = white.value(psi) - best.objective
    assert bounds.by_duality(design, moved, l2, white.value(psi)) >= gap
    least = torch.linalg.eigvalsh(white.hessian(psi))[0].item()
    bound = bounds.by_curvature(white, psi, white.gradient(psi), least)
    assert bound.gap >= gap * (1 - 1e-6) - 1e-15
    if kind == "logistic":
        at = torch.linalg.lstsq(found.T, theta).solution
        assert bound.distance >= (psi - at).norm() * (1 - 1e-6)
    if away < 1e-3:
        assert bound.gap < 1e3 * max(gap, 1e-15)


def test_the_certificate_is_measured_on_the_model_itself() -> None:
    x, y = made()
    found = ds.solve(problem(x, y), l2=0.1)
    model = found.model()
    j = nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y))
    j = j + 0.05 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)
    j.backward()
    assert j.item() == pytest.approx(found.objective, rel=1e-14)
    assert torch.cat([p.grad.ravel() for p in model.parameters()]).norm() < 1e-12


# -- which models, which objectives ----------------------------------------------------------------


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 2), nn.Linear(5, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.a(x) - self.b(x.square()) + self.scale * x[:, :2].sin()


def test_a_module_of_ones_own_that_is_affine_in_its_weights_is_solved() -> None:
    x, y = made(k=2)
    found = ds.solve(problem(x, y, Own))
    columns = [np.kron(np.column_stack([2 * x, np.full(len(x), 2.0), -(x**2)]), np.eye(2))]
    columns.append(np.einsum("nk,kj->nkj", np.sin(x[:, :2]), np.eye(2)).reshape(-1, 2))
    rest = np.linalg.lstsq(np.hstack(columns), y.ravel(), rcond=None)[1]
    assert found.objective == pytest.approx(rest[0] / y.size, rel=1e-10)
    assert found.certificate.gradient_norm < 1e-10


def test_a_convolution_alone_is_least_squares() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(30, 1, 6, generator=draw).double() for _ in range(2))
    found = ds.solve(problem(x, y, nn.Conv1d(1, 1, 3, padding=1)))
    padded = torch.nn.functional.pad(x[:, 0], (1, 1))
    columns = torch.stack([padded[:, i : i + 6] for i in range(3)] + [torch.ones(30, 6)], -1).reshape(-1, 4)
    rest = torch.linalg.lstsq(columns, y.reshape(-1, 1), driver="gelsd")
    assert found.objective == pytest.approx(rest.residuals.item() / y.numel(), rel=1e-12)


def test_a_last_layer_on_frozen_features_is_solved() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(5, 8), nn.Tanh()).requires_grad_(False)
    x, y = made()
    found = ds.solve(problem(x, y, nn.Sequential(body, nn.Linear(8, 1))))
    features = body.double()(torch.tensor(x)).numpy()
    rest = np.linalg.lstsq(np.column_stack([features, np.ones(len(x))]), y, rcond=None)[1]
    assert found.objective == pytest.approx(rest[0] / len(y), rel=1e-11)


def test_adaptations_are_solved_as_fit_trains_them() -> None:
    x, y = made()
    plain = ds.solve(problem(x, y))
    edited = problem(x, y).edit(ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets())
    found = ds.solve(edited)
    assert found.loss == pytest.approx(plain.loss, rel=1e-11)  # in the user's units
    assert found.objective == pytest.approx(plain.loss / y.var(), rel=1e-11)
    np.testing.assert_allclose(
        found.model()(torch.tensor(x)).detach(), plain.model()(torch.tensor(x)).detach(), rtol=1e-10
    )


REFUSED = {
    "two layers": (nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)), "weights of a layer before it"),
    "network": (nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1)), "bends what the weights"),
    "dropout": (nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 1)), "on chance"),
    "batch norm": (nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.Linear(5, 1)), "on its batch"),
    "recurrent": (nn.RNN(5, 1), "not linear in its weights"),
    "frozen": (nn.Linear(5, 1).requires_grad_(False), "frozen"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_are_not_affine_in_their_weights_are_refused_with_the_reason(name: str) -> None:
    model, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason) as told:
        ds.solve(problem(*made(), model))
    assert "\n" not in str(told.value)


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(5, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.w * self.w)


def test_a_weight_multiplied_by_itself_is_not_affine() -> None:
    with pytest.raises(ModelError, match="multiplies weights by weights"):
        ds.solve(problem(*made(), Squared))


@pytest.mark.parametrize(
    ("objective", "name"),
    [("absolute_error", "absolute_error"), (lambda z, y: (z - y).abs().sum(), "lambda")],
)
def test_other_objectives_are_refused_with_what_can_be_solved(objective: Any, name: str) -> None:
    with pytest.raises(ObjectiveError, match=rf"{name}.*squared error, Huber's error, logistic loss"):
        ds.solve(problem(*made(), "linear", objective))


def test_a_sum_of_objectives_is_refused_by_its_name() -> None:
    both = ds.objectives.composite({"a": "squared_error", "b": "huber"})
    with pytest.raises(ObjectiveError, match=r"objective composite\(.*'huber'.*\): solve knows"):
        ds.solve(problem(*made()).edit(objective=both))


def test_targets_whose_squares_overflow_are_refused() -> None:
    x, y = made()
    with pytest.raises(DataError, match="squares overflow float64; divide them by their size"):
        ds.solve(problem(x, y * 1e200))


class Forward(nn.Module):
    """A linear layer, and what is done to its output."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(5, 1), act
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        found = self.act(self, out)
        return out if found is None else found


def _dropped(act: Any) -> Any:
    """The call for its side effect alone."""

    def call(module: Any, out: Any) -> None:
        act(module, out)

    return call


@pytest.mark.parametrize(
    "act",
    [
        _dropped(lambda _, out: out.abs_()),
        _dropped(lambda _, out: nn.functional.relu(out, inplace=True)),
        _dropped(lambda _, out: out[:, 0].mul_(out[:, 0].detach())),
        lambda module, out: out * module.layer.weight.data.norm(),
        lambda module, out: out - module.mean.copy_(out.mean(0).detach()),
    ],
    ids=["abs_", "relu inplace", "view mul_", "data of a weight", "buffer"],
)
def test_what_changes_values_in_place_or_hides_weights_is_not_taken_for_affine(act: Any) -> None:
    with pytest.raises(ModelError, match="in its weights"):
        ds.solve(problem(*made(), lambda: Forward(act)))


def test_shapes_and_sums_in_place_stay_affine() -> None:
    def act(_: Any, out: Any) -> Any:
        out += 1
        return out.view(out.shape[0], -1)

    found = ds.solve(problem(*made(), lambda: Forward(act)))
    assert found.objective == pytest.approx(ds.solve(problem(*made())).objective, rel=1e-12)


def test_what_has_no_largest_value_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="no largest value"):
        ds.solve(problem(*made(), maximize=True))


@pytest.mark.parametrize("l2", [-1.0, float("nan"), float("inf"), "1"])
def test_a_penalty_outside_its_domain_is_refused(l2: Any) -> None:
    with pytest.raises(InputError, match="must lie in"):
        ds.solve(problem(*made()), l2=l2)


def test_what_is_no_problem_is_refused() -> None:
    with pytest.raises(InputError, match="must be a"):
        ds.solve(3)  # pyright: ignore[reportArgumentType]


def test_a_gap_in_the_data_is_refused() -> None:
    x, y = made()
    x[3, 2] = np.nan
    with pytest.raises(DataError, match=r"row 3, column 2 \(counted from 0\): nan; remove such rows"):
        ds.solve(problem(x, y))


# -- inside a box ----------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_non_negative_least_squares_are_scipys(l2: float) -> None:
    x, y = made(k=2)
    y = y - 30 * x[:, :1]
    model = nn.Linear(5, 2, bias=False)
    found = ds.solve(problem(x, y, model, constraint="non_negative"), l2=l2)
    big = np.vstack([x, np.sqrt(l2 * y.size / 2) * np.eye(5)])
    for j in range(2):
        peer, _ = nnls(big, np.append(y[:, j], np.zeros(5)))
        np.testing.assert_allclose(found.weights["weight"][j], peer, atol=1e-10)
    assert found.certificate.gradient_norm < 1e-11
    assert found.certificate.gap < 1e-12
    held = sum(int((each == 0).sum()) for each in found.weights.values())
    assert 0 < held < 10
    assert found.notes[0] == f"{held} of 10 weights lie on a bound of non_negative"


def test_bounds_on_weights_leave_the_bias_free() -> None:
    x, y = made()
    found = ds.solve(problem(x, y, constraint="box(-0.5, 0.5)"))
    ones = np.column_stack([x, np.ones(len(x))])
    free = np.full(6, np.inf)
    free[:5] = 0.5
    peer = lsq_linear(ones, y[:, 0], (-free, free), tol=1e-15)
    np.testing.assert_allclose(weights(found)[0][0], peer.x[:5], atol=1e-10)
    assert found.objective == pytest.approx(2 * peer.cost / len(x), rel=1e-12)
    assert found.notes[0].startswith(f"{int((np.abs(peer.x[:5]) > 0.5 - 1e-9).sum())} of 6 weights lie")


def test_the_certificate_inside_a_box_sees_a_point_that_is_not_the_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = made()
    given = problem(x, y, nn.Linear(5, 1, bias=False), constraint="non_negative")
    best = ds.solve(given)
    from downslope.terrain.exact import bounded

    right = bounded._column
    monkeypatch.setattr(bounded, "_column", lambda *of: right(*of) + 0.01)
    off = ds.solve(given)
    assert off.certificate.gap >= off.objective - best.objective > 1e-6


@pytest.mark.parametrize("constraint", ["l2_ball", "orthogonal", lambda model: None])
def test_other_sets_are_left_to_fit(constraint: Any) -> None:
    with pytest.raises(InputError, match="use fit, which ends every step inside"):
        ds.solve(problem(*made(), constraint=constraint))
