"""Whether members train together, by trying: the same numbers as alone first, then the time that it takes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.training import choices
from downslope.training.facts import one_line
from downslope.training.population.abreast import Abreast
from downslope.training.population.feed import Fed
from downslope.training.ready import Ready
from downslope.training.stochastic import StepRandomness
from downslope.training.stopping import total_steps

OTHERWISE = "side by side"
"""How a reason begins for members that gave other numbers together than alone."""

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Share by which losses and gradients of the first batch may differ from those of a member alone."""

ROUNDS = 2, 3, 7
"""Timed passes each way, in turns: at least, where the first do not settle it, and of models so small that
they cost nothing."""

CHEAP = 0.05
"""Seconds of passes up to which they cost nothing."""

CLEAR = 0.85
"""Share of `PAYS`, or more than its inverse, that settles it: more would cost what the choice can gain."""

PAYS = 0.95
"""Share of the time of one after another up to which members train together."""

LONG = 50
"""Steps of a population from which a close call is worth a further pass each way."""


class Pace(NamedTuple):
    """What was measured of members of one shape."""

    ratio: float
    """Time of a pass together over that of one after another."""
    alone: float
    """Seconds of a pass of one."""


def why_apart(abreast: Abreast, made: Sequence[Ready]) -> str | None:
    """Why these members cannot train together though they have one shape, in one line; None if they can.

    The first and the last are held against themselves alone, on their first batch. Buffers come back, between
    the one pass and the other too.
    """
    with _untouched(abreast):
        try:
            fed = next(abreast.feed.epoch(0))
            with _untouched(abreast):
                values, slopes = _together(abreast, fed)
            for i in sorted({0, len(made) - 1}):
                state = made[i].state
                with _untouched(abreast), StepRandomness(state.model, state.recipe.seed) as place:
                    place.at(1)
                    value, found = _alone(abreast, made, i, fed)
                abreast.stack.leave_out([k for k, each in enumerate(found) if each is None])
                own = _row(abreast, i, found)
                whole = math.isfinite(value) and bool(own.isfinite().all())  # a broken one is like nothing
                if whole and not _close(values[i], slopes[i], value, own):
                    return _told(values[i], slopes[i], value, own)
        except Exception as error:  # noqa: BLE001 (any model, any objective)
            return f"torch.func cannot take them together: {_refused(one_line(error))}"
    return None


REFUSED = {
    "called random operation": "it draws in its forward pass (dropout within an attention layer, "
    "torch.rand); layers of dropout draw for each member by themselves",
    "data-dependent control flow": "its forward pass decides in Python by what is in a tensor",
    "calling .item()": "its forward pass takes a number out of a tensor (.item())",
    "must override the setup_context staticmethod": "a torch.autograd.Function of its own has no "
    "setup_context and no rule for several at once (generate_vmap_rule = True)",
}
"""What torch says, by a part of it, in words of a model."""


def _refused(said: str) -> str:
    """What torch refuses, in words of a model where they are known."""
    _, slow, rest = said.partition("batching rule for ")
    if slow:
        return f"torch has no rule for several at once of {rest.partition('. ')[0]}"
    return next((told for part, told in REFUSED.items() if part in said), said)


def known_to_lose(made: Sequence[Ready], apart: int = 1) -> bool:
    """Whether members of this shape were measured to be slower together: then nothing needs to be tried.

    Args:
        made: The members.
        apart: How many of them would train at a time elsewhere, each by itself.
    """
    found = choices.recalled(_key(made))
    return found is not None and Pace(*found).ratio > PAYS / apart


def _key(made: Sequence[Ready]) -> str:
    """Machine, shape, batch, objective, whether seeds differ, and how many members to a power of two."""
    first = made[0].state
    shapes = [tuple(each.shape) for each in batches.tensors(first.batch)]
    bucket = min(2 ** int(math.log2(len(made))), 32)
    one_seed = len({each.state.recipe.seed for each in made}) == 1
    return "pace/" + choices.signature(
        first.model, shapes, made[0].batch_size, first.objective.label, bucket, one_seed,
        torch.get_num_threads(), str(first.device),
    )  # fmt: skip


def pays(abreast: Abreast, made: Sequence[Ready], apart: int = 1) -> bool:
    """Whether a step together takes less time than one by one; measured once for a machine and a shape.

    Args:
        abreast: The members side by side; `why_apart` has warmed them up.
        made: The same by themselves.
        apart: How many of them would train at a time elsewhere, each by itself.
    """
    limit = PAYS / apart
    return Pace(*choices.remembered(_key(made), lambda: list(_pace(abreast, made, limit)))).ratio <= limit


def pays_to_send(made: Sequence[Ready], crews: int, start: float) -> bool:
    """Whether so many crews elsewhere are done before one here, by what `pays` measured.

    Args:
        made: The members.
        crews: How many train at a time.
        start: Seconds until they begin.
    """
    found = choices.recalled(_key(made))
    if found is None:
        return False
    pace = Pace(*found)
    here = pace.ratio * pace.alone * len(made) * _longest(made)
    return here * (1 - 1 / crews) > start


def _longest(made: Sequence[Ready]) -> int:
    """Steps of the longest run."""
    return max(total_steps(each.state.recipe, each.train, each.batch_size) or LONG for each in made)


def _pace(abreast: Abreast, made: Sequence[Ready], limit: float) -> Pace:
    """Passes together and by one alone, each with the threads that it would have."""
    first = made[0].state
    here, own = torch.get_num_threads(), choices.choose_threads(made[0].products, first.device)
    busy = first.device.type == "cpu" and here == own == 1
    together, alone, ratio = math.inf, math.inf, math.inf
    least, close, most = ROUNDS
    close = close if _longest(made) >= LONG else least
    with _untouched(abreast), StepRandomness(first.model, first.recipe.seed) as place:
        fed = next(abreast.feed.epoch(0))
        spent = 0.0
        for turn in range(1, 1 + most):
            each = _seconds(first.device, busy, lambda: _together(abreast, fed))
            place.at(1)
            with choices.threads(own):
                one = _seconds(first.device, busy, lambda: _alone(abreast, made, 0, fed))
            together, alone, spent = min(together, each), min(alone, one), spent + each + one
            ratio = together / (len(made) * alone)
            clear = not CLEAR * limit < ratio < limit / CLEAR
            if spent > CHEAP and (turn >= close or (clear and turn >= least)):
                break
    return Pace(ratio, alone)


@contextlib.contextmanager
def _untouched(abreast: Abreast) -> Generator[None]:
    """A block after which the members' buffers and torch's generators are what they were."""
    kept = [each.clone() for each in abreast.stack.others]
    with randomness.seeded(0, "step", 0):
        yield
    with torch.no_grad():
        for each, former in zip(abreast.stack.others, kept, strict=True):
            each.copy_(former)


def _seconds(device: torch.device, busy: bool, act: Callable[[], object]) -> float:
    """Seconds of `act`; with `busy` those of this thread, which other jobs leave as they are."""
    clock = time.thread_time if busy else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = clock()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def _together(abreast: Abreast, fed: Fed) -> tuple[list[float], Tensor]:
    """Losses and gradients of all members."""
    abreast.draws.at(1)
    found = abreast.losses(fed)
    abreast.losses.slopes(found)
    return found.losses.tolist(), abreast.stack.gradient


def _alone(
    abreast: Abreast, made: Sequence[Ready], i: int, fed: Fed
) -> tuple[float, Sequence[Tensor | None]]:
    """Loss and gradients of one member by itself; None for a parameter that no gradient reaches."""
    state = made[i].state
    loss = state.objective(state.model, fed.of(i)).value
    return loss.item(), torch.autograd.grad(loss, abreast.stack.own(i), allow_unused=True)


def _row(abreast: Abreast, i: int, found: Sequence[Tensor | None]) -> Tensor:
    own = zip(found, abreast.stack.own(i), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in own])


def _told(value: float, slope: Tensor, own: float, other: Tensor) -> str:
    """What is not the same, as a reason."""
    share = CLOSE.get(slope.dtype, CLOSE[torch.float32])
    if abs(value - own) > share * max(abs(own), 1e-12):
        return f"{OTHERWISE} the loss of the first batch is {value:.9g}, alone {own:.9g}"
    off = float(torch.dist(slope, other)) / max(float(torch.dist(other, torch.zeros_like(other))), 1e-30)
    return f"{OTHERWISE} the gradient of the first batch is off by {off:.2g} of its length"


def _close(value: float, slope: Tensor, own: float, other: Tensor) -> bool:
    share = CLOSE.get(slope.dtype, CLOSE[torch.float32])
    size = float(torch.dist(other, torch.zeros_like(other)))
    near = float(torch.dist(slope, other)) <= share * max(size, 1e-30)
    return near and abs(value - own) <= share * max(abs(own), 1e-12)
