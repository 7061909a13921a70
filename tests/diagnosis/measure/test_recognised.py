"""Recall of rare classes, by what a loss was handed: against scikit-learn, in every form."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import log_loss, recall_score, roc_auc_score
from torch import Tensor, nn

from downslope.diagnosis.measure.recognised import measure


def scored(n: int = 900) -> tuple[Tensor, Tensor]:
    """Scores of four classes, of which the third is rare."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.multinomial(torch.tensor([0.4, 0.3, 0.04, 0.26]), n, replacement=True, generator=draw)
    return torch.randn(n, 4, generator=draw) + 2 * nn.functional.one_hot(truth, 4), truth


@pytest.mark.parametrize("expects", ["logits", "log-probabilities"])
def test_a_rare_class_of_several_is_measured_as_by_scikit_learn(expects: str) -> None:
    scores, truth = scored()
    given = scores if expects == "logits" else scores.log_softmax(1)
    found = measure(given, truth, expects)
    assert found is not None
    (rare,) = found["rare"]
    yes, p = (truth == 2).numpy(), scores.softmax(1)[:, 2].double().numpy()
    share = yes.mean()
    assert (rare["label"], rare["n"], found["rows"]) == (2, yes.sum(), 900)
    assert rare["recall"] == pytest.approx(recall_score(yes, scores.argmax(1).numpy() == 2))
    assert rare["area"] == pytest.approx(roc_auc_score(yes, p))
    constant = log_loss(yes, [share] * 900)
    assert rare["way"] == pytest.approx(1 - log_loss(yes, p) / constant, rel=1e-5)


def test_every_pixel_counts_and_what_is_ignored_does_not() -> None:
    scores, truth = scored()
    flat = measure(scores, truth, "logits")
    pictures = scores.reshape(10, 90, 4).movedim(2, 1)
    assert measure(pictures, truth.reshape(10, 90), "logits") == flat
    left = truth.clone()
    left[:100] = -100
    assert measure(scores, left, "logits") == measure(scores[100:], truth[100:], "logits")


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["(n,)", "(n, 1)"])
@pytest.mark.parametrize("flipped", [False, True], ids=["a rare yes", "a rare no"])
def test_one_logit_is_measured_as_two_are(shape: tuple[int, ...], flipped: bool) -> None:
    draw = torch.Generator().manual_seed(1)
    yes = (torch.rand(800, generator=draw) < 0.05) != flipped
    score = torch.randn(800, generator=draw) + 2.0 * yes - 1.5 + 2.0 * flipped
    both = measure(torch.stack([torch.zeros(800), score], 1), yes.long(), "logits")
    target = yes.double().reshape(shape)
    one = measure(score.double().reshape(shape), target, "logit")
    as_share = measure(score.double().sigmoid().reshape(shape), target, "probability")
    assert both is not None
    assert one is not None
    assert one["rare"][0] == pytest.approx(both["rare"][0], rel=1e-5)
    assert as_share is not None
    assert as_share["rare"][0] == pytest.approx(one["rare"][0], rel=1e-6)


def test_of_several_columns_each_is_measured_by_itself() -> None:
    draw = torch.Generator().manual_seed(2)
    target = (torch.rand(600, 3, generator=draw) < torch.tensor([0.5, 0.03, 0.06])).float()
    scores = torch.randn(600, 3, generator=draw) + 3 * target - 2
    found = measure(scores, target, "logit")
    assert found is not None
    assert [each["label"] for each in found["rare"]] == [1, 2]
    for each in found["rare"]:
        k = each["label"]
        assert each["recall"] == pytest.approx(recall_score(target[:, k], scores[:, k] > 0))


def test_what_is_no_rare_class_is_told_of_as_none() -> None:
    scores, truth = scored()
    assert measure(scores, truth, "real") is None
    assert measure(scores, truth, None) is None
    assert measure(scores[:, :1], truth, "logits") is None
    assert measure(torch.randn(90, 40), torch.randint(40, (90,)), "logits") is None  # words
    assert measure(scores, nn.functional.one_hot(truth, 4).float(), "logit") is None  # classes, one-hot
    assert measure(torch.randn(50, 1), torch.rand(50, 1), "logit") is None
    equal = measure(scores, torch.arange(900) % 4, "logits")
    assert equal is not None
    assert equal["rare"] == []
