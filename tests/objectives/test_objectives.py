"""Objectives against torch, against definitions in float64, and on the shapes that torch broadcasts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.objectives import (
    absolute_error,
    bernoulli,
    categorical,
    cross_entropy,
    hinge,
    huber,
    logistic,
    squared_error,
)

N, C = 7, 4


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def fitting(objective, draw: torch.Generator) -> Tensor:
    """An output of the shape and in the domain that an objective expects."""
    z = torch.randn((N, C) if objective.target == "class" else (N,), generator=draw, dtype=torch.float64)
    return {"probabilities": lambda: z.softmax(1), "probability": z.sigmoid}.get(
        objective.expects, lambda: z
    )()


ALIGNING = [
    (squared_error, nn.MSELoss()),
    (absolute_error, nn.L1Loss()),
    (huber, nn.HuberLoss()),
    (huber, nn.SmoothL1Loss()),
    (logistic, nn.BCEWithLogitsLoss()),
]


@pytest.mark.parametrize(("ours", "torchs"), ALIGNING)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 3)])
def test_equal_shapes_agree_with_torch(ours, torchs, shape, draw):
    output, target = torch.randn(shape, generator=draw), torch.randint(0, 2, shape, generator=draw).float()
    torch.testing.assert_close(ours(output, target), torchs(output, target), rtol=0, atol=0)


@pytest.mark.parametrize("ours", [squared_error, absolute_error, huber, logistic, hinge])
@pytest.mark.parametrize(("left", "right"), [((N, 1), (N,)), ((N,), (N, 1)), ((N, 2, 1), (N, 2))])
def test_a_trailing_axis_of_one_is_aligned_and_not_broadcast(ours, left, right, draw):
    output = torch.randn(left, generator=draw)
    target = torch.randint(0, 2, right, generator=draw).float()
    wanted = ours(output.flatten(), target.flatten())
    torch.testing.assert_close(ours(output, target), wanted)


@pytest.mark.parametrize("ours", [squared_error, absolute_error, huber, logistic, hinge])
@pytest.mark.parametrize(
    ("left", "right"),
    [((N, 2), (N,)), ((N,), (1, N)), ((N, 1), (1, N)), ((N,), (N + 1,)), ((N, 1), (1,)), ((N,), ())],
)
def test_any_other_mismatch_is_one_line(ours, left, right):
    with pytest.raises(ObjectiveError) as told:
        ours(torch.zeros(left), torch.zeros(right))
    assert str(left) in str(told.value)
    assert str(right) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("ours", [squared_error, absolute_error, huber, logistic])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float64])
@pytest.mark.parametrize("working", [torch.float32, torch.float64])
def test_targets_of_any_dtype_keep_the_outputs_dtype(ours, dtype, working):
    output = torch.tensor([0.5, -0.25, 2.0], dtype=working, requires_grad=True)
    loss = ours(output, torch.tensor([1, 0, 1]).to(dtype))
    assert loss.dtype == working
    loss.backward()
    assert output.grad is not None
    assert output.grad.dtype == working


def test_whole_number_targets_are_exact_under_half_precision_outputs():
    # 257 is no bfloat16: cast to the output's dtype the error of 1 would read 0 or 2.
    loss = squared_error(torch.tensor([256.0], dtype=torch.bfloat16), torch.tensor([257]))
    assert loss.item() == 1.0


@pytest.mark.parametrize("name", sorted({*names.TABLE["objective"]} - {"elbo"}))
def test_every_named_objective_is_a_mean_over_examples(name, draw):
    ours = names.resolve("objective", name)
    output = fitting(ours, draw)
    target = torch.randint(0, 2, (N,), generator=draw)
    once = ours(output, target)
    torch.testing.assert_close(ours(torch.cat([output] * 3), torch.cat([target] * 3)), once)
    assert ours.expects
    assert ours.reduction == "mean"


@pytest.mark.parametrize("name", sorted({*names.TABLE["objective"]} - {"elbo"}))
def test_every_named_objective_has_the_gradient_of_its_value(name, draw):
    ours = names.resolve("objective", name)
    output = fitting(ours, draw).requires_grad_()
    target = torch.randint(0, 2, (N,), generator=draw)
    assert torch.autograd.gradcheck(lambda o: ours(o, target), (output,))


def test_values_by_hand():
    output, target = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 0.0])
    assert squared_error(output, target).item() == pytest.approx((4 + 1) / 2)
    assert absolute_error(output, target).item() == pytest.approx((2 + 1) / 2)
    assert huber(output, target, delta=1.5).item() == pytest.approx((1.5 * (2 - 0.75) + 0.5) / 2)
    wanted = (math.log1p(math.exp(-3)) + math.log1p(math.exp(-1))) / 2
    assert logistic(output, target).item() == pytest.approx(wanted)
    assert hinge(torch.tensor([3.0, 0.5]), target).item() == pytest.approx((0 + 1.5) / 2)


def test_logistic_is_finite_where_a_sigmoid_has_rounded():
    assert logistic(torch.tensor([-200.0]), torch.tensor([1.0])).item() == pytest.approx(200)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_huber_refuses_a_width_that_is_not_positive(delta):
    with pytest.raises(ObjectiveError, match="delta"):
        huber(torch.zeros(2), torch.zeros(2), delta=delta)


class TestCrossEntropy:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
    @pytest.mark.parametrize("column", [False, True])
    def test_class_indices_of_any_integer_dtype(self, dtype, column, draw):
        output = torch.randn(N, C, generator=draw)
        target = torch.randint(0, C, (N,), generator=draw)
        given = target.to(dtype).reshape(-1, 1) if column else target.to(dtype)
        torch.testing.assert_close(cross_entropy(output, given), nn.CrossEntropyLoss()(output, target))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
    def test_one_hot_rows_equal_class_indices(self, dtype, draw):
        output = torch.randn(N, C, generator=draw)
        target = torch.randint(0, C, (N,), generator=draw)
        rows = nn.functional.one_hot(target, C).to(dtype)
        torch.testing.assert_close(cross_entropy(output, rows), cross_entropy(output, target))

    def test_sequences_with_the_classes_last_equal_the_flattened_form(self, draw):
        output = torch.randn(N, 5, C, generator=draw)
        target = torch.randint(0, C, (N, 5), generator=draw)
        wanted = nn.CrossEntropyLoss()(output.reshape(-1, C), target.reshape(-1))
        torch.testing.assert_close(cross_entropy(output, target), wanted)
        torch.testing.assert_close(cross_entropy(output.movedim(-1, 1), target), wanted)

    def test_smoothing_and_weights_are_torchs(self, draw):
        output, target = torch.randn(N, C, generator=draw), torch.randint(0, C, (N,), generator=draw)
        weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
        wanted = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1)(output, target)
        torch.testing.assert_close(cross_entropy(output, target, weight=weight, label_smoothing=0.1), wanted)

    @pytest.mark.parametrize(
        ("output", "target", "word"),
        [
            (torch.zeros(N, 1), torch.zeros(N, dtype=torch.long), "logistic"),
            (torch.zeros(N), torch.zeros(N, dtype=torch.long), "logistic"),
            (torch.zeros(N, C), torch.zeros(N), "integers"),
            (torch.zeros(N, C), torch.full((N,), C), "outside"),
            (torch.zeros(N, C), torch.full((N,), -1), "outside"),
            (torch.zeros(N, C), torch.zeros(N + 1, dtype=torch.long), "does not fit"),
            (torch.zeros(N, C, C), torch.zeros(N, C, dtype=torch.long), "both"),
            ((torch.zeros(N, C),), torch.zeros(N, dtype=torch.long), "tuple"),
            (torch.zeros(N, C), None, "NoneType"),
            (torch.zeros(0, C), torch.zeros(0, dtype=torch.long), "no example"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, output, target, word):
        with pytest.raises(ObjectiveError, match=word) as told:
            cross_entropy(output, target)
        assert "\n" not in str(told.value)


class TestHinge:
    def test_targets_of_both_conventions_agree(self):
        output = torch.tensor([0.3, -2.0, 1.5])
        wanted = (0.7 + 3.0 + 2.5) / 3
        assert hinge(output, torch.tensor([1, 1, -1])).item() == pytest.approx(wanted)
        assert hinge(output, torch.tensor([1, 1, 0])).item() == pytest.approx(wanted)
        assert hinge(output, torch.tensor([True, True, False])).item() == pytest.approx(wanted)

    def test_several_classes_take_the_worst_wrong_one(self, draw):
        output = torch.randn(N, C, generator=draw, dtype=torch.float64)
        target = torch.randint(0, C, (N,), generator=draw)
        by_hand = []
        for row, label in zip(output.tolist(), target.tolist(), strict=True):
            worst = max(score for index, score in enumerate(row) if index != label)
            by_hand.append(max(0.0, 1 + worst - row[label]))
        assert hinge(output, target).item() == pytest.approx(sum(by_hand) / N)

    def test_a_class_beyond_the_last_is_told(self):
        with pytest.raises(ObjectiveError, match="outside"):
            hinge(torch.zeros(2, C), torch.tensor([0, C]))


class TestLikelihoodsOfProbabilities:
    def test_a_softmax_before_categorical_is_the_cross_entropy_in_value_and_gradient(self, draw):
        z = torch.randn(N, C, generator=draw, dtype=torch.float64, requires_grad=True)
        target = torch.randint(0, C, (N,), generator=draw)
        for given in (target, nn.functional.one_hot(target, C), target.reshape(-1, 1)):
            ours, theirs = categorical(z.softmax(1), given), cross_entropy(z, target)
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z))

    def test_a_probability_of_zero_costs_much_and_not_everything(self):
        p = torch.tensor([[0.0, 1.0]], requires_grad=True)
        assert categorical(p, torch.tensor([0])).item() == pytest.approx(87.3, abs=0.1)
        assert bernoulli(torch.tensor([0.0]), torch.tensor([1])).isfinite()

    def test_bernoulli_is_torchs_bce_without_its_broadcasting(self, draw):
        p, y = torch.rand(N, 1, generator=draw), torch.randint(0, 2, (N,), generator=draw)
        torch.testing.assert_close(bernoulli(p, y), nn.BCELoss()(p.flatten(), y.float()))
        with pytest.raises(ObjectiveError, match="bernoulli"):
            bernoulli(p.flatten(), y.reshape(1, -1))

    @pytest.mark.parametrize(
        ("output", "target", "word"),
        [
            (torch.ones(N, 1), torch.zeros(N, dtype=torch.long), "bernoulli"),
            (torch.ones(N), torch.ones(N), "bernoulli"),
            (torch.ones(N, C), torch.full((N,), C), "outside"),
            (torch.ones(N, C), torch.zeros(N), "integers"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, output, target, word):
        with pytest.raises(ObjectiveError, match=word) as told:
            categorical(output, target)
        assert str(told.value).startswith("categorical")


def test_objectives_vectorise_over_members(draw):
    outputs = torch.randn(3, N, C, generator=draw)
    target = torch.randint(0, C, (N,), generator=draw)
    batched: Tensor = torch.func.vmap(cross_entropy, in_dims=(0, None))(outputs, target)
    torch.testing.assert_close(batched, torch.stack([cross_entropy(output, target) for output in outputs]))


def test_an_index_that_does_not_count_is_a_setting_of_the_cross_entropy() -> None:
    z, y = torch.randn(40, 3, 5), torch.randint(0, 3, (40, 5))
    y[:, 3:] = 255
    own = names.resolve("objective", "cross_entropy(ignore_index=255)")
    theirs = torch.nn.CrossEntropyLoss(ignore_index=255)
    torch.testing.assert_close(own(z, y), theirs(z, y))
    assert own.ignore_index == 255
    with pytest.raises(ObjectiveError, match=r"ignore_index=0.5: must be a whole number"):
        names.resolve("objective", "cross_entropy(ignore_index=0.5)")
