"""Fisher matrices against gradients of single examples, and expectations over the model's own targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope.core.errors import InputError, ObjectiveError
from tests.terrain.operators.dense import grounded, jacobian, matrix
from tests.terrain.operators.test_gauss_newton import close, data, mlp


def gradients(ground, loss, x, targets) -> torch.Tensor:
    """One row for each example and its target."""
    rows = []
    for one, target in zip(x, targets, strict=True):
        found = torch.autograd.grad(loss(ground.model(one[None].double()), target[None]), ground.params)
        rows.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("objective", ["cross_entropy", nn.CrossEntropyLoss()])
def test_the_true_fisher_is_the_expectation_over_every_class_and_the_gauss_newton_matrix(objective):
    x, y = data()
    ground = grounded(mlp(), objective, (x, y))
    p = ground.model(x.double()).softmax(1).detach()
    wanted = torch.zeros(ground.size, ground.size, dtype=torch.float64)
    for label in range(3):
        g = gradients(ground, nn.functional.cross_entropy, x, torch.full((12,), label))
        wanted += g.T @ (p[:, label, None] * g) / 12
    close(matrix(ground.fisher()), wanted)
    close(matrix(ground.gauss_newton()), wanted)


def test_the_empirical_fisher_is_the_second_moment_of_the_gradients():
    x, y = data()
    ground = grounded(mlp(), "cross_entropy", (x, y))
    g = gradients(ground, nn.functional.cross_entropy, x, y)
    close(matrix(ground.fisher("empirical")), g.T @ g / 12)


def test_masked_and_weighted_targets_have_the_weight_that_they_have_in_the_mean():
    x, y = data()
    y[:4] = -100
    factor = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    ground = grounded(mlp(), nn.CrossEntropyLoss(weight=factor), (x, y))
    g = gradients(ground, nn.functional.cross_entropy, x[4:], y[4:])
    c = factor[y[4:]] / factor[y[4:]].sum()
    close(matrix(ground.fisher("empirical")), g.T @ (c[:, None] * g))


def test_squared_error_has_the_fisher_of_its_gaussian():
    x, _ = data()
    ground = grounded(mlp(2), "squared_error", (x, torch.randn(12, 2)))
    j = jacobian(ground, x.double())
    close(matrix(ground.fisher()), 2 * j.T @ j / 24)


def test_probabilities_have_the_fisher_of_their_distribution():
    x, y = data()
    factor = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    logits = grounded(mlp(), "cross_entropy", (x, y))
    ends = nn.Sequential(*mlp(), nn.Softmax(1)), nn.Sequential(*mlp(), nn.LogSoftmax(1))
    for model, objective in zip(ends, ("categorical", nn.NLLLoss()), strict=True):
        close(matrix(grounded(model, objective, (x, y)).fisher()), matrix(logits.fisher()))
    weighted = grounded(mlp(), nn.CrossEntropyLoss(weight=factor, ignore_index=0), (x, y))
    close(
        matrix(grounded(ends[1], nn.NLLLoss(weight=factor, ignore_index=0), (x, y)).fisher()),
        matrix(weighted.fisher()),
    )
    yes = (y > 0).float()[:, None]
    logit = grounded(mlp(1), "logistic", (x, yes))
    for objective in ("bernoulli", nn.BCELoss()):
        model = nn.Sequential(*mlp(1), nn.Sigmoid())
        close(matrix(grounded(model, objective, (x, yes)).fisher()), matrix(logit.fisher()))


ROBUST = {
    "absolute_error": ("absolute_error", torch.abs),
    "huber": ("huber(delta=0.7)", lambda e: nn.functional.huber_loss(e, 0 * e, delta=0.7, reduction="none")),
    "huber of torch": (
        nn.HuberLoss(delta=2.0),
        lambda e: nn.functional.huber_loss(e, 0 * e, delta=2.0, reduction="none"),
    ),
    "smooth": (
        nn.SmoothL1Loss(beta=0.3),
        lambda e: nn.functional.smooth_l1_loss(e, 0 * e, beta=0.3, reduction="none"),
    ),
}


@pytest.mark.parametrize("name", ROBUST)
def test_robust_losses_have_the_information_of_their_density_by_quadrature(name):
    objective, rho = ROBUST[name]
    e = torch.linspace(-60, 60, 400_001, dtype=torch.float64, requires_grad=True)
    density = (-rho(e)).exp().detach()
    score = torch.autograd.grad(rho(e).sum(), e)[0]
    known = float((density * score**2).sum() / density.sum())
    x, _ = data()
    ground = grounded(mlp(2), objective, (x, torch.randn(12, 2)))
    j = jacobian(ground, x.double())
    close(matrix(ground.fisher()), known * j.T @ j / 24, 1e-4)


def own(output, target):
    return nn.functional.cross_entropy(output, target)


def test_an_objective_that_is_no_likelihood_has_no_true_fisher_but_an_empirical_one():
    x, y = data()
    ground = grounded(mlp(), own, (x, y))
    with pytest.raises(ObjectiveError, match="not known as a negative log-likelihood"):
        ground.fisher()
    g = gradients(ground, nn.functional.cross_entropy, x, y)
    close(matrix(ground.fisher("empirical")), g.T @ g / 12)
    with pytest.raises(ObjectiveError, match="reads the model itself"):
        grounded(mlp(), lambda o, t, model: o.square().mean() + model[0].bias.sum(), (x, y)).fisher(
            "empirical"
        )
    with pytest.raises(ObjectiveError, match="is maximised"):
        grounded(mlp(), "cross_entropy", (x, y), maximize=True).fisher()
    with pytest.raises(InputError, match="'true'"):
        ground.fisher("exact")


FACTOR = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
CLASSES = nn.functional.cross_entropy
OWN = {
    "mean": (lambda o, t: 1.0 * CLASSES(o, t), lambda y: torch.full((12,), 1 / 12, dtype=FACTOR.dtype), None),
    "sum": (lambda o, t: CLASSES(o, t, reduction="sum"), lambda y: torch.ones_like(y).double(), "adds up"),
    "weighted": (lambda o, t: CLASSES(o, t, FACTOR), lambda y: FACTOR[y] / FACTOR[y].sum(), None),
    "masked": (
        lambda o, t: CLASSES(o, t, ignore_index=0), lambda y: (y > 0).double() / (y > 0).sum(), None,
    ),
    "divided": (
        lambda o, t: CLASSES(o, t, reduction="sum") / 12, lambda y: torch.ones_like(y).double() / 12,
        "divides by a constant",
    ),
    "root": (lambda o, t: CLASSES(o, t).sqrt(), None, "no mean over its examples and no sum"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_an_objective_of_one_s_own_shows_what_each_example_has_of_it(name):
    objective, shares, said = OWN[name]
    x, y = data()
    ground = grounded(mlp(), objective, (x, y))
    found = matrix(ground.fisher("empirical"))
    assert [said in each for each in ground.notes] == ([] if said is None else [True])
    if shares is None:
        return
    g = gradients(ground, CLASSES, x, y)
    close(found, g.T @ (shares(y)[:, None] * g))


def test_the_labels_gradients_of_a_sum_of_one_s_own_are_not_divided():
    """As K-FAC takes them; against the same of torch's module, which says that it is a sum."""
    from downslope.terrain.ground.prediction import empirical

    x, y = data()
    sides = []
    for objective in (OWN["sum"][0], nn.CrossEntropyLoss(reduction="sum")):
        ground = grounded(mlp(), objective, (x, y))
        loss = ground.run((x.double(), y))
        sides.append(float(empirical(loss, ground.objective).cotangents[0]))
    assert sides == [1.0, 1.0]
