"""What the data is: scales, kinds, non-finite values. No model is needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.edits import StandardiseInputs, StandardiseTargets, WhitenInputs
from downslope.core.fixed_sample import SCORED, drawn, sample
from downslope.core.problem import Problem
from downslope.core.sources import Memory, Source
from downslope.data.gaps import gaps
from downslope.data.inspect import MOST_TOLD, facts, same, sampled


def measure(problem: Problem, *, finite: bool = False) -> dict[str, Any]:
    """The facts of the training part, and the values that are not finite of all tensors of both parts.

    Args:
        problem: Whose data is looked at.
        finite: Whether all of it is known to be finite; then it is not looked again.

    Returns:
        What `downslope.data.facts` says of the first input and the target; ``non_finite``,
        ``target_non_finite``, ``valid_non_finite`` and ``valid_target_non_finite`` with the ``place`` of the
        ``first`` in words, and the first ``places`` (``file``, ``at``, ``said``, ``value``);
        ``size``, ``valid_n``, ``standardised_targets``; ``same``, whether the examples differ in targets and
        not in inputs.
    """
    train, valid = problem.train_source, problem.valid_source
    held = _held(train)
    args, kwargs, target = problem.splitter(held.batch)
    found = facts((*args, *kwargs.values()), target, finite=finite)
    given = batches.tensors((args, kwargs))
    found["same"] = len(given) == 1 and given[0].dim() > 0 and same(given[0], target)
    if not finite:
        found |= _non_finite(problem, train, held, "train", "")
    if valid is not None:
        found |= {"valid_n": valid.size}
        if not finite:
            found |= _non_finite(problem, valid, _held(valid), "valid", "valid_")
    found["size"] = problem.train_source.size
    found["standardised_targets"] = any(isinstance(edit, StandardiseTargets) for edit in problem.edits)
    return found


def features(problem: Problem) -> dict[str, Any] | None:
    """Root mean square and deviation of every input feature as the model's first layer sees it.

    The scale that counts for the step is that of a feature, not of all values together. Features are the
    last axis of tables and sequences, the channels of images.
    """
    source = problem.train_source
    held = _held(source)
    args, kwargs, _ = problem.splitter(held.batch)
    x = next((leaf for leaf in batches.tensors((args, kwargs))), None)
    if x is None or not x.is_floating_point() or not x.numel():
        return None
    values = drawn(held, x, sampled(x)).to("cpu", torch.float64)
    for edit in problem.edits:
        if isinstance(edit, StandardiseInputs) and edit.scale is not None:
            values = (values - edit.scale[0]) / edit.scale[1]
        if isinstance(edit, WhitenInputs) and edit.scale is not None:
            values = (values - edit.scale[0]) @ edit.scale[1].to(values)
    return scales(values)


def scales(values: Tensor) -> dict[str, Any] | None:
    """Root mean square, deviation and offset of the features in `values`, whose examples are on axis 0.

    Returns:
        ``rms`` of all values; ``max_rms`` and its ``max_rms_feature``, ``max_std``, ``std_ratio`` (95th in
        5th percentile) and ``offset_ratio`` (median of mean in deviation) of the features that vary; how
        many ``features`` there are, and ``varying`` of them. None where none varies.
    """
    values = values.movedim(1, -1) if values.dim() > 3 else values
    values = values.reshape(-1, values.shape[-1] if values.dim() > 1 else 1)
    if not bool(values.sum().isfinite()):
        values = values[values.isfinite().all(1)]
    rms = values.square().mean(0).sqrt()
    mean = values.mean(0)
    std = (values - mean).square().mean(0).sqrt()
    varies = std > 1e-9 * rms.clamp_min(1e-300)
    if not bool(varies.any()):
        return None
    lead = int(torch.where(varies, rms, 0.0).argmax())
    some = std[varies]
    return {
        "rms": float(values.square().mean().sqrt()),
        "max_rms": float(rms[varies].max()),
        "max_rms_feature": lead,
        "max_std": float(some.max()),
        "std_ratio": float(some.quantile(0.95) / some.quantile(0.05)) if len(some) > 1 else 1.0,
        "offset_ratio": float((mean[varies].abs() / some).median()),
        "features": int(values.shape[1]),
        "varying": int(varies.sum()),
    }


def _held(source: Source) -> Memory:
    return source if isinstance(source, Memory) else Memory(sample(source, SCORED, None))


def _non_finite(problem: Problem, source: Source, held: Memory, part: str, prefix: str) -> dict[str, Any]:
    """Counts over all inputs, and over all targets, with the first places."""
    keys = {"inputs": f"{prefix}non_finite", "target": f"{prefix}target_non_finite"}
    found: dict[str, Any] = {
        key: {"count": 0, "nan": 0, "first": None, "places": []} for key in keys.values()
    }
    said = part if held is source else f"{part} stream"
    for gap in gaps(held, problem.splitter, said):
        total = found[keys[gap.kind]]
        total["first"] = total["first"] or gap.facts["first"] | {"place": gap.place}
        total["count"] += gap.facts["count"]
        total["nan"] += gap.facts["nan"]
        total["places"] = [*total["places"], *(place._asdict() for place in gap.places)][:MOST_TOLD]
    return found
