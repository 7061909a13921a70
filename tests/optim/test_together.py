"""Small tensors that are stepped as one move as each does by itself, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.optim import layout
from downslope.optim.rule import Chain, Rule, Scalars, Stateless, chain
from downslope.optim.scale import ScaleByLr

ROWS = {row.name: row for row in optim.catalogue()}
JOINED = (
    "adabelief", "adadelta", "adamax", "adan", "ademamix", "lion", "nadam", "radam", "schedule_free_adamw",
    "schedule_free_sgd", "signum",
)  # fmt: skip


def params(dtype: torch.dtype) -> list[nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (0, 2), (2, 3, 2, 2)]
    made = [nn.Parameter(torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)) for shape in shapes]
    made[4].data = made[4].data.to(memory_format=torch.channels_last)
    return [*made, nn.Parameter(torch.randn(4, 3, generator=g).to(dtype).t())]


def run(optimizers: list[Any], own: list[nn.Parameter]) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    for t in range(5):
        for i, p in enumerate(own):
            made = torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)
            p.grad = None if (t, i) == (3, 1) else made
        for optimizer in optimizers:
            optimizer.step()
    states = [each.state[p] for each in optimizers for p in each.param_groups[0]["params"]]
    return [*own, *(state[key] for state in states for key in sorted(state))]


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
def test_many_step_as_each_alone(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    step = layout.step_together

    def counted(*args: Any, maximize: bool) -> None:
        calls.append(len(args[2]))
        step(*args, maximize=maximize)

    monkeypatch.setattr(layout, "step_together", counted)
    settings = {"lr": 0.1, "maximize": True, "backend": "eager"}
    if dtype == torch.bfloat16:
        settings["rounding"] = "master"
    alone, joint = params(dtype), params(dtype)
    expected = run([ROWS[name].cls([p], **settings) for p in alone], alone)
    assert not calls
    found = run([ROWS[name].cls(joint, **settings)], joint)
    assert max(calls) == len(joint)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)


@dataclass(frozen=True, kw_only=True)
class ScaleByLargest(Rule[Stateless]):
    """Of scope "element", as it says, and it is not."""

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g / g.abs().max(), state


class Largest(optim.Optimizer):
    """A class of one's own, whose rule nobody looks at, as `Custom` does."""

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(ScaleByLargest(), ScaleByLr(lr=settings["lr"]))


def test_a_rule_that_sees_its_whole_tensor_is_not_joined() -> None:
    own = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    optimizer = Largest(own, {"lr": 1.0})
    for i, p in enumerate(own, 1):
        p.grad = torch.full_like(p, float(i))
    optimizer.step()
    assert [p.tolist() for p in own] == [[-1.0] * 3, [-1.0] * 2]


def test_large_tensors_are_stepped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "step_together", None)
    own = [nn.Parameter(torch.ones(20_000)), nn.Parameter(torch.ones(10))]
    optimizer = optim.Lion(own, lr=0.5, backend="eager")
    for p in own:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(bool((p == 0.5).all()) for p in own)
