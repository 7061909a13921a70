"""Whether what a model answers for an example depends on the other examples of its batch.

Three passes in eval mode on copies of the model: the batch, the batch with one half of its examples exchanged
for others, and the batch with the other half exchanged. What an example's answer changes when only others
were exchanged is their doing.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.edits import BatchFirst, Edit
from downslope.core.errors import ModelError, told
from downslope.core.modules import named_modules
from downslope.core.outputs import judged
from downslope.diagnosis.measure.crossing import ROUNDING, Crossing, Trace, crossing

LEAST = 4
"""Examples under which there is no company to speak of."""

LARGEST = 50_000_000
"""Numbers of a model that is copied for the look, at most."""

ROWS, LARGE, FEW = 64, 2_000_000, 8
"""Examples that are looked at, at most; and those of a model of so many numbers and more."""

APART = 1e-6
"""Share of what an output changes that others make, up to which that is rounding: single precision leaves
1e-12, half precision 1e-6, the square of its 1e-3."""

ROUNDS = 12
"""Places that are put right one after the other, at most: a transformer has one a layer."""

_Around = Callable[[], contextlib.AbstractContextManager[None]]


class Given(NamedTuple):
    """What a model is handed: the examples lie along `axis` of every tensor that has `rows` there."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int
    axis: int = 0


def mixing(model: nn.Module, given: Given, other: Given | None = None) -> dict[str, Any]:
    """What others make of the answer to an example, where that happens first, and what puts it right.

    Args:
        model: As it stands; only copies are called.
        given: A batch.
        other: A batch of the same form, from which examples are taken; None takes them from `given`.

    Returns:
        ``share``: of what outputs change, in the mean square, when examples are exchanged, the part that
        others make; ``rows``. Where that is more than rounding also ``by``, ``where``, ``function``,
        ``sizes`` and ``single`` as `Crossing` has them, ``edits`` (as tables) that put it right, none where
        they do not, and ``left``, the share that they leave.

    Raises:
        ModelError: why it cannot be told.
    """
    _check(model, given)
    share, sizes = _looked(model, given, other)
    found: dict[str, Any] = {"share": share, "rows": given.rows}
    if share <= APART:
        return found
    place, edits, left = _mended(model, given, other, sizes)
    said = Crossing("other", "", "", ()) if place is None else place
    cured = edits if left <= APART else []
    return found | said.told() | {"edits": [each.to_dict() for each in _joined(cured)], "left": left}


def _joined(edits: list[Edit]) -> list[Edit]:
    """What several modules are told as one edit."""
    told_of = [each for each in edits if isinstance(each, BatchFirst)]
    if len(told_of) < 2 or len({each.first for each in told_of}) > 1:
        return edits
    names = tuple(name for each in told_of for name in each.modules)
    return [BatchFirst(names, told_of[0].first), *(each for each in edits if each not in told_of)]


def _mended(
    model: nn.Module, given: Given, other: Given | None, sizes: list[int]
) -> tuple[Crossing | None, list[Edit], float]:
    """The first place, the edits that put one place after the other right, and the share that they leave."""
    edits, first, left = list[Edit](), None, 1.0
    with contextlib.suppress(Exception):  # an edit can bring anybody's forward to a shape it does not take
        for _ in range(ROUNDS):
            place = crossing(_traces(_copied(model, edits), given, other), given.rows)
            first = first or place
            if place is None or place.edit is None or place.edit in edits:
                break
            now, made = _looked(_copied(model, [*edits, place.edit]), given, other)
            if made != sizes:
                break
            edits, left = [*edits, place.edit], now
            if left <= APART:
                break
    return first, edits, left


def most(model: nn.Module) -> int:
    """How many examples are looked at, at most."""
    return FEW if sum(p.numel() for p in model.parameters()) > LARGE else ROWS


def _check(model: nn.Module, given: Given) -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ModelError("the processes of a distributed training wait for one another in a pass")
    if given.rows < LEAST:
        raise ModelError(f"a batch of {given.rows} is too small to tell")
    if sum(p.numel() for p in model.parameters()) > LARGEST:
        raise ModelError("the model is too large to be copied for the look")
    for _, each in named_modules(model):
        hooks = [*each._forward_hooks.values(), *each._forward_pre_hooks.values()]  # pyright: ignore[reportPrivateUsage]
        if not all(_known(hook) for hook in hooks):
            raise ModelError("the model carries hooks of its own, which a look beside it would call")


def _known(hook: Any) -> bool:
    """Whether a hook is one of torch's own, or of an edit."""
    inner = getattr(hook, "func", hook)
    home = getattr(inner, "__module__", None) or type(inner).__module__
    return str(home).startswith(("torch.", "downslope."))


def _copied(model: nn.Module, edits: list[Edit]) -> nn.Module:
    """A copy with the edits, in eval mode."""
    try:
        made = copy.deepcopy(model).eval()
    except Exception as error:
        raise ModelError(f"the model cannot be copied: {told(error)}") from error
    for each in edits:
        made = each.adapt(made)
    return made


def _looked(model: nn.Module, given: Given, other: Given | None) -> tuple[float, list[int]]:
    """The share that others make, and the sizes of the output."""
    base, again = (_answer(_copied(model, []), given) for _ in range(2))
    if base.shape != again.shape or not torch.allclose(base, again, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise ModelError("two passes over the same batch differ: something draws at random in eval mode")
    one, two = (_answer(_copied(model, []), _exchanged(given, other, half)) for half in (0, 1))
    if not base.shape == one.shape == two.shape:
        raise ModelError("the size of the output depends on the examples")
    axis = _axis(model, given, list(base.shape))
    rounding = ROUNDING * torch.finfo(base.dtype).eps * float(base.abs().max())
    share = _share(base.double().cpu(), one.double().cpu(), two.double().cpu(), axis, rounding)
    return share, list(base.shape)


def _axis(model: nn.Module, given: Given, sizes: list[int]) -> int | None:
    """The axis of the output that the examples lie along; None where none has their number."""
    places = [axis for axis, size in enumerate(sizes) if size == given.rows]
    if len(places) < 2:
        return places[0] if places else None
    fewer = _answer(_copied(model, []), _without_the_last(given)).shape
    places = [axis for axis in places if fewer[axis] == given.rows - 1]
    if len(places) != 1:
        raise ModelError("the output has a number for every pair of examples")
    return places[0]


def _without_the_last(given: Given) -> Given:
    def narrow(leaf: Tensor) -> Tensor:
        fits = leaf.dim() > given.axis and leaf.shape[given.axis] == given.rows
        return leaf.narrow(given.axis, 0, given.rows - 1) if fits else leaf

    args, kwargs = batches.map_tensors(narrow, (given.args, given.kwargs))
    return given._replace(args=args, kwargs=kwargs, rows=given.rows - 1)


def _share(base: Tensor, one: Tensor, two: Tensor, axis: int | None, rounding: float) -> float:
    """Of what outputs change in the mean square, what others make.

    Args:
        base: The output.
        one: The same with the first half of the examples exchanged.
        two: The same with the second half exchanged.
        axis: Along which the examples lie; None where that is not known.
        rounding: Change of a number up to which it is none.
    """
    one, two = (torch.where(c.abs() > rounding, c, 0.0).square() for c in (one - base, two - base))
    if axis is None:  # what both halves change, where no axis tells whose a number is
        own, others = torch.maximum(one, two), torch.minimum(one, two)
    else:
        first, second = _halves(base.shape[axis])
        own = torch.cat([one.index_select(axis, first), two.index_select(axis, second)], axis)
        others = torch.cat([two.index_select(axis, first), one.index_select(axis, second)], axis)
    whole = float(own.sum() + others.sum())
    if not whole > 0:
        raise ModelError("the output does not change with the examples")
    return float(others.sum()) / whole


def _halves(count: int) -> tuple[Tensor, Tensor]:
    """The examples in two halves, drawn at random: every second one would go with sizes that are even."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return order[: count // 2].sort().values, order[count // 2 :].sort().values


def _exchanged(given: Given, other: Given | None, half: int) -> Given:
    """`given` with one half of the examples exchanged for others."""
    source = given if other is None else other
    rows, rest = _halves(given.rows)[half], _halves(given.rows)[1 - half]
    # From the batch itself those of the half that stays are taken: what is summed over it changes, too.
    taken = rows if other is not None else rest.repeat(2)[: len(rows)]
    new = iter(batches.tensors((source.args, source.kwargs)))

    def exchange(leaf: Tensor) -> Tensor:
        beside = next(new)
        if leaf.dim() <= given.axis or leaf.shape[given.axis] != given.rows or leaf.shape != beside.shape:
            return leaf
        new_rows = beside.index_select(given.axis, taken.to(beside.device))
        return leaf.index_copy(given.axis, rows.to(leaf.device), new_rows)

    args, kwargs = batches.map_tensors(exchange, (given.args, given.kwargs))
    return given._replace(args=args, kwargs=kwargs)


def _traces(model: nn.Module, given: Given, other: Given | None) -> list[Trace]:
    """The three passes, looked into."""
    made: list[Trace] = []
    for inputs in (given, _exchanged(given, other, 0), _exchanged(given, other, 1)):
        trace = Trace(copy.deepcopy(model))
        _answer(trace.model, inputs, trace.noting)
        made.append(trace)
    return made


def _answer(model: nn.Module, given: Given, around: _Around = contextlib.nullcontext) -> Tensor:
    """The first floating tensor that a copy gives."""
    args, kwargs = batches.map_tensors(torch.clone, (given.args, given.kwargs))
    with torch.no_grad(), randomness.seeded(0, "probe", 0), _silent(), around():
        output: Any = model(*args, **kwargs)
    found = [each for each in judged(output) if each.is_floating_point()]
    if not found:
        raise ModelError("the model gives no numbers of single examples")
    first = found[0].detach()
    if not bool(torch.isfinite(first).all()):
        raise ModelError("the output is not finite")
    return first


@contextlib.contextmanager
def _silent() -> Generator[None]:
    """What a forward pass prints, and warns of, was told in training."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
