"""The loss of every example: its mean is the objective, its spread over draws the standard error."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.objectives import composite, cross_entropy, examples, huber, logistic, make, penalised
from downslope.objectives.examples import rows

N, C = 40, 4
NAMED = sorted({*names.TABLE["objective"]} - {"elbo"})
"""Those of one output; the bound has a file of its own."""


def given(name: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An output and a target in the domain of a named objective, in float64."""
    ours = names.resolve("objective", name)
    g = torch.Generator().manual_seed(seed)
    z = torch.randn((N, C) if ours.target == "class" else (N,), generator=g, dtype=torch.float64)
    output = {"probabilities": lambda: z.softmax(1), "probability": z.sigmoid}.get(ours.expects, lambda: z)()
    target = torch.randint(0, C if ours.target == "class" else 2, (N,), generator=g)
    return output, target


@pytest.mark.parametrize("name", NAMED)
def test_the_losses_of_the_examples_are_what_single_rows_cost(name):
    ours = names.resolve("objective", name)
    output, target = given(name)
    losses = ours(output, target, reduction="none")
    alone = torch.stack([ours(output[i : i + 1], target[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(losses, alone)
    torch.testing.assert_close(losses.mean(), ours(output, target))


@pytest.mark.parametrize("name", NAMED)
def test_a_sum_is_refused_since_the_step_would_grow_with_the_batch(name):
    output, target = given(name)
    with pytest.raises(ObjectiveError, match="reduction='sum'"):
        names.resolve("objective", name)(output, target, reduction="sum")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, (1.0, 5.0, 0.5, 2.0)])
def test_shares_of_a_weighted_mean_have_that_mean_and_torchs_value(smoothing, weight):
    output, target = given("cross_entropy")
    target[::7] = -100
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    wanted = functional.cross_entropy(output, target, weight=tensor, label_smoothing=smoothing)
    ours = functools.partial(cross_entropy, output, target, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(ours(), wanted)
    torch.testing.assert_close(ours(reduction="none").mean(), wanted)


def test_the_error_of_a_weighted_mean_is_its_spread_over_draws():
    weight = (1.0, 20.0)
    pool = torch.Generator().manual_seed(1)
    means, errors = [], []
    for _ in range(600):
        target = (torch.rand(200, generator=pool) < 0.1).long()
        output = torch.randn(200, 2, generator=pool, dtype=torch.float64)
        losses = cross_entropy(output, target, weight=weight, reduction="none")
        means.append(float(losses.mean()))
        errors.append(float(losses.std()) / math.sqrt(200))
    spread = float(torch.tensor(means).std())
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)  # the error of 600 draws is 3 %


@pytest.mark.parametrize(
    "own",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.rand(C, dtype=torch.float64) + 0.5),
        nn.CrossEntropyLoss(), nn.MultiMarginLoss(), functional.cross_entropy,
        functools.partial(functional.cross_entropy, label_smoothing=0.2),
        lambda output, target: functional.cross_entropy(output, target) + 0.1 * output.square().mean(),
        lambda output, target: {"fit": functional.cross_entropy(output, target), "flat": output.abs().mean()},
        make("cross_entropy", label_smoothing=0.3), penalised("cross_entropy", l2=0.1),
        composite({"fit": "cross_entropy", "flat": lambda o, t: o.square().mean()}, weights={"flat": 0.5}),
    ],
)  # fmt: skip
def test_objectives_of_torch_and_of_ones_own_are_taken_apart(own):
    output, target = given("cross_entropy")
    value = own(output, target)
    value = sum(value.values()) if isinstance(value, dict) else getattr(value, "value", value)
    found = rows(examples(own), output, target)
    assert found is not None
    torch.testing.assert_close(found.mean(), value)


def test_what_cannot_be_called_on_one_row_says_nothing():
    output, target = given("cross_entropy")
    assert rows(examples(lambda o, t: o.numpy().mean()), output, target) is None
    assert rows(examples(lambda o, t: 1 / 0), output, target) is None


HUGE = [("logistic", 1e4), ("cross_entropy", 1e4), ("hinge", 1e4), ("huber", 1e4), ("squared_error", 2e2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "size"), HUGE)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_huge_outputs_have_the_float64_value_and_gradient(name, size, dtype, reduction):
    ours = names.resolve("objective", name)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    output = size * (torch.stack([sign, -sign, 0.5 * sign], 1) if ours.target == "class" else sign)
    target = torch.tensor([0, 1, 1, 0])
    low = output.to(dtype).requires_grad_()
    exact = output.to(dtype).double().requires_grad_()
    for each in (low, exact):
        loss = ours(each, target, reduction=reduction)
        assert torch.isfinite(loss).all()
        loss.mean().backward()
    torch.testing.assert_close(
        ours(low, target, reduction=reduction).double(), ours(exact, target, reduction=reduction), rtol=1e-6,
        atol=1e-6,
    )  # fmt: skip
    assert low.grad is not None
    assert low.grad.dtype == dtype
    torch.testing.assert_close(low.grad.double(), exact.grad, rtol=1e-2, atol=1e-3)


def test_a_yes_that_counts_p_times_is_p_copies_of_it():
    output, target = given("logistic")
    copies = torch.cat([output, *[output[target == 1]] * 2]), torch.cat([target, *[target[target == 1]] * 2])
    weighted = logistic(output, target, pos_weight=3.0) * len(output)
    torch.testing.assert_close(weighted, logistic(*copies) * len(copies[0]))
    several = torch.stack([output, output], 1), torch.stack([target, target], 1)
    found = logistic(*several, pos_weight=(3.0, 1.0))
    torch.testing.assert_close(2 * found, weighted / len(output) + logistic(output, target))


def test_weights_that_do_not_fit_the_classes_are_told():
    output, target = given("cross_entropy")
    with pytest.raises(ObjectiveError, match=r"weight of shape \(2,\) for 4 classes"):
        cross_entropy(output, target, weight=(1.0, 2.0))


@pytest.mark.parametrize("delta", [0.5, 3.0])
def test_huber_is_square_near_zero_and_linear_far_from_it(delta):
    e = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    huber(e, torch.zeros(41), delta=delta, reduction="none").sum().backward()
    torch.testing.assert_close(e.grad, e.detach().clamp(-delta, delta))
