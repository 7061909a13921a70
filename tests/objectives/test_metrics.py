"""Metrics against scikit-learn, and on the shapes and values where a metric is easily wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.objectives.metrics import accuracy, auc, error, f1, mae, mse, r2, rmse

N, C = 60, 4


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def classes(draw: torch.Generator, count: int = C) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(N, count, generator=draw), torch.randint(0, count, (N,), generator=draw)


def test_every_named_metric_says_its_goal():
    goals = {name: names.resolve("metric", name).goal for name in names.TABLE["metric"]}
    assert {name for name, goal in goals.items() if goal == "min"} == {"error", "mse", "rmse", "mae"}
    higher = {name for name, goal in goals.items() if goal == "max"}
    assert higher == {"accuracy", "balanced_accuracy", "f1", "auc", "r2"}


class TestAccuracy:
    def test_class_scores_agree_with_scikit_learn(self, draw):
        output, target = classes(draw)
        wanted = reference.accuracy_score(target, output.argmax(1))
        one_hot = torch.nn.functional.one_hot(target, C)
        for scores in (output, output.softmax(1), output.log_softmax(1), output.bfloat16().float()):
            assert accuracy(scores, target) == pytest.approx(
                reference.accuracy_score(target, scores.argmax(1))
            )
        for form in (target.reshape(-1, 1), target.float(), target.int(), one_hot, one_hot.float()):
            assert accuracy(output, form) == pytest.approx(wanted)
        assert error(output, target) == pytest.approx(1 - wanted)

    @pytest.mark.parametrize("column", [False, True])
    def test_one_score_is_cut_at_its_own_scale(self, draw, column):
        logits = torch.randn(N, generator=draw) * 3
        target = torch.randint(0, 2, (N,), generator=draw)
        wanted = reference.accuracy_score(target, logits > 0)
        shaped = logits.reshape(-1, 1) if column else logits
        for form in (target, target.float(), target.bool(), target.reshape(-1, 1), 2 * target - 1):
            assert accuracy(shaped, form) == pytest.approx(wanted)
            assert accuracy(shaped.sigmoid(), form) == pytest.approx(wanted)
        assert accuracy(shaped, target, threshold=1.0) == pytest.approx(
            reference.accuracy_score(target, logits > 1)
        )

    def test_sequences_count_every_position_with_the_classes_on_either_axis(self, draw):
        output = torch.randn(N, 5, C, generator=draw)
        target = torch.randint(0, C, (N, 5), generator=draw)
        wanted = (output.argmax(-1) == target).double().mean().item()
        assert accuracy(output, target) == pytest.approx(wanted)
        assert accuracy(output.movedim(-1, 1), target) == pytest.approx(wanted)

    def test_ignored_positions_do_not_count(self):
        output = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]])
        assert accuracy(output, torch.tensor([[0, 0, -100]])) == 0.5
        with pytest.raises(ObjectiveError, match="-100"):
            accuracy(output, torch.full((1, 3), -100))

    def test_multi_label_counts_entries(self, draw):
        output = torch.randn(N, 3, generator=draw)
        target = torch.randint(0, 2, (N, 3), generator=draw).float()
        wanted = ((output > 0).float() == target).double().mean().item()
        assert accuracy(output, target) == pytest.approx(wanted)
        assert accuracy(output.sigmoid(), target) == pytest.approx(wanted)

    def test_a_threshold_makes_one_hot_rows_multi_label(self):
        output, target = torch.tensor([[2.0, 1.0], [-1.0, -2.0]]), torch.tensor([[1, 0], [1, 0]])
        assert accuracy(output, target) == 1.0
        assert accuracy(output, target, threshold=0.0) == 0.5

    def test_predicted_indices_are_compared(self):
        assert accuracy(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])) == pytest.approx(2 / 3)

    def test_nan_is_a_wrong_answer_even_where_argmax_hits(self):
        nan = float("nan")
        assert accuracy(torch.tensor([[nan, 0.0], [1.0, 0.0]]), torch.tensor([0, 0])) == 0.5
        assert accuracy(torch.tensor([nan, nan]), torch.tensor([0, 0])) == 0.0

    @pytest.mark.parametrize(
        ("output", "target"),
        [
            (torch.zeros(5), torch.arange(5)),
            (torch.zeros(5, 1), torch.tensor([1.5, 2.0, 0.0, 1.0, 1.0])),
            (torch.zeros(5, 3), torch.tensor([1.5, 2.0, 0.0, 1.0, 1.0])),
            (torch.zeros(5, 3), torch.zeros(4, dtype=torch.long)),
            (torch.zeros(5, 3), torch.zeros(5, 2)),
            (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        ],
    )
    def test_what_is_no_classification_is_one_line(self, output, target):
        with pytest.raises(ObjectiveError) as told:
            accuracy(output, target)
        assert "\n" not in str(told.value)


class TestF1:
    def test_one_score_agrees_with_scikit_learn(self, draw):
        logits, target = torch.randn(N, generator=draw), torch.randint(0, 2, (N,), generator=draw)
        assert f1(logits, target) == pytest.approx(reference.f1_score(target, logits > 0))

    def test_two_classes_are_one_question(self, draw):
        output, target = classes(draw, 2)
        assert f1(output, target) == pytest.approx(reference.f1_score(target, output.argmax(1)))

    def test_several_classes_agree_with_scikit_learn_even_where_one_is_missing(self, draw):
        output, target = classes(draw)
        assert f1(output, target) == pytest.approx(
            reference.f1_score(target, output.argmax(1), average="macro")
        )
        output[:, 2], target = -9.0, target.clamp(max=1)
        assert f1(output, target) == pytest.approx(
            reference.f1_score(target, output.argmax(1), average="macro")
        )

    def test_several_labels_agree_with_scikit_learn(self, draw):
        output, target = torch.randn(N, 3, generator=draw), torch.randint(0, 2, (N, 3), generator=draw)
        target[:, 2], output[:, 2] = 0, -1.0
        wanted = reference.f1_score(target.numpy(), (output > 0).numpy(), average="macro", zero_division=0)
        assert f1(output, target) == pytest.approx(wanted)


class TestAuc:
    @pytest.mark.parametrize("ties", [False, True])
    def test_one_score_agrees_with_scikit_learn(self, draw, ties):
        scores, target = torch.randn(N, generator=draw), torch.randint(0, 2, (N,), generator=draw)
        scores = (scores * 2).round() if ties else scores
        assert auc(scores.reshape(-1, 1), target) == pytest.approx(reference.roc_auc_score(target, scores))

    def test_two_classes_agree_with_scikit_learn(self, draw):
        output, target = classes(draw, 2)
        wanted = reference.roc_auc_score(target, output.double().softmax(1)[:, 1])
        assert auc(output, target) == pytest.approx(wanted)

    def test_several_classes_agree_with_scikit_learn_one_versus_rest(self, draw):
        output, target = classes(draw)
        probabilities = output.double().softmax(1)
        wanted = reference.roc_auc_score(target, probabilities.numpy(), multi_class="ovr")
        assert auc(output, target) == pytest.approx(wanted)
        assert auc(probabilities, target.reshape(-1, 1)) == pytest.approx(wanted)

    def test_several_labels_agree_with_scikit_learn(self, draw):
        output, target = torch.randn(N, 3, generator=draw), torch.randint(0, 2, (N, 3), generator=draw)
        assert auc(output, target) == pytest.approx(reference.roc_auc_score(target.numpy(), output.numpy()))

    def test_one_class_only_has_no_area(self):
        assert math.isnan(auc(torch.tensor([0.1, 0.2]), torch.tensor([1, 1])))

    def test_a_class_index_beyond_the_scores_is_told(self):
        with pytest.raises(ObjectiveError, match="class indices"):
            auc(torch.zeros(3, 3), torch.tensor([0, 1, 3]))


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 3)])
def test_regression_metrics_agree_with_scikit_learn(draw, shape):
    target = torch.randn(shape, generator=draw) * 30 + 100
    output = target + torch.randn(shape, generator=draw)
    truth, guess = target.double().numpy(), output.double().numpy()
    assert mse(output, target) == pytest.approx(reference.mean_squared_error(truth, guess))
    assert rmse(output, target) == pytest.approx(np.sqrt(np.mean((truth - guess) ** 2)))
    assert mae(output, target) == pytest.approx(reference.mean_absolute_error(truth, guess))
    assert r2(output, target) == pytest.approx(reference.r2_score(truth, guess))


@pytest.mark.parametrize("metric", [mse, rmse, mae, r2])
def test_regression_metrics_align_a_column_and_refuse_to_broadcast(metric, draw):
    output, target = torch.randn(N, generator=draw), torch.randn(N, generator=draw)
    assert metric(output.reshape(-1, 1), target) == metric(output, target)
    with pytest.raises(ObjectiveError):
        metric(output.reshape(1, -1), target)


@pytest.mark.parametrize("guess", [[1.0, 1.0], [1.0, 2.0]])
def test_r2_of_a_constant_target_is_scikit_learns(guess):
    wanted = reference.r2_score([1.0, 1.0], guess)
    assert r2(torch.tensor(guess), torch.tensor([1.0, 1.0])) == wanted
