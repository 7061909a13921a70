"""Directions of the Fisher matrix against the Hessian by the outputs, and against many draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import ObjectiveError
from downslope.core.loss import Objective
from downslope.terrain.ground.prediction import Prediction, empirical


def prediction(objective: Any, output: Tensor, target: Tensor, **settings: Any) -> tuple[Prediction, Any]:
    problem = ds.Problem(model=nn.Identity, objective=objective, train=(output.detach(), target), **settings)
    asked = Objective(problem)
    loss = asked.of(output, target)
    return Prediction(loss, asked), asked


def summed(found: Prediction) -> Tensor:
    """Sum of ``u u^T`` over directions, of the flat output."""
    rows = [u.cotangents[0].flatten() for u in found.exact()]
    total = torch.zeros(len(rows[0]), len(rows[0]), dtype=rows[0].dtype)
    return sum((torch.outer(row, row) for row in rows), total)


def hessian(function: Any, output: Tensor) -> Tensor:
    found = torch.autograd.functional.hessian(function, output.detach())
    return found.reshape(output.numel(), output.numel())


WEIGHT = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
ROWS = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
CLASSES = torch.tensor([0, 2, 1, -100, 1])


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        ("cross_entropy", CLASSES),
        (nn.CrossEntropyLoss(weight=WEIGHT, reduction="sum"), CLASSES),
        (nn.CrossEntropyLoss(label_smoothing=0.2), CLASSES),
        ("squared_error", ROWS + 1),
        (nn.MSELoss(reduction="sum"), ROWS + 1),
        (nn.PoissonNLLLoss(), ROWS.abs().round()),
        ("logistic", (ROWS > 0).double()),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), (ROWS > 0).double()),
    ],
    ids=lambda each: "" if isinstance(each, Tensor) else type(each).__name__,
)
def test_directions_make_up_the_hessian_of_each_row_where_outputs_are_natural(
    objective: Any, target: Tensor
) -> None:
    output = ROWS.clone().requires_grad_()
    found, asked = prediction(objective, output, target)
    truth = hessian(lambda z: asked.of(z, target).value, output)
    blocks = torch.block_diag(*[torch.ones(3, 3)] * 5).bool()
    torch.testing.assert_close(summed(found)[blocks], truth[blocks], rtol=1e-9, atol=1e-12)
    assert not truth[~blocks].any()


def test_probabilities_have_the_fisher_matrix_of_their_distribution_and_not_the_hessian() -> None:
    p = ROWS.softmax(1).requires_grad_()
    found, _ = prediction("categorical", p, torch.tensor([0, 2, 1, 0, 1]))
    truth = torch.block_diag(*[torch.diag(1 / row) / 5 for row in p.detach()])
    blocks = torch.block_diag(*[torch.ones(3, 3)] * 5).bool()
    torch.testing.assert_close(summed(found)[blocks], truth[blocks])
    q = torch.sigmoid(ROWS).requires_grad_()
    found, _ = prediction("bernoulli", q, (ROWS > 1).double())
    wanted = (1 / (q * (1 - q)) / 15).detach().flatten()
    torch.testing.assert_close(summed(found).diagonal(), wanted)


def test_draws_have_mean_zero_and_that_covariance() -> None:
    torch.manual_seed(0)
    output = ROWS.clone().requires_grad_()
    for objective, target in (("cross_entropy", CLASSES.clamp(min=0)), ("logistic", (ROWS > 0).double())):
        found, _ = prediction(objective, output, target)
        draws = torch.stack([found.drawn().cotangents[0].flatten() for _ in range(4000)])
        truth = summed(found)
        blocks = torch.block_diag(*[torch.ones(3, 3)] * 5).bool()
        covariance = draws.T @ draws / len(draws)
        off = (covariance - torch.where(blocks, truth, 0.0)).abs().max() / truth.max()
        assert off < 0.12
        assert draws.mean(0).abs().max() < 5 * (truth.max() / 4000) ** 0.5


def test_tasks_of_a_composite_have_each_its_own_directions() -> None:
    a, b = ROWS.clone().requires_grad_(), ROWS[:, :1].clone().requires_grad_()
    objective = ds.objectives.composite(
        {"digit": "cross_entropy", "size": "squared_error"}, weights={"size": 0.5}
    )
    output, target = {"digit": a, "size": b}, {"digit": CLASSES.clamp(min=0), "size": ROWS[:, :1] + 1}
    problem = ds.Problem(model=nn.Identity, objective=objective, train=(ROWS, target))
    asked = Objective(problem)
    found = Prediction(asked.of(output, target), asked)
    drawn = found.drawn()
    assert [u.shape for u in drawn.cotangents] == [(5, 3), (5, 1)]
    sizes = [u for u in found.exact() if u.outputs[0] is b]
    torch.testing.assert_close(sizes[0].cotangents[0] ** 2, torch.full((5, 1), 0.5 * 2 / 5).double())


def test_objectives_without_a_likelihood_are_refused_in_a_line_that_says_what_is_allowed() -> None:
    output, target = ROWS.clone().requires_grad_(), ROWS + 1
    for objective in ("hinge", lambda o, t: (o - t).abs().mean()):
        given = (output[:, 0], ROWS[:, 0].sign()) if objective == "hinge" else (output, target)
        with pytest.raises(ObjectiveError, match=r"allowed are squared_error.*fisher='empirical'"):
            prediction(objective, *given)
    with pytest.raises(ObjectiveError, match="maximize=True"):
        prediction("squared_error", output, target, maximize=True)


def test_labels_give_the_empirical_fisher() -> None:
    output = ROWS.clone().requires_grad_()
    target = CLASSES.clamp(min=0)
    _, asked = prediction("cross_entropy", output, target)
    loss = asked.of(output, target)
    found = empirical(loss, asked)
    (u,) = torch.autograd.grad(found.outputs, output, found.cotangents)
    one_hot = nn.functional.one_hot(target, 3)
    torch.testing.assert_close(u, ((ROWS.softmax(1) - one_hot) / 5**0.5))
