"""Randomness inside the step, by address: the same dropout mask for the same seed, step, module and call."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from downslope.core import randomness

RANDOM_MODULES: tuple[type[nn.Module], ...] = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU,
)  # fmt: skip


class StepRandomness:
    """Puts torch's global generators at the address of a step, and of each dropout module within it.

    Functional dropout takes what the step's address gives, in the order of the calls. The generators'
    former states come back on leaving.

    Args:
        model: Its dropout modules get an address of their own.
        seed: The run's seed.
    """

    def __init__(self, model: nn.Module, seed: int) -> None:
        self.seed = seed
        self.step = self.part = 0
        self._calls: dict[int, int] = {}
        self._handles: list[RemovableHandle] = []
        self._random = [each for each in model.modules() if isinstance(each, RANDOM_MODULES)]
        self._cuda = torch.cuda.is_available()

    def __enter__(self) -> Self:
        self._restore = randomness.seeded(self.seed, "step", 0)
        self._restore.__enter__()
        for index, module in enumerate(self._random):
            hook = self._reseed(index)
            self._handles.append(module.register_forward_pre_hook(hook))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._restore.__exit__(kind, error, trace)

    def at(self, step: int, part: int = 0) -> None:
        """Stand at the start of `step`, or of a part of its batch that is looked at by itself."""
        self.step, self.part = step, part
        if self._random:
            self._calls.clear()
        self._seed(randomness.address(self.seed, "step", step, *self._parts))

    @property
    def _parts(self) -> tuple[int, ...]:
        return (self.part,) if self.part else ()

    def _seed(self, address: int) -> None:
        torch.default_generator.manual_seed(address)
        if self._cuda:
            torch.cuda.manual_seed(address)

    def _reseed(self, index: int) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            del args
            if module.training and getattr(module, "p", 1.0):
                call = self._calls.get(index, 0)
                self._calls[index] = call + 1
                place = (self.step, index, call, *self._parts)
                self._seed(randomness.address(self.seed, "module", *place))

        return hook
