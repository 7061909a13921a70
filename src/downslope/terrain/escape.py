"""Who escapes: from a saddle or a local minimum, with which probability and in how many steps, over seeds.

All members of one method walk as one tensor, a row each, so that a hundred seeds cost little more than one:
the rules that act element by element cannot tell a row from a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import InputError
from downslope.terrain.hvp import length
from downslope.terrain.sites.given import Where, site_of
from downslope.terrain.sites.site import Inside, Site

Optimizers = str | Sequence[str] | Mapping[str, Mapping[str, Any]]

METHODS = ("gd", "sgd", "momentum", "nesterov", "rmsprop", "adam")
"""The methods that are compared unless told otherwise."""

REACH = 10.0
"""Distance from the point beyond which a watched member is left to stand."""


@dataclass(frozen=True)
class Trial:
    """One method at one rate and batch size, over all seeds.

    Attributes:
        method: Its name.
        lr: Its rate.
        batch_size: Examples in a batch; all of them is descent without noise.
        left: Step at which each seed was first outside, infinite where it never was; shape (seeds,).
        budget: Steps after which a seed counts as not having left.
        uphill: Seeds that were higher when they left than when they started: over a barrier, or because the
            steps were unstable.
        paths: Places of the first seeds at every step, shape (steps + 1, kept, size); empty unless asked for.
    """

    method: str
    lr: float
    batch_size: int
    left: npt.NDArray[np.float64]
    budget: int
    uphill: int = 0
    paths: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)

    @property
    def seeds(self) -> int:
        """How many there were."""
        return len(self.left)

    @property
    def escaped(self) -> int:
        """How many left."""
        return int(np.count_nonzero(np.isfinite(self.left)))

    @property
    def censored(self) -> int:
        """How many had not left when their steps were over: their time is more than the budget."""
        return self.seeds - self.escaped

    @property
    def probability(self) -> float:
        """Share that left within the budget."""
        return self.escaped / self.seeds

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the probability (1927)."""
        from scipy.stats import binomtest

        found: Any = binomtest(self.escaped, self.seeds).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def quantile(self, share: float) -> float:
        """Step by which `share` of all seeds had left; infinite where fewer ever did.

        Those that did not leave count as later than all others, so that the median is not that of the quick.
        """
        return float(np.sort(self.left)[max(0, math.ceil(share * self.seeds) - 1)])

    @property
    def median(self) -> float:
        """Step by which half had left."""
        return self.quantile(0.5)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Steps by which a quarter and three quarters had left."""
        return self.quantile(0.25), self.quantile(0.75)

    def row(self) -> dict[str, Any]:
        """The trial as plain values; None for what is infinite."""
        low, high = self.interval
        steps = {"q25": self.quartiles[0], "median": self.median, "q75": self.quartiles[1]}
        return {
            "method": self.method, "lr": self.lr, "batch_size": self.batch_size, "seeds": self.seeds,
            "escaped": self.escaped, "probability": self.probability, "low": low, "high": high,
            **{name: int(value) if math.isfinite(value) else None for name, value in steps.items()},
            "budget": self.budget, "uphill": self.uphill,
        }  # fmt: skip


@dataclass(frozen=True)
class Escapes:
    """Who left, and when.

    Attributes:
        site: Where from.
        spread: Standard deviation of a start around the point, along each coordinate.
        slope: Length of the gradient at the point: 0 where it is critical.
        lowest: Smallest eigenvalue of the Hessian at the point; below 0 at a saddle.
        highest: The largest.
        trials: A trial for each method, rate and batch size.
    """

    site: Site = field(repr=False)
    spread: float
    slope: float
    lowest: float
    highest: float
    trials: tuple[Trial, ...]

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __getitem__(self, method: str) -> Trial:
        """The first trial of a method.

        Raises:
            UnknownNameError: it was not tried.
        """
        for each in self.trials:
            if each.method == method:
                return each
        from downslope.core.errors import UnknownNameError

        raise UnknownNameError(
            f"{method!r} was not tried{names.did_you_mean(method, {each.method for each in self.trials})}"
        )

    @property
    def kind(self) -> Literal["slope", "saddle", "minimum", "flat"]:
        """What the point is: a saddle where the lowest eigenvalue is below zero, a minimum where above.

        A slope where descent at the steepest curvature would move by more than 1e-3 in one step; flat where
        the lowest eigenvalue is zero, which the second derivatives cannot tell further.
        """
        large = max(abs(self.lowest), abs(self.highest))
        if self.slope > 1e-3 * large:
            return "slope"
        small = 1e-9 * large
        return "saddle" if self.lowest < -small else "minimum" if self.lowest > small else "flat"

    def label(self, trial: Trial) -> str:
        """The method of a trial, with what tells it from the others of that method."""
        own = [each for each in self.trials if each.method == trial.method]
        rate = f", lr {trial.lr:g}" if len({each.lr for each in own}) > 1 else ""
        size = f", batch {trial.batch_size}" if len({each.batch_size for each in own}) > 1 else ""
        return f"{trial.method}{rate}{size}"

    def animate(self, **options: Any) -> Any:
        """The members on the move, see `downslope.reporting.animation.escaping`; needs `keep`.

        Raises:
            InputError: no paths were kept, or the ground has more than 2 coordinates.
        """
        return names.load("downslope.reporting.animation:escaping")(self, **options)

    def rows(self) -> list[dict[str, Any]]:
        """A dict of plain values for each trial."""
        return [each.row() for each in self.trials]

    def __str__(self) -> str:
        head = (
            f"{self.site.name}: eigenvalues {self.lowest:.3g} to {self.highest:.3g}; "
            f"inside: {self.site.region}; starts spread by {self.spread:g}"
        )
        lines = [f"{'method':<10}{'lr':>8}{'batch':>7}  {'left':>9}  {'95 %':>12}  median step (quartiles)"]
        return "\n".join([head, *lines, *(_line(each) for each in self.trials)])


def _line(trial: Trial) -> str:
    low, high = trial.interval
    first, last = trial.quartiles
    steps = (
        f"{_step(trial, trial.median)} ({_step(trial, first)} to {_step(trial, last)})"
        if trial.escaped
        else f"none in {trial.budget}"
    )
    share = f"{trial.escaped}/{trial.seeds}"
    return (
        f"{trial.method:<10}{trial.lr:>8g}{trial.batch_size:>7}  {share:>9}  {f'{low:.2f} to {high:.2f}':>12}"
        f"  {steps}"
    )


def _step(trial: Trial, value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else f"> {trial.budget}"


def escape(
    where: Where,
    optimizers: Optimizers = METHODS,
    *,
    point: Any = None,
    model: nn.Module | None = None,
    inside: float | Inside | None = None,
    noise: float | None = None,
    examples: int | Literal["all"] | None = None,
    lr: float | Sequence[float] = 0.05,
    batch_size: int | Literal["full"] | Sequence[int | Literal["full"]] = 1,
    steps: int = 1000,
    seeds: int | Sequence[int] = 100,
    spread: float = 1e-3,
    keep: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Escapes:
    """Start members around a critical point and see who leaves, with which probability and when.

    A seed draws its own start, ``point + spread N(0, I)``, and its own order of the examples, each once an
    epoch, both the same for every method: the methods are compared in pairs.

    Args:
        where: The name of a function of `downslope.terrain.functions`, such as "saddle" or "double_well"; the
            network "deep_linear(depth=2)" or "symmetric_mlp"; a problem; or any function of points of shape
            (..., size).
        optimizers: Names of methods, or settings by name: ``{"momentum": {"momentum": 0.5}}``. "gd" takes all
            examples at every step, whatever `batch_size`; the others take batches.
        point: Of a function: coordinates where it is critical; of a classic one also "saddle" or "minimum",
            by default a saddle where there is one.
        model: Of a problem: whose weights are critical; the start of seed 0 where left out.
        inside: Of a function or problem: the radius that has to be left, 1 by default, or a predicate on
            points of shape (members, size). Of a classic one by default the basin of a minimum, and half the
            way to the next critical point.
        noise: Of a function, which becomes a mean over examples ``f(x) + a_i . x``, the a_i exactly of mean 0
            and of this standard deviation along each coordinate: batches sample it. 1 by default.
        examples: That the loss is a mean over, 1024 by default.
        lr: Rate, or several, each of which is tried, in [0, inf).
        batch_size: Examples in a batch, or several such numbers; "full" for all.
        steps: After which a member counts as not having left.
        seeds: How many, or which.
        spread: Standard deviation of the start along each coordinate; 0 starts exactly at the point.
        keep: Seeds whose paths are kept, to the last step, for `downslope.reporting.animation.escaping`.
        progress: Called with the trials done and their number.

    Returns:
        A trial for each method, rate and batch size.

    Raises:
        InputError: a number outside its domain, or what does not belong to what was given.
        ObjectiveError: a function that does not give a value for each point.
        UnknownNameError: no such site or method.
        RecipeError: a hyper-parameter outside its domain.

    Memory: ``seeds x size`` numbers for the members and as much for each tensor of the method's state.
    """
    site = site_of(where, point=point, model=model, inside=inside, noise=noise, examples=examples)
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    _check(steps, chosen, spread)
    asked = list(_asked(site, optimizers, _several(lr), _several(batch_size)))
    trials: list[Trial] = []
    for done, (method, settings, size) in enumerate(asked):
        if progress is not None:
            progress(done, len(asked))
        trials.append(_trial(site, _Walk(site, chosen, spread, size), method, settings, steps, keep))
    return Escapes(site, spread, *_ground(site), tuple(trials))


def _ground(site: Site) -> tuple[float, float, float]:
    """Length of the slope at the point, lowest and highest eigenvalue."""
    at = site.point[None].clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(site.whole(at).sum(), [at])
    linalg: Any = torch.linalg
    values: Tensor = linalg.eigvalsh(site.hessian())
    return length(slope), values[0].item(), values[-1].item()


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
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Each method with its settings and its batch size; what would be the same trial twice is tried once."""
    spelt: Mapping[str, Mapping[str, Any]] = (
        optimizers
        if isinstance(optimizers, Mapping)
        else {each: {} for each in ([optimizers] if isinstance(optimizers, str) else optimizers)}
    )
    if not spelt:
        raise InputError("optimizers is empty: name at least one, such as 'gd'")
    counts = [_size(site, each) for each in sizes]
    for name, given in spelt.items():
        method = names.canonical("optimizer", name)
        whole = names.resolve("optimizer", method).batch == "full"
        own = dict(given)
        for rate in _several(own.pop("lr")) if "lr" in own else rates:
            for count in [site.examples] if whole else counts:
                yield method, {**own, "lr": rate}, count


def _size(site: Site, given: int | str) -> int:
    if given == "full":
        return site.examples
    if not isinstance(given, int) or not 1 <= given <= site.examples:
        raise InputError(
            f"batch_size={given!r}: must be 'full' or a number from 1 to {site.examples}, the examples here"
        )
    return given


class _Walk:
    """Starts and batches of the members, each from its own seed."""

    def __init__(self, site: Site, seeds: Sequence[int], spread: float, batch_size: int) -> None:
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = [torch.randn(len(site.point), generator=draw, dtype=torch.float64) for draw in self._draws]
        self.start = site.point + spread * torch.stack(noise)
        self.size, self._examples = batch_size, site.examples
        self._order = torch.empty(0)
        self._at = site.examples

    def rows(self) -> Tensor | None:
        """The next batch of each member, shape (members, batch); None where it is all examples."""
        if self.size == self._examples:
            return None
        if self._at + self.size > self._examples:
            self._order = torch.stack([torch.randperm(self._examples, generator=d) for d in self._draws])
            self._at = 0
        self._at += self.size
        return self._order[:, self._at - self.size : self._at]


def _trial(site: Site, walk: _Walk, method: str, settings: Mapping[str, Any], steps: int, keep: int) -> Trial:
    points = torch.nn.Parameter(walk.start.clone())
    optimizer = cast("torch.optim.Optimizer", names.resolve("optimizer", method)([points], **settings))
    begun = site.whole(walk.start)
    left = torch.full((len(points),), math.inf, dtype=torch.float64)
    uphill = torch.zeros(len(points), dtype=torch.bool)
    paths = [points.detach()[:keep].clone()]
    for step in range(1, steps + 1):
        rows = walk.rows()
        with torch.enable_grad():
            total = site.loss(points, rows).sum()
        (slope,) = torch.autograd.grad(total, [points])
        points.grad = torch.where(_walking(site, points, left, keep)[:, None], slope, 0.0)
        optimizer.step()
        with torch.no_grad():
            gone = left.isinf() & ~site.inside(points)
            if bool(gone.any()):
                left[gone] = step
                uphill |= gone & ~(site.whole(points) < begun)
            if keep:
                paths.append(points.detach()[:keep].clone())
        if not keep and not bool(left.isinf().any()):
            break
    return Trial(
        method, float(settings["lr"]), walk.size, left.numpy(), steps, int(uphill.sum()),
        torch.stack(paths).numpy() if keep else np.empty((0, 0, 0)),
    )  # fmt: skip


def _walking(site: Site, points: Tensor, left: Tensor, keep: int) -> Tensor:
    """Who still moves: what has left stands still, so that it cannot run to infinity while others walk on.

    What is watched goes on after it left, but not beyond `REACH`.
    """
    watched = torch.arange(len(points)) < keep
    near = (points.detach() - site.point).square().sum(1) < REACH**2
    return left.isinf() | (watched & near)
