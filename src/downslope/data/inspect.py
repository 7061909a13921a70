"""Facts of data in memory: cheap, JSON-able numbers from which a diagnosis can speak about the data.

Scales are measured on at most 4096 examples drawn with a fixed seed, in float64, over finite values only.
Non-finite values are sought everywhere, and so is the order of the targets.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAMPLED = 4096
"""Examples on which scales are measured; the standard error of a mean is then 1.6 % of the deviation."""

MOST_LABELS = 1000
"""Classes that are counted one by one."""

LARGEST = 2**24
"""Numbers on which scales are measured at most, of examples as large as pictures: 128 MiB in float64."""

FEWEST = 64
"""Examples that are looked at however large they are."""

REPEATED = 20
"""Examples from which it is told that all of them have the same inputs. Convention."""

MOST_TOLD = 5
"""Values that are not finite whose places are told one by one."""

Facts = dict[str, Any]


def sampled(x: Tensor) -> int:
    """How many examples of `x` are enough to measure its scales."""
    return min(SAMPLED, max(FEWEST, LARGEST // max(x[:1].numel(), 1)))


def facts(inputs: object, target: object = None, *, finite: bool = False) -> Facts:
    """What can be said of inputs and targets without a model.

    Args:
        inputs: tensor or array, examples on axis 0; of a dict or a tuple the first tensor counts.
        target: the same, or None.
        finite: Whether all values are known to be finite; then it is not looked again.

    Returns:
        A dict that `json.dumps` takes, NaN and infinity being None:

        - ``n``, ``shape`` (of one example), ``dtype``, ``kind``: "tabular" (n, d), "image" (n, c, h, w),
          "sequence" (n, l, d), "tokens" (integers), "volume" (more axes), "scalar" (n,) or "other" (nothing
          else is told then, and ``n`` is None);
        - ``inputs``: ``rms``, ``mean``, ``std``, ``min``, ``max`` of all values; ``features`` (columns, or
          channels of an image), ``max_abs_mean``, ``max_std``, ``min_std`` (of those that vary),
          ``std_ratio``, ``constant`` (features that do not vary), ``sampled`` (examples measured);
        - ``non_finite`` and ``target_non_finite``: ``count``, ``nan``, ``first`` (``row``, ``column``, flat
          within the example, its ``index`` there, ``value``; all from 0; None if there is none), ``some``
          (a list of at most 5 of these);
        - ``target``: None, or ``kind`` ("binary", "classes", "one-hot", "multi-label", "real"), ``shape``,
          ``dtype``, ``mean``, ``std``, ``min``, ``max``, ``rms``, ``distinct``, ``constant``, ``labels`` and
          ``counts`` (of binary and classes, at most 1000), ``neighbours`` (see `_order`).
    """
    x, y = _tensor(inputs), _tensor(target)
    if x is None or not x.ndim:
        return {"n": None, "kind": "other", "target": None if y is None else _target(y)}
    found: Facts = {
        "n": len(x),
        "shape": list(x.shape[1:]),
        "dtype": str(x.dtype).removeprefix("torch."),
        "kind": _kind(x),
        "inputs": _scales(x) if x.numel() else None,
        "non_finite": _whole() if finite else non_finite(x),
        "target": None,
        "target_non_finite": None,
    }
    if y is not None and y.ndim and y.numel():
        found["target"], found["target_non_finite"] = _target(y), _whole() if finite else non_finite(y)
    return found


def _tensor(given: object) -> Tensor | None:
    """The first tensor of what was given, on its own device; None if there is none."""
    if isinstance(given, Tensor):
        return given.detach()
    if isinstance(given, np.ndarray):
        array = cast("np.ndarray[Any, Any]", given)
        if array.dtype.kind not in "biuf":
            return None
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    if isinstance(given, dict):
        given = list(cast("dict[Any, Any]", given).values())
    if isinstance(given, list | tuple):
        leaves = (_tensor(leaf) for leaf in cast("list[Any]", given))
        return next((leaf for leaf in leaves if leaf is not None), None)
    return None


def _kind(x: Tensor) -> str:
    if x.dtype not in (torch.uint8, torch.bool) and not x.is_floating_point() and x.ndim <= 2:
        return "tokens"
    return {1: "scalar", 2: "tabular", 3: "sequence", 4: "image"}.get(x.ndim, "volume")


def _scales(x: Tensor) -> Facts:
    sample = x
    most = sampled(x)
    if len(x) > most:
        rows = torch.randint(len(x), (most,), generator=torch.Generator().manual_seed(0))
        sample = x[rows.to(x.device)]
    values = sample.double()
    # Features last: the channels of an image, the columns of anything else.
    values = values.movedim(1, -1) if values.ndim > 3 else values
    values = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    if bool(values.sum().isfinite()):  # the usual case, and a mask costs more than all the rest
        mean = values.mean(0)
        variance = (values - mean).square().mean(0)
    else:
        finite = values.isfinite()
        count = finite.sum(0).double().clamp(min=1)
        mean = torch.where(finite, values, 0.0).sum(0) / count
        variance = torch.where(finite, values - mean, 0.0).square().sum(0) / count
        values = values[finite]
    std = variance.sqrt()
    # A constant column in float64 has a deviation of rounding only.
    varies = std > 1e-12 * mean.abs().clamp(min=1e-30)
    some = std[varies]
    return {
        **_summary(values),
        "features": len(mean),
        "max_abs_mean": _number(mean.abs().max()),
        "max_std": _number(std.max()),
        "min_std": _number(some.min()) if len(some) else None,
        "std_ratio": _number(some.max() / some.min()) if len(some) else None,
        "constant": int((~varies).sum()),
        "sampled": len(sample),
    }


def _summary(values: Tensor) -> Facts:
    """Mean, deviation, root mean square, minimum and maximum of finite values."""
    if not values.numel():
        return dict.fromkeys(("rms", "mean", "std", "min", "max"))
    values = values.double()
    low, high = torch.aminmax(values)
    mean = values.mean()
    return {
        "rms": _number(values.square().mean().sqrt()),
        "mean": _number(mean),
        "std": _number((values - mean).square().mean().sqrt()),
        "min": _number(low),
        "max": _number(high),
    }


def _number(value: Tensor) -> float | None:
    found = float(value)
    return found if math.isfinite(found) else None


def same(inputs: Tensor, target: object) -> bool:
    """Whether all examples have the same inputs though not the same target; examples are on axis 0.

    Of fewer than `REPEATED` examples nothing is said: one picture may be learnt from one noise on purpose.
    """
    y = _tensor(target)
    if y is None or not y.ndim or len(y) != len(inputs) or len(y) < REPEATED:
        return False
    return bool((inputs == inputs[:1]).all()) and bool((y != y[:1]).any())


def non_finite(x: Tensor, at: npt.NDArray[np.int64] | None = None) -> Facts:
    """``count`` and ``nan`` of the values that are not finite, where the ``first`` stands, and ``some`` more.

    Args:
        x: Examples on axis 0.
        at: Shape (n,), where each example stands in the file that it comes from; the order in which values
            are told. None takes the rows as they are.

    Returns:
        The counts; ``first``, with its ``row``, ``column``, ``index`` and ``value``; and ``some``, a list of
        at most `MOST_TOLD` of these.
    """
    nothing = _whole()
    if not x.is_floating_point() or not x.numel():
        return nothing
    # A finite sum has finite terms; one that overflowed is looked into, and costs time only.
    if bool(x.sum().isfinite()):
        return nothing
    rows = x.reshape(len(x), -1)
    bad = ~rows.isfinite()
    if not bool(bad.any()):
        return nothing
    holding = cast("list[int]", bad.any(1).nonzero().flatten().tolist())
    if at is not None:
        holding.sort(key=lambda row: int(at[row]))
    places = ((row, int(column)) for row in holding for column in bad[row].nonzero().flatten()[:MOST_TOLD])
    some: list[Facts] = [
        {
            "row": row,
            "column": column,
            "index": [int(i) for i in np.unravel_index(column, x.shape[1:])] if x.ndim > 1 else [],
            "value": str(float(rows[row, column])),
        }
        for row, column in itertools.islice(places, MOST_TOLD)
    ]
    return {"count": int(bad.sum()), "nan": int(rows.isnan().sum()), "first": some[0], "some": some}


def _whole() -> Facts:
    return {"count": 0, "nan": 0, "first": None, "some": []}


def _target(y: Tensor) -> Facts:
    values = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    flat = values.double().flatten()
    flat = flat[flat.isfinite()]
    labels, counts = np.unique(flat.cpu().numpy(), return_counts=True)
    kind = _target_kind(values, labels)
    listed = kind in ("binary", "classes") and len(labels) <= MOST_LABELS
    return {
        "kind": kind,
        "shape": list(y.shape[1:]),
        "dtype": str(y.dtype).removeprefix("torch."),
        **_summary(flat),
        "distinct": len(labels),
        "constant": len(labels) <= 1,
        "labels": labels.tolist() if listed else None,
        "counts": counts.tolist() if listed else None,
        "neighbours": _order(values, kind),
    }


def _target_kind(values: Tensor, labels: Any) -> str:
    present = {float(label) for label in labels[:3]}
    whole = not values.is_floating_point()
    if not len(labels):
        return "real"
    two = len(labels) <= 2 and (present <= {0.0, 1.0} or present == {-1.0, 1.0})
    if values.ndim == 2 and two and present <= {0.0, 1.0} and values.is_floating_point():
        return "one-hot" if bool((values.sum(1) == 1).all()) else "multi-label"
    if values.ndim == 2 and two and bool((values.sum(1) == 1).all()):
        return "one-hot"
    if two and values.ndim == 1:
        return "binary"
    if whole and labels[0] >= 0 and labels[-1] < max(20, min(MOST_LABELS, values.numel() / 2)):
        return "classes"
    return "real"


def _order(values: Tensor, kind: str) -> Facts | None:
    """How alike neighbours in stored order are, and how alike they would be if the order were random.

    Returns:
        For classes the share of equal neighbours; for numbers their correlation; `z` is the excess over
        ``expected`` in standard deviations of a random order. None for anything else, or too few examples.
    """
    if values.ndim != 1 or len(values) < 10 or kind not in ("binary", "classes", "real"):
        return None
    v = values.double()
    v = v[v.isfinite()]
    if len(v) < 10 or bool((v == v[0]).all()):
        return None
    pairs = len(v) - 1
    if kind == "real":
        centred = v - v.mean()
        seen = float((centred[1:] * centred[:-1]).sum() / centred.square().sum())
        expected, deviation = 0.0, 1 / math.sqrt(pairs)
    else:
        share = torch.bincount((v - v.min()).long()).double() / len(v)
        seen = float((v[1:] == v[:-1]).double().mean())
        expected = float(share.square().sum())
        deviation = math.sqrt(expected * (1 - expected) / pairs)
    return {"observed": seen, "expected": expected, "z": (seen - expected) / deviation}
