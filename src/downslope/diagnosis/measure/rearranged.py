"""How unlike the inputs of two parts are, and the changes that could have made the one of the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.diagnosis.measure.matched import assigned

APART = 0.25
"""Root mean square difference of the quantiles of two parts, in deviations of the training inputs, from which
they are materially unlike: an eighth of what tells two classes apart at a glance (Cohen 1988, d = 2)."""

NOISE = 4.0
"""The same in what drawing the parts makes of it, told by two halves of the training inputs."""

NEARER = 0.5
"""Share of the difference that a change may leave to be tried on the model."""

STRETCH = 0.7
"""Logarithm of the ratio of deviations, in the median over the places, that is material: a factor of two."""

STRETCHED = 6.0
"""The same in its standard errors. Convention: heavy tails make them twice as large."""

POSITIONS = 1024
"""Numbers of an example that are looked at, at most."""

CHANNELS = 4
"""Channels of which every order is tried."""

COLUMNS = 256
"""Columns of a table of which an order is sought, at most."""

_AT = (0.1, 0.25, 0.5, 0.75, 0.9)


class Change(NamedTuple):
    """Something that could be done to held-out inputs."""

    kind: str
    """"scale", "scales", "log", "channels", "columns" or "axes"."""
    text: str
    apply: Callable[[Tensor], Tensor]
    apart: float
    """How unlike the inputs are then."""


def sketch(x: Tensor) -> Tensor:
    """Quantiles of the numbers at each position of an example, (5, positions)."""
    flat = x.detach().reshape(len(x), -1).double().cpu()
    step = -(-flat.shape[1] // POSITIONS)
    return flat[:, ::step].quantile(torch.tensor(_AT, dtype=torch.float64), dim=0)


def _scale(x: Tensor) -> Tensor:
    """Deviation at each position, of those that hardly vary a tenth of all."""
    flat = x.detach().reshape(len(x), -1).double().cpu()
    own = flat[:, :: -(-flat.shape[1] // POSITIONS)].std(0)
    whole = own.square().mean().sqrt()
    return own.clamp_min(max(0.1 * float(whole), 1e-12))


def _difference(one: Tensor, two: Tensor, scale: Tensor) -> float:
    return float(((one - two) / scale).square().mean().sqrt())


def unlike(train: Tensor, valid: Tensor) -> tuple[float, float]:
    """Difference of the quantiles in deviations of `train`, and what drawing alone makes of it."""
    scale, n = _scale(train), len(train)
    noise = _difference(sketch(train[::2]), sketch(train[1::2]), scale)
    drawn = noise * ((1 / n + 1 / len(valid)) / (4 / n)) ** 0.5
    return _difference(sketch(train), sketch(valid), scale), drawn


def far(apart: float, noise: float, least: float = APART) -> bool:
    """Whether parts are unlike, materially and beyond what drawing makes."""
    return apart >= least and apart >= NOISE * noise


def stretched(train: Tensor, valid: Tensor) -> bool:
    """Whether the deviations of most places differ by a factor that few examples tell already.

    The logarithm of a deviation of n examples has an error of 1 / sqrt(2 n), whatever the quantiles have.
    """
    one, two = (x.detach().reshape(len(x), -1).double().cpu().std(0) for x in (train, valid))
    both = (one > 0) & (two > 0)
    if not bool(both.any()):
        return False
    ratio = abs(float((two[both] / one[both]).log().median()))
    return ratio >= max(STRETCH, STRETCHED / (2 * min(len(train), len(valid))) ** 0.5)


def changes(train: Tensor, valid: Tensor) -> Iterator[Change]:
    """What brings `valid` nearer to `train`, simple things first."""
    apart, noise = unlike(train, valid)
    scale, wanted = _scale(train), sketch(train)

    def left(function: Callable[[Tensor], Tensor]) -> float:
        made = function(valid)
        return _difference(sketch(made), wanted, scale) if bool(torch.isfinite(made).all()) else float("inf")

    near = apart
    elsewhere = far(apart, noise) or (apart >= APART and stretched(train, valid))
    for kind, text, function in _scaled(train, valid) if elsewhere else ():
        now = left(function)
        # What bends the numbers has to do so much better than what does not.
        if now <= NEARER * (near if kind == "log" else apart):
            yield Change(kind, text, function, now)
        near = min(near, now)
    for kind, text, function in _ordered(train, valid, scale) if far(apart, noise, 0.0) else ():
        now = left(function)
        if now <= NEARER * apart:
            yield Change(kind, text, function, now)


_Offer = tuple[str, str, Callable[[Tensor], Tensor]]


def _scaled(train: Tensor, valid: Tensor) -> Iterator[_Offer]:
    """A scale and a shift for all, for every feature or channel, and those behind a logarithm."""
    a, b = _line(train, valid, None)
    yield "scale", f"x * {float(a):.3g} {'-' if b < 0 else '+'} {abs(float(b)):.3g}", _lined(a, b, valid)
    axes = _axes(train)
    for axis in axes:
        each = "feature" if train.dim() == 2 or axis == train.dim() - 1 else "channel"
        yield "scales", f"a scale and a shift for each {each}", _lined(*_line(train, valid, axis), valid)
    for text, function, fits in (
        ("log(x)", torch.log, valid.min() > 0), ("log(1 + x)", torch.log1p, valid.min() > -1),
        ("exp(x)", torch.exp, valid.max() < 80),
    ):  # fmt: skip
        if not bool(fits) or not axes:
            continue
        made = function(valid)
        if bool(torch.isfinite(made).all()):
            line = _lined(*_line(train, made, axes[0]), made)
            yield "log", f"{text}, with a scale and a shift", lambda x, f=function, line=line: line(f(x))


def _axes(x: Tensor) -> list[int]:
    """The axes whose places are features or channels."""
    if x.dim() == 2:
        return [1]
    if x.dim() == 3:
        return [axis for axis in (2, 1) if 1 < x.shape[axis] <= 512]
    if x.dim() < 2:
        return []
    last = x.shape[-1] <= CHANNELS < x.shape[1]
    return [x.dim() - 1 if last else 1]


def _line(train: Tensor, valid: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Scale and shift by which `valid` gets mean and deviation of `train`, along every axis but `axis`."""

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().double()
        rest = [each for each in range(x.dim()) if each != axis]
        return x.mean(rest, keepdim=True), x.std(rest, keepdim=True)

    (m, s), (mean, std) = moments(train), moments(valid)
    a = torch.where((std > 1e-9 * (1 + mean.abs())) & (s > 0), s / std.clamp_min(1e-300), 1.0)
    return a, m - a * mean


def _lined(a: Tensor, b: Tensor, like: Tensor) -> Callable[[Tensor], Tensor]:
    if a.numel() == 1:
        a, b = a.reshape(()), b.reshape(())
    a, b = a.to(like.device), b.to(like.device)
    return lambda x: (x.double() * a + b).to(x.dtype)


def _ordered(train: Tensor, valid: Tensor, scale: Tensor) -> Iterator[_Offer]:
    """Other orders of channels, columns and axes."""
    axes = _axes(train)
    if train.dim() >= 3 and axes and (count := train.shape[axes[-1]]) > 1:
        axis = axes[-1]
        usual = tuple(range(count))
        orders = list(itertools.permutations(usual)) if count <= CHANNELS else [usual[::-1]]
        for order in orders:
            if order != usual:
                yield "channels", f"its channels in the order {order}", _taken(axis, order)
    if train.dim() == 2 and 2 < train.shape[1] <= COLUMNS:
        order = _columns(train, valid, scale)
        if order != tuple(range(len(order))):
            yield "columns", f"its columns in the order {short(order)}", _taken(1, order)
    if train.dim() >= 3:
        yield from _turned(train)


def _taken(axis: int, order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.index_select(axis, torch.tensor(order, device=x.device))


def _columns(train: Tensor, valid: Tensor, scale: Tensor) -> tuple[int, ...]:
    """For each column of `train` the one of `valid` that is distributed as it is."""
    one, two = sketch(train), sketch(valid)
    cost = ((one[:, :, None] - two[:, None, :]) / scale[:, None]).square().mean(0)
    return assigned(cost)


def ordered(text: str, order: tuple[int, ...]) -> Change:
    """A table with its columns in another order; how unlike the parts are then is not asked."""
    return Change("columns", f"its columns in {text}", _taken(1, order), 0.0)


def short(order: tuple[int, ...]) -> str:
    """The order in words, its beginning where it is long."""
    return str(order) if len(order) <= 8 else f"({', '.join(map(str, order[:6]))}, ...)"


def _turned(train: Tensor) -> Iterator[_Offer]:
    """Pictures transposed, or upside down, or both."""
    last = train.dim() > 3 and train.shape[-1] <= CHANNELS < train.shape[1]
    rows, columns = (1, 2) if last else (train.dim() - 2, train.dim() - 1)
    flips: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("", ()),
        ("upside down", (rows,)),
        ("left to right", (columns,)),
        ("turned by 180°", (rows, columns)),
    )
    square = train.shape[rows] == train.shape[columns]
    for turn, (text, dims) in itertools.product((False, True) if square else (False,), flips):
        said = ", ".join(each for each in ("transposed" if turn else "", text) if each)
        if said:
            yield "axes", said, lambda x, t=turn, d=dims: _turn(x, (rows, columns), d, transpose=t)


def _turn(x: Tensor, axes: tuple[int, int], dims: tuple[int, ...], *, transpose: bool) -> Tensor:
    return (x.transpose(*axes) if transpose else x).flip(dims)
