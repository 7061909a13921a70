"""Where a model is recurrent, and what its output owes to each step of a sequence.

Seen are the recurrences of torch, its cells in a loop, and any module that is called step after step with
what it gave the step before: so people write recurrences of their own. A state may be handed on without its
graph (``hidden.detach()``), or a cell be given an empty one at every step: then nothing comes from earlier
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils.hooks import RemovableHandle

from downslope.core import batches, randomness
from downslope.core.modules import named_modules
from downslope.core.outputs import judged

SAME = 0.25
"""Share of the rows of a state that must be those of the step before. Convention: sessions end on the way."""

SHORTEST = 8
"""Steps of a sequence below which there are no long lags."""


class Profile(NamedTuple):
    """What the output owes to each step."""

    names: list[str]
    """Qualified names of the recurrent modules; the first is the one that was looked at."""
    values: Tensor
    """Root mean square of the derivative of a random mean of the output by the input of the recurrence, step
    by step, in float64, shape (steps,)."""
    handed: str
    """What a step is given of the one before: "graph", "values" (a state without its graph) or "nothing"."""


class Pass:
    """A model with what it is called with, so that it can be run under hooks, always alike.

    Args:
        model: In the mode in which it is looked at.
        args: What it is called with.
        kwargs: Likewise.
        seed: Of what it draws.
    """

    def __init__(
        self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], seed: int = 0
    ) -> None:
        self.model, self.args, self.kwargs, self.seed = model, tuple(args), dict(kwargs), seed

    def run(self, handles: Sequence[RemovableHandle], rows: Tensor | None = None) -> Any:
        """The output under hooks, which are gone after it.

        Args:
            handles: Of the hooks.
            rows: Examples to run, in this order, int64; all where left out.
        """
        given: Any = (self.args, self.kwargs)
        if rows is not None:
            given = batches.take(given, rows)
        try:
            # cuDNN has no backward pass in evaluation mode.
            with randomness.seeded(self.seed, "probe", 0), torch.backends.cudnn.flags(enabled=False):
                return self.model(*given[0], **given[1])
        finally:
            for handle in handles:
                handle.remove()


def profile(made: Pass, shortest: int = SHORTEST, name: str | None = None) -> Profile | None:
    """What the output owes to each step of the first recurrence; one pass and its gradient.

    Args:
        made: The model and its inputs.
        shortest: Calls from which modules that are called step after step count.
        name: Of the recurrence; the first one where left out.

    Returns:
        None for a model without a recurrence, or without an output that has a gradient. Sequences of several
        lengths are aligned at their ends.
    """
    found = recurrences(made, shortest)
    names = list(found) if name is None else [name] if name in found else []
    if not names:
        return None
    first = made.model.get_submodule(names[0])
    whole = found[names[0]] == "whole"
    seen: list[Tensor] = []
    packed: list[PackedSequence] = []

    def enter(module: nn.Module, given: tuple[Any, ...]) -> Any:
        del module
        if not given or (whole and seen):
            return None
        if isinstance(given[0], PackedSequence):
            packed.append(given[0])
            seen.append(torch.zeros_like(given[0].data, requires_grad=True))
            return (given[0]._replace(data=given[0].data + seen[-1]), *given[1:])
        if not isinstance(given[0], Tensor):
            return None
        seen.append(torch.zeros_like(given[0], requires_grad=True))
        return (given[0] + seen[-1], *given[1:])

    output = made.run([first.register_forward_pre_hook(enter)])
    answers = [each for each in judged(output) if each.is_floating_point()]
    if not answers or not seen or (whole and not packed and seen[0].dim() != 3):
        return None
    noise = torch.randn(answers[0].shape, generator=torch.Generator().manual_seed(0)).to(answers[0])
    slopes = torch.autograd.grad((answers[0] * noise).sum(), seen, allow_unused=True, materialize_grads=True)
    if whole and packed:
        values = _by_end(packed[0]._replace(data=slopes[0].double().square().mean(1, keepdim=True)))
    elif whole:
        values = slopes[0].double().square().mean((0, 2) if batch_first(first) else (1, 2))
    else:
        values = torch.stack([each.double().square().mean() for each in slopes])
    handed = "graph" if whole else found[names[0]]
    return Profile(names, values.sqrt().cpu(), handed)


def recurrences(made: Pass, shortest: int = SHORTEST) -> dict[str, str]:
    """The recurrent modules by name: "whole" for those of torch, which take a sequence in one call; of those
    that are called step after step, what they are handed (`looped`).
    """
    whole = [name for name, each in named_modules(made.model) if isinstance(each, nn.RNNBase)]
    return dict.fromkeys(whole, "whole") or looped(made, shortest)


def _by_end(squares: PackedSequence) -> Tensor:
    """The mean over sequences of packed numbers, step by step, the last steps of all in one place."""
    rows, lengths = pad_packed_sequence(squares, batch_first=True)
    steps = rows.shape[1]
    total, count = rows.new_zeros(steps), rows.new_zeros(steps)
    for row, counted in zip(rows[:, :, 0], lengths, strict=True):
        length = int(counted)
        total[steps - length :] += row[:length]
        count[steps - length :] += 1
    return total / count


def batch_first(module: nn.Module) -> bool:
    """Whether a recurrence takes (sequences, steps, inputs)."""
    return bool(getattr(module, "batch_first", False))


def looped(made: Pass, shortest: int = SHORTEST) -> dict[str, str]:
    """The modules with weights that are called step after step with what they gave the step before, and what
    of it they are given: "graph", "values", or of torch's own cells "nothing".

    A layer that serves every token by itself is called as often, but its inputs owe nothing to its outputs.
    """
    calls: dict[str, list[tuple[list[Tensor], list[Tensor]]]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            del module
            calls.setdefault(name, []).append((floats(given), floats(output)))

        return hook

    leaves = {
        name: each
        for name, each in named_modules(made.model)
        if any(True for _ in each.parameters()) and not any(True for _ in each.children())
    }
    made.run([each.register_forward_hook(note(name)) for name, each in leaves.items()])
    often = {name: each for name, each in calls.items() if len(each) >= shortest}
    found = {name: _handed(each, leaves[name]) for name, each in often.items()}
    # What comes first decides what is measured: a loop through which the gradient goes, where there is one.
    order = sorted((name for name in found if found[name]), key=lambda name: found[name] != "graph")
    return {name: found[name] for name in order}


def floats(values: Any) -> list[Tensor]:
    """The floating tensors among the leaves."""
    return [each for each in batches.tensors(values) if each.is_floating_point()]


def _handed(calls: list[tuple[list[Tensor], list[Tensor]]], module: nn.Module) -> str:
    """What a module is given in the middle of a pass of what it gave one call before; "" for none of it."""
    if _returns(calls):
        return "graph"
    middle = len(calls) // 2
    if any(_same(one, other) for one in calls[middle][0] for other in calls[middle - 1][1]):
        return "values"
    return "nothing" if isinstance(module, nn.RNNCellBase) else ""


def _same(given: Tensor, before: Tensor) -> bool:
    """Whether it is the same state, some of whose rows may have begun anew."""
    if given.shape != before.shape or given.requires_grad:
        return False
    rows = given.detach().flatten(1), before.detach().flatten(1)
    kept = (rows[0] == rows[1]).all(1) & (rows[1] != 0).any(1) if rows[0].numel() else torch.zeros(1)
    return bool(kept.double().mean() >= SAME)


def _returns(calls: list[tuple[list[Tensor], list[Tensor]]]) -> bool:
    """Whether what a module is given in the middle of a pass came out of it one call before."""
    middle = len(calls) // 2
    given = [each for each in calls[middle][0] if each.requires_grad]
    before = [each for each in calls[middle - 1][1] if each.requires_grad]
    if not given or not before:
        return False
    total = torch.stack([each.sum() for each in given]).sum()
    found = torch.autograd.grad(total, before, retain_graph=True, allow_unused=True, materialize_grads=True)
    return any(bool(each.any()) for each in found)
