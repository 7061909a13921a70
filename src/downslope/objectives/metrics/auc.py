"""AUC: the area under the receiver operating characteristic, by ranks (Hanley and McNeil 1982)."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.metrics.metric import metric, zero_or_one
from downslope.objectives.objective import align, shape_of, tensors


def placements(output: Tensor, target: Tensor) -> Tensor:
    """What each example contributes, shape (n,): the share of the other side that it stands right of.

    The structural components of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44, section 2).
    """
    scores, truth = _columns(*tensors(output, target, "auc", "metric"))
    truth = truth.to(scores.device)
    defined = truth.any(0) & (~truth).any(0)
    columns = [_places(scores[:, i], truth[:, i]) for i in defined.nonzero().flatten().tolist()]
    return torch.stack(columns).mean(0)


def _places(score: Tensor, truth: Tensor) -> Tensor:
    yes, no = score[truth].sort().values.contiguous(), score[~truth].sort().values.contiguous()
    found = torch.empty_like(score)
    for own, other, up in ((truth, no, True), (~truth, yes, False)):
        mine = score[own].contiguous()
        ends = [torch.searchsorted(other, mine, right=right) for right in (False, True)]
        below = (ends[0] + ends[1]).double() / (2 * len(other))
        found[own] = below if up else 1 - below
    area = found[truth].mean()
    return area + torch.where(truth, len(score) / len(yes), len(score) / len(no)) * (found - area)


@metric(goal="max", most=1.0, shares=placements)
def auc(output: Tensor, target: Tensor) -> float:
    """The probability that a random yes scores above a random no, ties counting half.

    Equivalent to `sklearn.metrics.roc_auc_score`; with several classes to its ``multi_class="ovr"``, the
    plain mean over classes of one against the rest, on softmax probabilities (rows that are probabilities
    already stay as they are); with several labels to ``average="macro"``.

    Args:
        output: scores (n,) or (n, 1); class scores (n, C); label scores (n, k).
        target: 0 and 1, or -1 and 1; class indices (n,) or one-hot rows for class scores; 0 and 1 in the
            output's shape for labels.

    Returns:
        A number in [0, 1]; NaN where no column has both a yes and a no, or a score is NaN.

    Raises:
        ObjectiveError: the shapes or the target's values do not fit.
    """
    scores, truth = _columns(*tensors(output, target, "auc", "metric"))
    areas = torch.stack([_area(scores[:, i], truth[:, i]) for i in range(scores.shape[1])])
    defined = (truth.any(0) & (~truth).any(0)).to(areas.device)
    return areas[defined].mean().item() if bool(defined.any()) else float("nan")


def _columns(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and truths, both (n, k), one column per yes-or-no question."""
    output, target = output.detach().double(), target.detach()
    if output.ndim == 2 and output.shape[1] > 1 and target.shape != output.shape:
        index = target.squeeze(1) if target.shape == (len(output), 1) else target
        if index.shape != output.shape[:1] or bool(((index < 0) | (index >= output.shape[1])).any()):
            raise ObjectiveError(
                f"auc: output {shape_of(output)} needs class indices in [0, {output.shape[1]}) of shape "
                f"({len(output)},), not a target {shape_of(target)}"
            )
        sums_to_one = bool((output >= 0).all()) and bool(((output.sum(1) - 1).abs() < 1e-4).all())
        output = output if sums_to_one else output.softmax(1)
        truth = index.long().unsqueeze(1) == torch.arange(output.shape[1], device=index.device)
        # Two classes are one question: the columns mirror each other but for rounding.
        return (output[:, 1:], truth[:, 1:]) if output.shape[1] == 2 else (output, truth)
    output, target = align(output, target, "auc", "metric")
    truth = zero_or_one(target, "auc").bool()
    return output.reshape(len(output), -1), truth.reshape(len(truth), -1)


def _area(score: Tensor, truth: Tensor) -> Tensor:
    """The area for one column, from the mean ranks of the yes (Mann and Whitney's U over its maximum)."""
    if bool(score.isnan().any()):
        return score.new_tensor(float("nan"))
    ordered = score.sort().values.contiguous()
    below, upto = (torch.searchsorted(ordered, score.contiguous(), right=right) for right in (False, True))
    rank = (below + upto + 1).double() / 2
    yes = truth.sum().double()
    pairs = yes * (len(truth) - yes)
    return (rank[truth].sum() - yes * (yes + 1) / 2) / pairs
