"""Who escapes: from a saddle or a local minimum, with which probability and in how many steps, over seeds.

All members of one method walk as one tensor, a row each, so that a hundred seeds cost little more than one:
the rules that act element by element cannot tell a row from a run of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import InputError, ObjectiveError
from downslope.core.recipe import UNSCALED
from downslope.core.wrapped import innermost
from downslope.terrain.escapes.sites.given import Where, site_of
from downslope.terrain.escapes.sites.site import Inside, Site
from downslope.terrain.escapes.trials import Escapes, Trial
from downslope.terrain.escapes.walkers import Batches, walkers
from downslope.terrain.ground import Ground
from downslope.terrain.ground.stand import Standing
from downslope.terrain.hvp import length
from downslope.terrain.methods.method import Method
from downslope.terrain.surveys.ends import ends
from downslope.terrain.surveys.kind import REACH, Kind, View, classify

Optimizers = str | Sequence[str] | Mapping[str, Mapping[str, Any]]

METHODS = ("gd", "sgd", "momentum", "nesterov", "rmsprop", "adam")
"""The methods that are compared unless told otherwise."""

FAR = 10.0
"""Distance from the point beyond which a watched member is left to stand."""


def escape(
    where: Where,
    optimizers: Optimizers = METHODS,
    *,
    point: Any = None,
    model: Standing = None,
    inside: float | Inside | None = None,
    noise: float | None = None,
    examples: int | Literal["all"] | None = None,
    lr: float | Sequence[float] = 0.05,
    batch_size: int | Literal["full"] | Sequence[int | Literal["full"]] = 1,
    steps: int = 1000,
    seeds: int | Sequence[int] = 100,
    spread: float = 1e-3,
    keep: int = 0,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Escapes:
    """Start members around a critical point and see who leaves, with which probability and when.

    A seed draws its own start, ``point + spread N(0, I)``, and its own order of the examples, each once an
    epoch, both the same for every method: the methods are compared in pairs.

    Args:
        where: The name of a function of `downslope.terrain.functions`, such as "saddle" or "double_well"; the
            network "deep_linear(depth=2)" or "symmetric_mlp"; a problem; or any function of points of shape
            (..., size).
        optimizers: Names of methods, or settings by name: ``{"momentum": {"momentum": 0.5}}``, under a
            name of one's own with the method as a setting: ``{"plain": {"optimizer": "newton", "line_search":
            None}}``. "gd" and the methods of curvature take all examples at every step, whatever
            `batch_size`; the others take batches.
        point: Of a function: coordinates where it is critical; of a classic one also "saddle" or "minimum",
            by default a saddle where there is one.
        model: Of a problem: a module, a Run, weights or their path; the start of seed 0 where left out.
        inside: Of a function or problem: the radius that has to be left, 1 by default, or a predicate on
            points of shape (members, size). Of a classic one by default the basin of a minimum, and half the
            way to the next critical point.
        noise: Of a function, which becomes a mean over examples ``f(x) + a_i . x``, the a_i exactly of mean 0
            and of this standard deviation along each coordinate: batches sample it. 1 by default.
        examples: That the loss is a mean over, 1024 by default.
        lr: Rate, or several, each of which is tried, in [0, inf); methods of curvature and those that find
            their rate (prodigy) keep their own.
        batch_size: Examples in a batch, or several such numbers; "full" for all.
        steps: After which a member counts as not having left.
        seeds: How many, or which.
        spread: Standard deviation of the start along each coordinate; 0 starts exactly at the point.
        keep: Seeds whose paths are kept, to the last step, for `downslope.reporting.animation.escaping`.
        seconds: It may take; the trial under way then ends, with the steps it has as its budget, and the rest
            is left out, as on Ctrl-C. Which is told in the notes.
        progress: Called with the trials done and their number.

    Returns:
        A trial for each method, rate and batch size.

    Raises:
        InputError: a number outside its domain, or what does not belong to what was given.
        ObjectiveError: a function that does not give a value for each point, or a loss that is not finite.
        DataError: examples that are not finite.
        UnknownNameError: no such site or method.
        RecipeError: a hyper-parameter outside its domain.

    Memory: ``seeds x size`` numbers for the members and as much for each tensor of the method's state.
    """
    site = site_of(where, point=point, model=model, inside=inside, noise=noise, examples=examples)
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    _check(steps, chosen, spread)
    asked = list(_asked(site, optimizers, _several(lr), _several(batch_size)))
    clock = _Clock(math.inf if seconds is None else time.monotonic() + seconds)
    stands = _ground(site)
    trials: list[Trial] = []
    for done, each in enumerate(asked):
        if progress is not None:
            progress(done, len(asked))
        trials.append(_trial(site, Batches(site, chosen, spread, each.size), each, steps, keep, clock))
        if clock.cut:
            break
    notes = _cut(clock, trials[-1], steps, [each.label for each in asked[len(trials) :]])
    return Escapes(site, spread, *stands, tuple(trials), notes, clock.interrupted)


class _Clock:
    """When it has to end, and why it did."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.interrupted = self.late = False

    @property
    def cut(self) -> bool:
        """Whether what follows is left out."""
        self.late = self.late or time.monotonic() > self.until
        return self.interrupted or self.late


def _cut(clock: _Clock, last: Trial, steps: int, rest: Sequence[str]) -> tuple[str, ...]:
    """What is missing, where something is."""
    why = "Ctrl-C" if clock.interrupted else "the budget"
    short = [f"{why} ended {last.method} after {last.budget} of {steps} steps"] if last.budget < steps else []
    return (*short, *([f"{why} left out {', '.join(rest)}"] if rest else []))


def _ground(site: Site) -> tuple[Kind, float, float, float]:
    """Kind of the point, length of the slope there, lowest and highest eigenvalue."""
    at = nn.Parameter(site.point.clone())
    ground = Ground.of_closure(lambda: site.whole(at[None])[0], [at])
    loss, slope = ground.slope()
    if not math.isfinite(loss):
        raise ObjectiveError(f"{site.name}: the loss is {loss} at the point, so there is nothing to leave")
    found = ends(ground.hessian(), slope, tol=1e-6, steps=100)
    low, high, steep = found.values[-1].item(), found.values[0].item(), length(slope)
    draw = torch.Generator().manual_seed(0)
    around = torch.randn(64, len(site.point), generator=draw, dtype=torch.float64)
    with torch.no_grad():
        beside = site.whole(site.point + REACH * around / around.square().sum(1, keepdim=True).sqrt()) - loss
    rough = beside.abs().max().item()
    view = View(
        slope=steep * REACH, high=high, low=low, reach=REACH, scale=max(abs(loss), rough),
        high_error=float(found.errors[0]), low_error=float(found.errors[-1]),
        exact=steep <= 1e-9 * max(abs(low), abs(high), abs(loss), 1e-3),
        falls=-beside.min().item(), rises=beside.max().item(), rounding=1e-15 * max(abs(loss), 1e-9),
    )  # fmt: skip
    return classify(view).kind, steep, low, high


class _Asked(NamedTuple):
    label: str
    method: str
    settings: dict[str, Any]
    size: int


def _several(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else [*cast("Any", value)]


def _check(steps: int, seeds: Sequence[int], spread: float) -> None:
    if steps < 1:
        raise InputError(f"steps={steps}: must be at least 1")
    if not seeds:
        raise InputError("seeds is empty: a probability needs at least one; 100 are usual")
    if not 0 <= spread < math.inf:
        raise InputError(f"spread={spread}: must lie in [0, inf), it is a standard deviation")


def _asked(
    site: Site, optimizers: Optimizers, rates: Sequence[float], sizes: Sequence[int | str]
) -> Iterator[_Asked]:
    """Each method at each of its rates and batch sizes."""
    spelt: Mapping[str, Mapping[str, Any]] = (
        optimizers
        if isinstance(optimizers, Mapping)
        else {each: {} for each in ([optimizers] if isinstance(optimizers, str) else optimizers)}
    )
    if not spelt:
        raise InputError("optimizers is empty: name at least one, such as 'gd'")
    counts = [_size(site, each) for each in sizes]
    for label, given in spelt.items():
        own = dict(given)
        method = names.canonical("optimizer", own.pop("optimizer", label))
        make: Any = names.resolve("optimizer", method)
        # A method of curvature has a step length of its own, and prodigy finds its rate: one meant for
        # descent is none for them.
        of_its_own = issubclass(make, Method) or innermost(method) in UNSCALED
        usual = [{}] if of_its_own else [{"lr": rate} for rate in rates]
        told = [{"lr": rate} for rate in _several(own.pop("lr"))] if "lr" in own else usual
        for rate in told:
            for count in counts if make.batch is None else [site.examples]:
                yield _Asked(label if "optimizer" in given else method, method, {**own, **rate}, count)


def _size(site: Site, given: int | str) -> int:
    if given == "full":
        return site.examples
    if not isinstance(given, int) or not 1 <= given <= site.examples:
        raise InputError(
            f"batch_size={given!r}: must be 'full' or a number from 1 to {site.examples}, the examples here"
        )
    return given


def _trial(site: Site, batches: Batches, asked: _Asked, steps: int, keep: int, clock: _Clock) -> Trial:
    members = walkers(asked.method, asked.settings, site, batches.start)
    begun = site.whole(batches.start)
    left = torch.full((len(begun),), math.inf, dtype=torch.float64)
    uphill = torch.zeros(len(begun), dtype=torch.bool)
    paths = [members.points[:keep].clone()]
    step, budget = 0, steps
    try:
        for step in range(1, steps + 1):
            members.step(batches.rows(), _walking(site, members.points, left, keep))
            points = members.points
            gone = left.isinf() & ~site.inside(points)
            if bool(gone.any()):
                uphill |= gone & ~(site.whole(points) < begun)
                left[gone] = step
            if keep:
                paths.append(points[:keep].clone())
            elif not bool(left.isinf().any()):
                break
            if clock.cut:
                budget = step
                break
    except KeyboardInterrupt:
        if step < 2:
            raise
        clock.interrupted, budget = True, step - 1
        left[left > budget] = math.inf
    return Trial(
        asked.label, members.lr, batches.size, left.numpy(), budget, int((uphill & left.isfinite()).sum()),
        torch.stack(paths[: budget + 1]).numpy() if keep else np.empty((0, 0, 0)),
    )  # fmt: skip


def _walking(site: Site, points: Tensor, left: Tensor, keep: int) -> Tensor:
    """Who still moves: what has left stands still, so that it cannot run to infinity while others walk on.

    What is watched goes on after it left, but not beyond `FAR`.
    """
    watched = torch.arange(len(points)) < keep
    near = (points - site.point).square().sum(1) < FAR**2
    return left.isinf() | (watched & near)
