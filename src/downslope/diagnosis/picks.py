"""What a loss written out by hand asks its outputs for: classes, shares, answers, and which of them count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from downslope.core.class_targets import IGNORED
from downslope.diagnosis.nodes import is_, parents


def targets_of(node: Any) -> list[Tensor]:
    """What has no gradient and is multiplied by, picks an entry, or asks which of two is meant."""
    if is_(node, "MulBackward0", "XlogyBackward"):
        y = _factor(node)
        if y is None:
            return []
        return [y if y.is_floating_point() else y.double()]
    if is_(node, "GatherBackward"):
        index = node._saved_index
        return [index.reshape(-1)] if index.dim() > 1 and index.shape[-1] == 1 else []
    if is_(node, "IndexBackward"):
        places = node._saved_indices
        labels = places[-1]
        whole = isinstance(labels, Tensor) and labels.dtype == torch.int64 and len(places) == labels.dim() + 1
        return [labels.reshape(-1)] if whole and labels.dim() else []
    if is_(node, "WhereBackward"):
        asked = node._saved_condition
        return [asked.double(), 1 - asked.double()]
    return []


def mask_of(node: Any) -> Tensor | None:
    """Which entries count, where a node leaves the others out or multiplies them by 0."""
    if is_(node, "IndexBackward"):
        places = node._saved_indices
        held = places[0] if len(places) == 1 else None
        return held if isinstance(held, Tensor) and held.dtype == torch.bool else None
    held = _factor(node) if is_(node, "MulBackward0") else None
    if held is None or not bool(((held == 0) | (held == 1)).all()):
        return None
    return held.bool() if 0 < int(held.sum()) < held.numel() else None


def _factor(node: Any) -> Tensor | None:
    """The tensor without a gradient that a node multiplies by."""
    if len(node.next_functions) != 2 or len(parents(node)) != 1:
        return None
    first = node.next_functions[0][0] is None
    y = node._saved_self if first or is_(node, "Xlogy") else node._saved_other
    return y if isinstance(y, Tensor) and y.dim() else None


def classes(made: Tensor, targets: list[Tensor], masks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """`made` with a row for every step of every example, beside what may be its classes or shares.

    What a mask leaves out has the class `IGNORED`.
    """
    if made.dim() < 2 or made.shape[-1] < 2:
        return
    rows = made.reshape(-1, made.shape[-1])
    for each in targets:
        shares = each.reshape(rows.shape) if each.shape == made.shape and bool((each >= 0).all()) else None
        labels = _labels(each if shares is None else shares, len(rows))
        # First with a mask: of a first output, nearly the same everywhere, the mean of all is that of some.
        for mask in masks:
            if labels is not None and mask.numel() == len(rows):
                yield rows, torch.where(mask.reshape(-1), labels, IGNORED)
        wanted = labels if shares is None else shares
        if wanted is not None:
            yield rows, wanted


def _labels(target: Tensor, count: int) -> Tensor | None:
    """The class of every row, where that is what a target tells."""
    if target.dim() == 1:
        return target if len(target) == count and not target.is_floating_point() else None
    one = target.dim() == 2 and len(target) == count
    return target.argmax(1) if one and bool(((target.amax(1) == 1) & (target.sum(1) == 1)).all()) else None
