"""Several objectives as one: weights, learnt weights, outputs by name and place, gradient surgery."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import ObjectiveError
from downslope.objectives import absolute_error, composite, squared_error
from downslope.objectives.pcgrad import combine, project

A, B = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
T = torch.zeros(2)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


def test_a_weighted_sum_logs_its_terms_unweighted():
    found = composite({"left": "squared_error", "right": "absolute_error"}, weights={"right": 0.5})(
        {"left": A, "right": B}, {"left": T, "right": T}
    )
    assert found.value.item() == pytest.approx((1 + 9) / 2 + 0.5 * 0.5)
    assert {key: value.item() for key, value in found.terms.items()} == {"left": 5.0, "right": 0.5}
    assert {key: value.item() for key, value in found.parts.items()} == {"left": 5.0, "right": 0.25}


@pytest.mark.parametrize(
    ("output", "target"),
    [
        ({"left": A, "right": B}, (T, T)), ((A, B), {"right": T, "left": T}), ([A, B], [T, T]),
        (Pair(A, B), T), ((A, B), T),
    ],
)  # fmt: skip
def test_outputs_and_targets_go_by_name_or_by_place(output, target):
    own = composite({"left": "squared_error", "right": "absolute_error"})
    assert own(output, target).value.item() == pytest.approx(5.5)


def test_one_output_may_be_asked_for_several_terms():
    own = composite({"square": "squared_error", "size": "absolute_error"})
    assert own(A, T).value.item() == pytest.approx(5.0 + 2.0)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"left": A}, "the output has no 'right'; it has: left"),
        ((A, B, A), "the output has 3 parts for 2 tasks"),
        (3, "the output is int"),
    ],
)
def test_an_output_without_the_task_is_told(output, told):
    with pytest.raises(ObjectiveError, match=told):
        composite({"left": "squared_error", "right": "absolute_error"})(output, T)


def test_learnt_weights_end_at_the_variance_that_the_likelihood_has():
    tasks = {"square": squared_error, "size": absolute_error, "other": lambda o, t: (o - t).abs().max()}
    own = composite(tasks, weights="uncertainty")
    assert own.log_variance.tolist() == [0.0, 0.0, 0.0]
    # At s = 0: half a squared error, as in a Gaussian, and the others as they are.
    assert own(A, T).value.item() == pytest.approx(5.0 / 2 + 2.0 + 3.0)
    optimizer = torch.optim.LBFGS(own.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = own(A, T).value
        value.backward()
        return value

    optimizer.step(closure)
    # d/ds: sigma**2 = the mean squared error; b = the mean absolute error (s = log b**2); 2 L for the rest.
    wanted = [math.log(5.0), 2 * math.log(2.0), math.log(2 * 3.0)]
    assert own.log_variance.tolist() == pytest.approx(wanted, abs=1e-3)


def test_the_gaussian_form_is_the_negative_log_likelihood():
    own = composite({"y": "squared_error"}, weights="uncertainty")
    with torch.no_grad():
        own.log_variance.fill_(0.7)
    normal = torch.distributions.Normal(A, math.exp(0.35))
    wanted = -normal.log_prob(T).mean() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(own(A, T).value, wanted)


def test_conflicting_gradients_lose_what_is_against_each_other():
    g = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    # By hand: g1' = g1 + 1/2 g2 = (1/2, 1/2); g2' = g2 + g1 = (0, 1).
    torch.testing.assert_close(project(g), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))


def test_gradients_that_agree_stay_as_they_are():
    g = torch.tensor([[1.0, 0.5], [0.2, 1.0], [3.0, 0.0]])
    torch.testing.assert_close(project(g), g)


def test_of_three_the_order_counts_and_comes_from_the_generator():
    g = torch.tensor([[1.0, 0.0, 0.2], [-1.0, 1.0, 0.1], [-0.5, -1.0, 0.3]])

    def by_hand(i: int, order: list[int]) -> Tensor:
        found = g[i].clone()
        for j in order:
            if j != i and (dot := float(found @ g[j])) < 0:
                found -= dot / float(g[j] @ g[j]) * g[j]
        return found

    place = torch.Generator().manual_seed(5)
    orders = [torch.randperm(3, generator=place).tolist() for _ in range(3)]
    wanted = torch.stack([by_hand(i, orders[i]) for i in range(3)])
    torch.testing.assert_close(project(g, torch.Generator().manual_seed(5)), wanted)
    others = [project(g, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert any(not torch.allclose(each, others[0]) for each in others)


def test_only_shared_parameters_are_operated_on():
    trunk = nn.Parameter(torch.tensor([1.0, 1.0]))
    heads = [nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))]
    unused = nn.Parameter(torch.tensor(1.0))
    parts = {
        "a": heads[0] * (trunk @ torch.tensor([0.5, 0.0])),
        "b": heads[1] * (trunk @ torch.tensor([-1.0, 1.0])) / 3,
    }
    combine(parts, [trunk, *heads, unused])
    torch.testing.assert_close(trunk.grad, torch.tensor([0.5, 1.5]))  # the rows of the test by hand, added
    assert heads[0].grad.item() == pytest.approx(0.5)
    assert heads[1].grad.item() == pytest.approx(0.0)
    assert unused.grad is None


def test_a_task_without_gradient_on_the_trunk_does_no_harm():
    g = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    torch.testing.assert_close(project(g), g)


def test_what_each_task_counts_is_told_as_given_and_as_learnt():
    tasks = {"square": squared_error, "size": absolute_error, "other": lambda o, t: (o - t).abs().max()}
    assert composite(tasks, weights={"size": 0.5}).factors == {"square": 1.0, "size": 0.5, "other": 1.0}
    own = composite(tasks, weights="uncertainty")
    with torch.no_grad():
        own.log_variance.copy_(torch.tensor([0.4, 0.6, -0.2]))
    # exp(-s) / 2 of a Gaussian, exp(-s / 2) of a Laplace distribution, exp(-s) of the rest.
    wanted = {"square": 0.5 * math.exp(-0.4), "size": math.exp(-0.3), "other": math.exp(0.2)}
    assert own.factors == pytest.approx(wanted, rel=1e-6)
