"""Fixup: residual networks that train without normalisation (Zhang, Dauphin and Ma 2019)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import Parameter

from downslope.core.errors import ModelError, told
from downslope.init.auto import auto
from downslope.init.chosen import whole
from downslope.init.initialise import initialise
from downslope.init.trace import SUMS, Batch, Op, Trace, trace


@dataclass(frozen=True)
class Branch:
    """A residual branch: what is computed beside a shortcut, and added to it.

    Attributes:
        weights: Names of its weights in the order of execution; the last one starts at 0.
        module: Innermost module in which the sum is formed; "" for the model's own forward.
    """

    weights: tuple[str, ...]
    module: str

    def __str__(self) -> str:
        return f"{self.module or 'model'}: {' -> '.join(self.weights)}"


def _check(*, scale: float) -> None:
    if not 0 <= scale < math.inf:
        raise ModelError(f"fixup: scale={scale}: must lie in [0, inf), a factor inside of branches")


@whole(_check)
@torch.no_grad()
def fixup(
    model: nn.Module, generator: torch.Generator | None = None, *, batch: Batch = None, scale: float = 1.0
) -> list[str]:
    """Scale residual branches so that a step changes the output by O(lr) at any depth, in place.

    Section 3 of the paper, rules 1 and 2: the last weight of each residual branch and the classification
    layer start at 0; all others start as `auto` draws them (He before ReLU), and those inside of a branch are
    multiplied by

        L**(-1 / (2 m - 2))

    L: branches that the signal passes; m: weights in this branch. A branch of one weight is 0. `branches`
    says what was taken for one.

    Args:
        model: any module without lazy parameters.
        generator: of the draws, on the CPU; by default torch's own.
        batch: what the model is called on; see `initialise`. Two examples are enough.
        scale: float in [0, inf), a further factor on what is drawn inside of branches.

    Returns:
        The names of the parameters that were left as they were.

    Raises:
        ModelError: no batch, one that the model does not take, or a model without a residual branch.

    Differs from:
        the paper in rule 3, its scalar multipliers and biases, which belong to the model.
    """
    _check(scale=scale)
    if batch is None:
        raise ModelError("fixup has to see where branches rejoin: give a batch, such as batch=X[:2]")
    try:
        traced = trace(model, batch)
    except Exception as error:
        raise ModelError(f"fixup: the model cannot take the batch: {told(error)}") from error
    found = branches_in(model, traced)
    if not found:
        raise ModelError(
            "fixup found no residual branch, x + f(x) with a weight in f: it is made for residual networks; "
            "'auto' or 'lsuv' fits a plain one"
        )
    left = initialise(model, auto, generator, batch=batch)
    own = dict(model.named_parameters())
    for branch in found:
        *inside, last = branch.weights
        factor = scale * len(found) ** (-1 / (2 * len(inside))) if inside else 0.0
        for name, by in [*((each, factor) for each in inside), (last, 0.0)]:
            if own[name].requires_grad:
                own[name].mul_(by)
    for name in _last(model, traced):
        if own[name].requires_grad:
            own[name].zero_()
    return left


def branches(model: nn.Module, batch: Batch) -> list[Branch]:
    """The residual branches of a model, in the order in which they rejoin.

    A sum of two signals is taken for ``shortcut + branch`` where both come from one place, no weight is
    shared, and the shortcut passes no weight (identity, pooling, padding) or one where the branch passes two
    or more (a projection). A weight in nested branches belongs to the innermost.

    Args:
        model: Any module.
        batch: What it is called on.
    """
    return branches_in(model, trace(model, batch))


def branches_in(model: nn.Module, traced: Trace) -> list[Branch]:
    """The residual branches of a traced pass; see `branches`."""
    names = {id(p): name for name, p in model.named_parameters()}
    above, maps = _ancestors(traced)
    found: list[tuple[list[int], Op]] = []
    for op in traced.ops:
        if op.function not in SUMS or len(op.sources) != 2:
            continue
        a, b = op.sources
        left, right = maps[a] & ~maps[b], maps[b] & ~maps[a]
        shortcut, branch = sorted((left, right), key=int.bit_count)
        if not above[a] & above[b] or not branch or shortcut.bit_count() > min(1, branch.bit_count() - 1):
            continue
        inside = [i for i in range(branch.bit_length()) if branch >> i & 1]
        beside = [i for i in range(shortcut.bit_length()) if shortcut >> i & 1]
        if _weights(traced, inside) & _weights(traced, beside):
            continue
        found.append((inside, op))
    taken, made = set[int](), list[tuple[int, Branch]]()
    for inside, total in sorted(found, key=lambda each: len(each[0])):  # the innermost first
        own = [i for i in inside if i not in taken]
        taken |= set(own)
        weights = [p for i in own for p in _layers(traced.ops[i], names)]
        if own and _layers(traced.ops[own[-1]], names):
            branch = Branch(tuple(dict.fromkeys(names[id(p)] for p in weights)), total.module)
            made.append((total.index, branch))
    return [branch for _, branch in sorted(made, key=lambda each: each[0])]


def _layers(op: Op, names: Mapping[int, str]) -> list[Parameter]:
    """The weights to which the output of a map is proportional; none of a recurrence or a table of vectors.

    Of a weight of length and direction it is the length.
    """
    if op.function == "multi_head_attention_forward":
        return list(op.direct)
    if not op.is_linear:
        return []
    lengths = [p for p in op.weights if names[id(p)].endswith((".original0", "weight_g"))]
    return [*op.direct[-1:]] or lengths[:1] or [op.weights[-1]]


def _weights(traced: Trace, inside: Sequence[int]) -> set[int]:
    return {id(p) for i in inside for p in traced.ops[i].weights}


def _ancestors(traced: Trace) -> tuple[list[int], list[int]]:
    """For every operation, as bits: those that it hangs on, and the maps among them, itself included."""
    above: list[int] = []
    maps: list[int] = []
    for op in traced.ops:
        bit = 1 << op.index
        reached, passed = bit, bit if op.is_map else 0
        for source in op.sources:
            reached |= above[source]
            passed |= maps[source]
        above.append(reached)
        maps.append(passed)
    return above, maps


def _last(model: nn.Module, traced: Trace) -> list[str]:
    """Names of the weights behind which there is no other: the classification layer, one for each output.

    One that is used elsewhere too, as a table of tokens that reads out as well, is none.
    """
    names: Mapping[int, str] = {id(p): name for name, p in model.named_parameters()}
    _, maps = _ancestors(traced)
    read = 0
    for op in traced.maps:
        read |= maps[op.index] & ~(1 << op.index)
    ends = [op for op in traced.maps if not read >> op.index & 1]
    uses = Counter(id(p) for op in traced.maps for p in op.weights)
    return [names[id(p)] for op in ends for p in _layers(op, names)[-1:] if uses[id(p)] == 1]
