"""Targets that a loss leaves out by its own index: no metric counts them, augmentation fills with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

import downslope as ds
from downslope.training.augmenting import Augmenter

DRAW = torch.Generator().manual_seed(0)
TOKENS = torch.randint(1, 5, (80, 9), generator=DRAW)
TAGS = TOKENS % 3 + 1
TAGS[:, 6:] = 0  # padding


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.out = nn.Embedding(5, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rows(x)).transpose(1, 2)


def how(metric: Any) -> ds.Problem:
    loss = nn.CrossEntropyLoss(ignore_index=0)
    return ds.Problem(
        model=Tagger, objective=loss, train=(TOKENS, TAGS), valid=(TOKENS[:33], TAGS[:33]), metric=metric
    )


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_padding_of_the_loss_counts_in_no_metric(metric: str) -> None:
    run = ds.fit(how(metric), ds.Recipe(lr=0.02, epochs=2, batch_size=16), folder=False, progress=False)
    model, kept = run.model(), TAGS > 0
    with torch.no_grad():
        guess = model(TOKENS).argmax(1)
    right = guess[kept] == TAGS[kept]
    balanced = balanced_accuracy_score(TAGS[kept], guess[kept])
    assert 0 < right.float().mean() < 1
    expected = float(right.float().mean()) if metric == "accuracy" else balanced
    assert run.summary["train_metric"] == pytest.approx(expected, abs=1e-6)


def test_a_metric_of_ones_own_sees_the_targets_as_they_are() -> None:
    seen: list[Tensor] = []

    def own(output: Tensor, target: Tensor) -> float:
        seen.append(target)
        return float((output.argmax(1) == target).float().mean())

    ds.fit(how(own), ds.Recipe(lr=0.02, epochs=1), folder=False, progress=False)
    assert all(int(each.min()) == 0 for each in seen)


def test_masks_moved_beyond_the_border_are_filled_with_what_the_loss_leaves_out() -> None:
    images = torch.rand(20, 3, 8, 8, generator=DRAW)
    masks = (images.mean(1) > 0.5).long()
    problem = ds.Problem(
        model=lambda: nn.Conv2d(3, 2, 3, padding=1), objective=nn.CrossEntropyLoss(ignore_index=255),
        train=(images, masks), augment="shift(2)",
    )  # fmt: skip
    run = ds.fit(problem, ds.Recipe(lr=0.01, epochs=2, batch_size=10), folder=False, progress=False)
    assert run.status == "done"
    _, moved = Augmenter(ds.augment.Shift(2), 0, ignored=255)((images, masks), 0, 0)
    _, plain = Augmenter(ds.augment.Shift(2), 0)((images, masks), 0, 0)
    assert set(moved.unique().tolist()) == {0, 1, 255}
    assert torch.equal(moved == 255, plain == -100)
    assert torch.equal(moved[moved < 255], plain[plain >= 0])
