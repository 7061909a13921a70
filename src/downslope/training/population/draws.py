"""Dropout of a population: for each member the mask that it draws at `fit`'s own addresses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import randomness
from downslope.training.stochastic import RANDOM_MODULES

DIMS: dict[type[nn.Module], int] = {nn.Dropout1d: 3, nn.Dropout2d: 4, nn.Dropout3d: 5}
"""Dimensions of the inputs of which whole channels are dropped."""

Act = Callable[[Tensor], Tensor]
"""What a draw does to the inputs of all members, shape (M, ...)."""


class AllAtOnce(torch.autograd.Function):
    """Under `torch.func.vmap`: an operation that sees the members side by side, members first.

    ``AllAtOnce.apply(x, anchor, act)``; `anchor` is batched, so that an `x` which all members share still
    comes here. What `act` does is differentiated as it stands, outside of the vmap.
    """

    @staticmethod
    def forward(x: Tensor, anchor: Tensor, act: Act) -> Tensor:
        """Never called: there is a rule for vmap."""
        raise NotImplementedError("a draw of members, outside of vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride] (torch hands over what `apply` was given)
        info: Any, in_dims: Any, x: Tensor, anchor: Tensor, act: Act
    ) -> tuple[Tensor, int]:
        """`act` on the members' inputs."""
        del anchor
        if in_dims[0] is None:
            return act(x.unsqueeze(0).expand(info.batch_size, *x.shape)), 0
        return act(x.movedim(in_dims[0], 0)), 0


class Draws:
    """Takes the place of the random modules of a template.

    Args:
        template: In which they are replaced.
        models: The members' own, in order, whose modules hold the rates.
        seeds: Of the members.

    Attributes:
        anchor: One number a member, batched, as the forward pass is handed it.
    """

    def __init__(self, template: nn.Module, models: Sequence[nn.Module], seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        self.step = 0
        self.anchor: Tensor | None = None
        self._own = [_random(model) for model in models]
        self._calls: dict[tuple[int, int], int] = {}
        self._generator = torch.Generator()
        for index, module in enumerate(_random(template)):
            cast("Any", module).forward = self._forward(index, module)

    def at(self, step: int) -> None:
        """Stand at the start of `step`."""
        self.step = step
        self._calls.clear()

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`."""
        self.seeds = [self.seeds[i] for i in rows]
        self._own = [self._own[i] for i in rows]

    def _forward(self, index: int, module: nn.Module) -> Act:
        def forward(x: Tensor) -> Tensor:
            if not module.training:
                return x
            act: Act = functools.partial(self.drawn, index)
            return cast("Tensor", AllAtOnce.apply(x, self.anchor, act))

        return forward

    def drawn(self, index: int, x: Tensor) -> Tensor:
        """What the random module at `index` makes of the inputs of all members, shape (M, ...)."""
        own = [modules[index] for modules in self._own]
        kind = type(own[0])
        quick = kind is nn.Dropout or DIMS.get(kind) == x.dim() - 1
        if not quick or x.device.type != "cpu":
            return self._one_by_one(index, own, x)
        noise = _like(x) if kind is nn.Dropout else x.new_empty((*x.shape[:3], *[1] * (x.dim() - 3)))
        for i, module in enumerate(own):
            p = float(cast("Any", module).p)
            if p == 0.0:
                noise[i] = 1.0
                continue
            self._generator.manual_seed(self._address(index, i))
            noise[i].bernoulli_(1 - p, generator=self._generator)
            if p < 1.0:
                noise[i].div_(1 - p)
        return x * noise

    def _one_by_one(self, index: int, own: Sequence[nn.Module], x: Tensor) -> Tensor:
        """The members' own modules, each at its address."""
        made: list[Tensor] = []
        for i, module in enumerate(own):
            if getattr(module, "p", 1.0):
                place = self._address(index, i)
                torch.default_generator.manual_seed(place)
                if x.device.type == "cuda":
                    torch.cuda.manual_seed(place)
            made.append(module.train()(x[i]))
        return torch.stack(made)

    def _address(self, index: int, member: int) -> int:
        call = self._calls.get((index, member), 0)
        self._calls[index, member] = call + 1
        return randomness.address(self.seeds[member], "module", self.step, index, call)


def _like(x: Tensor) -> Tensor:
    """Room for the masks of all members, each in the order in memory that torch gives one of `x` alone."""
    one = torch.empty_like(x[0])
    return torch.empty_strided(x.shape, (one.numel(), *one.stride()), dtype=x.dtype)


def _random(model: nn.Module) -> list[nn.Module]:
    return [each for each in model.modules() if isinstance(each, RANDOM_MODULES)]
