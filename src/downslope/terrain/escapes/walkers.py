"""Many members of one method on one ground: their starts, their batches, and their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.terrain.escapes.sites.site import Site
from downslope.terrain.ground import Ground
from downslope.terrain.methods.method import Method


class Walkers(Protocol):
    """Members of one method."""

    lr: float

    @property
    def points(self) -> Tensor:
        """Where they are, shape (members, size), without a graph."""
        ...

    def step(self, rows: Tensor | None, walking: Tensor) -> None:
        """One step each, on its own examples, of those that still walk."""
        ...


def walkers(method: str, settings: Mapping[str, Any], site: Site, start: Tensor) -> Walkers:
    """The members of a method: all in one tensor where its rule acts element by element, else one by one.

    Args:
        method: Its name in the table.
        settings: Its hyper-parameters.
        site: What they walk on.
        start: Shape (members, size).

    Raises:
        RecipeError: a hyper-parameter outside its domain.
    """
    make: Any = names.resolve("optimizer", method)
    curved = issubclass(make, Method)
    probe = make([nn.Parameter(start[0].clone())], **settings)
    plain = not curved and all(make.compose(group).scope == "element" for group in probe.param_groups)
    return _Together(make, settings, site, start) if plain else _Apart(make, settings, site, start)


class _Together:
    def __init__(self, make: Any, settings: Mapping[str, Any], site: Site, start: Tensor) -> None:
        self._points = nn.Parameter(start.clone())
        self._optimizer: torch.optim.Optimizer = make([self._points], **settings)
        self._site = site
        self.lr = float(self._optimizer.param_groups[0]["lr"])

    @property
    def points(self) -> Tensor:
        return self._points.detach()

    def step(self, rows: Tensor | None, walking: Tensor) -> None:
        with torch.enable_grad():
            total = self._site.loss(self._points, rows).sum()
        (slope,) = torch.autograd.grad(total, [self._points])
        # What has left stands still, so that it cannot run to infinity while others walk on.
        self._points.grad = torch.where(walking[:, None], slope, 0.0)
        self._optimizer.step()


class _Apart:
    """An optimizer each: of methods that look at more than one element, and those that ask the ground."""

    def __init__(self, make: Any, settings: Mapping[str, Any], site: Site, start: Tensor) -> None:
        self._members = [nn.Parameter(each.clone()) for each in start]
        self._optimizers: list[Any] = [make([each], **settings) for each in self._members]
        self._site = site
        self.lr = float(self._optimizers[0].param_groups[0].get("lr", 1.0))

    @property
    def points(self) -> Tensor:
        return torch.stack([each.detach() for each in self._members])

    def step(self, rows: Tensor | None, walking: Tensor) -> None:
        for place, (point, optimizer) in enumerate(zip(self._members, self._optimizers, strict=True)):
            if not bool(walking[place]):
                continue
            own = None if rows is None else rows[place : place + 1]

            def loss(point: Tensor = point, own: Tensor | None = own) -> Tensor:
                return self._site.loss(point[None], own).sum()

            if isinstance(optimizer, Method):
                optimizer.step(Ground.of_closure(loss, [point]))
                continue

            def slope(point: Tensor = point, loss: Callable[[], Tensor] = loss) -> Tensor:
                with torch.enable_grad():
                    value = loss()
                    (point.grad,) = torch.autograd.grad(value, [point])
                return value

            slope()
            optimizer.step(*[slope] if getattr(optimizer, "needs_closure", False) else [])


class Batches:
    """Starts and batches of the members, each from its own seed.

    Args:
        site: Where.
        seeds: One a member.
        spread: Standard deviation of a start around the point.
        batch_size: Examples in a batch, each once an epoch; what is left over at its end is passed over.

    Attributes:
        start: Shape (members, size).
        size: Examples in a batch.
    """

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
