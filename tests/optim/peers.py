"""Ours beside torch's: makers, parameters of odd layouts, gradients, and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core import names

Make = Callable[..., torch.optim.Optimizer]

SGD_FAMILY: dict[str, dict[str, Any]] = {
    "GD": {}, "SGD": {}, "Momentum": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9, "nesterov": True},
}  # fmt: skip
NAMES = [*SGD_FAMILY, "Adagrad", "RMSprop", "Adam", "AdamW"]
BACKENDS = ["reference", "eager", "native", None]
CASES = [(name, each) for name in NAMES for each in BACKENDS if (name, each) != ("RMSprop", "native")]


def ours(name: str, backend: str | None = None) -> Make:
    """Our class of that name on that backend."""
    return lambda params, **given: getattr(optim, name)(params, backend=backend, **given)


def theirs(name: str) -> Make:
    """Torch's optimizer for it, one tensor after another: the plainest code that torch has."""

    def make(params: Any, **given: Any) -> torch.optim.Optimizer:
        cls = torch.optim.SGD if name in SGD_FAMILY else getattr(torch.optim, name)
        return cls(params, foreach=False, **{**SGD_FAMILY.get(name, {}), **given})

    return make


def made(kind: str, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    """Parameters of a kind: their shapes and their places in memory."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    found = {
        "plain": lambda: [drawn(3, 4), drawn(17), drawn(5, 5)],
        "without dimensions": lambda: [drawn(), drawn(2)],
        "empty": lambda: [drawn(0, 3), drawn(4), drawn(0)],
        "transposed": lambda: [drawn(4, 3).t(), drawn(5, 20).t()],
        "channels last": lambda: [drawn(2, 3, 4, 4).to(memory_format=torch.channels_last)],
        "with gaps": lambda: [drawn(6, 8)[:, ::2]],
    }
    return [nn.Parameter(each) for each in found[kind]()]


def drawn_like(
    params: Iterable[Tensor], steps: int, layout: str = "same", seed: int = 1
) -> list[list[Tensor]]:
    """Gradients, step by step: laid out as their parameters, contiguous, or one number expanded."""
    generator = torch.Generator().manual_seed(seed)

    def one(p: Tensor) -> Tensor:
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        if layout == "expanded":
            return g.sum().expand(p.shape)
        return torch.empty_like(p).copy_(g).detach() if layout == "same" else g

    return [[one(p) for p in params] for _ in range(steps)]


def step(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], given: list[list[Tensor]]) -> None:
    """One step for each row of gradients; None leaves a parameter without."""
    for row in given:
        for p, g in zip(params, row, strict=True):
            p.grad = g
        optimizer.step()


def agree(first: Iterable[Tensor], second: Iterable[Tensor], tolerance: float = 1e-11) -> None:
    """Same values to float64's rounding."""
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def element_wise() -> list[str]:
    """Names of our classes, those aside whose rules look at whole matrices or at the loss twice."""
    found: list[str] = []
    for name in names.TABLE["optimizer"]:
        cls: Any = names.resolve("optimizer", name)
        if isinstance(cls, type) and issubclass(cls, optim.Optimizer):
            found.append(name)
    rows = {row.name: row.scope for row in optim.catalogue()}
    return [name for name in found if rows.get(name, "element") != "matrix"]
